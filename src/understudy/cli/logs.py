"""`understudy logs`: what the servers wrote."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from typing import Annotated

import typer


def command(
    node: Annotated[str | None, typer.Argument(help="A node's name or port; all nodes unless given.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now.")] = False,
    name: Annotated[str | None, typer.Option(help="Which lab; not needed where there is one.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="So many last lines of each log.")] = 20,
) -> None:
    """Show the logs of a lab's servers; the log `lab` tells what understudy itself did.

    \b
    Examples:
      understudy logs
      understudy logs node-1 -f
      understudy logs lab --name ha -n 100
    """
    from understudy.lab import logs, state
    from understudy.lab.named import here_or_adopted, only_one, running

    if name is None:
        names = [lab.name for lab in running()] or state.names() or [lab.name for lab in here_or_adopted()]
        name = only_one("reading logs", names) or "cluster"
    with logs.collected(name, node, lines=lines, follow=follow) as files:
        width = 0 if node else max(len(file.stem) for file in files)
        begun = logs.follow(files) if follow else iter(())
        for line in logs.last(files, lines):
            _print(line, width)
        for line in begun:
            _print(line, width)


def _print(line: tuple[str, str], width: int) -> None:
    node, text = line
    print(f"{node.ljust(width)} | {text}" if width else text, flush=True)
