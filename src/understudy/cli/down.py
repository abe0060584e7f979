"""`understudy down`: end labs."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from typing import Annotated

import typer

from understudy.cli.output import Json, print_json


def command(
    name: Annotated[str | None, typer.Option(help="Which lab; not needed where one runs.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: Json = False,
) -> None:
    """End a lab. Its logs stay until `clean`; its data too where it was started with --persist.

    \b
    Examples:
      understudy down
      understudy down --name ha
      understudy down --all
    """
    from understudy.lab.named import down, left_over, only_one

    if name is None:
        candidates = left_over()
        chosen = candidates if every else [one for one in [only_one("ending a lab", candidates)] if one]
    else:
        chosen = [name]
    ended = [{"name": one, "ran": down(one)} for one in chosen]
    if as_json:
        print_json(ended)
        return
    for one in ended:
        print(f"The lab {one['name']} is down." if one["ran"] else f"The lab {one['name']} was not running.")
    if not ended:
        print("No lab is running.")
