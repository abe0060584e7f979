"""`understudy fault`: break something of a running lab, and mend it again."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from understudy.lab.live import Lab


def command(
    kind: Annotated[str | None, typer.Argument(help="What goes wrong; without it, all kinds are listed.")] = None,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NODE]…",
            help="Names, ports, or words: primary, replica:2, shard:1, one, majority, all-primaries, all.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Which lab; not needed where one runs.")] = None,
    duration: Annotated[str, typer.Option("--for", help="Undo it after so long: 500ms, 10s, 2m.")] = "10s",
    keep: Annotated[bool, typer.Option("--keep", help="Leave it in place and return at once.")] = False,
    params: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the fault; repeatable.")
    ] = None,
    every: Annotated[bool, typer.Option("--list", help="List all kinds, and nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Let a fault of this KIND happen to nodes of a running lab, undo it after a while, wait until all is whole.

    Ctrl-C undoes it at once. `understudy fault` alone lists the kinds.

    \b
    Examples:
      understudy fault kill
      understudy fault slow primary:2 --set ms=250 --for 30s
      understudy fault replace all --set at_once=true
      understudy fault pause sentinel-1 --keep
    """
    from understudy.cli.options import duration_s

    if kind is None or every:
        _list(as_json)
        return
    for_s = duration_s(duration)

    from understudy.drill.faults import find_fault
    from understudy.drill.inject import inject, on_named, plan

    find_fault(kind)

    def tell(text: str) -> None:
        print(f"{text[0].upper()}{text[1:]}.", file=sys.stderr)

    outcome: dict[str, Any] = {}

    def act(lab: Lab) -> str:
        what = plan(lab, kind, nodes or (), params or (), keep=keep)
        did = inject(what, for_s, tell)
        names = [node.name for node in what.nodes]
        outcome.update(
            lab=lab.name,
            fault=kind,
            nodes=names,
            params=what.params,
            did=did,
            kept=keep,
            mend=what.mend if keep else "",
        )
        return did

    on_named(name, f"choosing a lab for the fault {kind}", act)
    if as_json:
        print_json(outcome)
    elif keep:
        print(f"{kind} is left in place. {outcome['mend']}".rstrip())
    else:
        print(f"The lab {outcome['lab']} is whole again.")


def _list(as_json: bool) -> None:
    from understudy.drill.faults import FAULTS, written

    faults = list(FAULTS.values())
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "about": one.about,
                    "nodes": one.nodes,
                    "layouts": sorted(one.layouts),
                    "params": dict(one.defaults),
                }
                for one in faults
            ]
        )
        return
    rows = [
        (
            one.name,
            one.nodes,
            ", ".join(f"{key}={written(value)}" for key, value in one.defaults.items()) or "-",
            "all" if len(one.layouts) == 4 else ", ".join(sorted(one.layouts)),
            one.about,
        )
        for one in faults
    ]
    print_table(("KIND", "NODES", "PARAMETERS", "LAYOUTS", "WHAT"), rows)
