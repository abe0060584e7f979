"""`understudy clean`: remove what labs left behind."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from typing import Annotated

import typer

from understudy.cli.output import Json, print_json


def command(
    name: Annotated[str | None, typer.Option(help="Which lab; not needed where there is one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    force: Annotated[bool, typer.Option("--force", help="A running lab too: it is ended first.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the data and the logs of labs that do not run. Histories of drills stay: --all says where they are.

    \b
    Examples:
      understudy clean
      understudy clean --all
      understudy clean --name ha --force
    """
    from understudy.drill.kept import kept
    from understudy.lab import state
    from understudy.lab.named import clean, only_one

    if name is None:
        names = state.names()
        chosen = names if every else [one for one in [only_one("cleaning a lab", names)] if one]
    else:
        chosen = [name]
    for one in chosen:
        clean(one, force=force)
    if as_json:
        print_json([{"name": one} for one in chosen])
        return
    print(f"Removed: {', '.join(chosen)}." if chosen else "Nothing to remove.")
    if every and (left := kept()).drills:
        print(f"Histories stay, and nothing needs them: {left}.")
