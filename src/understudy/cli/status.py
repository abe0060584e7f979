"""`understudy status`: what runs, and how it is."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from understudy.lab.status import LabStatus

_HEADER = ("NODE", "STATE", "ROLE", "ADDRESS", "OF", "SLOTS", "KEYS", "MEMORY")
_NUMBERS = ("SLOTS", "KEYS", "MEMORY", "PID")


def command(
    name: Annotated[str | None, typer.Option(help="This lab only.")] = None,
    as_json: Json = False,
) -> None:
    """Show the labs of this machine: nodes, roles, slots, keys, memory.

    Containers that a compose file started are shown too, by their lab's name, or where no other lab is there.

    \b
    Examples:
      understudy status
      understudy status --name cluster --json
    """
    from understudy.lab.named import find
    from understudy.lab.status import every, status_of

    found = [status_of(find(name))] if name else every()
    if as_json:
        print_json([one.as_data() for one in found])
        return
    if not found:
        print("No lab is running. Start one: understudy up cluster")
    for i, one in enumerate(found):
        if i:
            print()
        _print(one)


def _print(lab: LabStatus) -> None:
    from understudy.pages.figures import size

    boxed = lab.runs_as != "processes"
    words = (("tls", lab.tls), ("persist", lab.persist), ("in containers", boxed))
    extras = [word for word, on in words if on]
    print(f"{lab.name}: {', '.join([lab.layout, *extras])}, {lab.state}")
    rows = [
        (
            node.name,
            node.state,
            node.role,
            node.address,
            node.primary or "-",
            _number(node.slots),
            _number(node.keys),
            "-" if node.memory_bytes is None else size(node.memory_bytes),
            (node.container or "-") if boxed else _number(node.pid),
        )
        for node in lab.nodes
    ]
    if rows:
        print_table((*_HEADER, "CONTAINER" if boxed else "PID"), rows, right=_NUMBERS)
    if lab.runs_as == "adopted" and lab.state != "running":
        dead = " ".join(node.container or node.name for node in lab.nodes if node.state == "dead")
        paused = " ".join(node.container or node.name for node in lab.nodes if node.state == "paused")
        commands = [f"`docker {word} {names}`" for word, names in (("start", dead), ("unpause", paused)) if names]
        if commands:
            print(f"{' and '.join(commands)} brings back what is down.")
    elif lab.state == "degraded":
        print(f"`understudy up {lab.layout}` with the same options starts again what died.")


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
