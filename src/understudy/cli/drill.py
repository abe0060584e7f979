"""`understudy drill`: break a real topology under a real workload, and tell what it cost."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy import installed
from understudy.cli import sale
from understudy.cli.output import errors_as_data, print_json, print_table
from understudy.errors import UsageError, VerdictError

if TYPE_CHECKING:
    from understudy.drill.findings import DrillReport
    from understudy.drill.scenario import Scenario
    from understudy.lab import Lab


def command(
    scenario: Annotated[str | None, typer.Argument(help="A scenario's name, or the path of your own .toml.")] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List the scenarios, and the clients that have a name.")
    ] = False,
    fault: Annotated[
        list[str] | None, typer.Option(help="Another fault; `understudy fault --list` has them. In a sale repeatable.")
    ] = None,
    nodes: Annotated[list[str] | None, typer.Option(help="On which nodes, in words; repeatable.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the fault: key=value.")] = None,
    hold: Annotated[str | None, typer.Option(help="Undo the fault after this long, such as 8s.")] = None,
    client: Annotated[list[str] | None, typer.Option(help="Put this client under test; repeatable.")] = None,
    rate: Annotated[float | None, typer.Option(help="Operations a second, for each client.")] = None,
    after: Annotated[str | None, typer.Option(help="Go on for so long after the fault, such as 20s.")] = None,
    max_downtime: Annotated[
        str | None, typer.Option(help="The longest a shard may be without a success: 5s, 800ms.")
    ] = None,
    max_lost: Annotated[int | None, typer.Option(min=0, help="So many acknowledged writes may be lost.")] = None,
    max_stale: Annotated[int | None, typer.Option(min=0, help="So many reads may be stale.")] = None,
    max_doubled: Annotated[int | None, typer.Option(min=0, help="So many effects may stand there twice.")] = None,
    max_drift: Annotated[
        str | None, typer.Option(help="How late our own operations may begin before the verdict is unknown; 250ms.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Repeat it, and tell least, median and most.")] = 1,
    name: Annotated[
        str | None, typer.Option(help="Use this running lab, of processes or containers, instead of one of its own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="What is drawn by lot is drawn the same again.")] = 0,
    layout: Annotated[str | None, typer.Option(help="Sale: standalone, sentinel, cluster or enterprise.")] = None,
    buyers: Annotated[int | None, typer.Option(min=1, max=100_000, help="Sale: so many buyers.")] = None,
    seats: Annotated[int | None, typer.Option(min=1, max=100_000, help="Sale: so many seats.")] = None,
    replicas: Annotated[
        int | None, typer.Option(min=0, max=10, help="Sale: so many replicas acknowledge; all unless given.")
    ] = None,
    gateways: Annotated[int | None, typer.Option(min=1, max=16, help="Sale: so many gateways.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings as JSON; - for stdout.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with the timeline.")] = None,
    history: Annotated[Path | None, typer.Option(help="Keep the histories in this directory.")] = None,
    check: Annotated[list[Path] | None, typer.Option(help="Judge this history again; repeatable.")] = None,
) -> None:
    """Break a real stack under load; tell the downtime, what was lost, and whether the client came back.

    The stack is started for this on free ports and is gone afterwards. Exits with 15 where the verdict is not passed.

    \b
    Examples:
      understudy drill cluster
      understudy drill cluster --fault pause --hold 8s --max-downtime 5s --max-lost 0 --html report.html
      understudy drill ha --client recommended --client valkey-py/defaults --runs 5 --json findings.json
      understudy drill --check cluster.history.gz --max-lost 0
      understudy drill ha --name ha
      understudy drill sale --layout sentinel --fault kill --fault partition --html sale.html
    """
    silent = str(json_file) == "-"
    if silent:
        errors_as_data()
    of_a_sale = {"layout": layout, "buyers": buyers, "seats": seats, "replicas": replicas, "gateways": gateways}
    if scenario == sale.NAME:
        sale.refuse_others(
            nodes=nodes, set=settings, client=client, rate=rate, after=after, max_stale=max_stale,
            max_doubled=max_doubled, max_drift=max_drift, name=name,
        )  # fmt: skip
        sale.run(
            of_a_sale, faults=fault, hold=hold, max_lost=max_lost, max_downtime=max_downtime, runs=runs, seed=seed,
            json_file=json_file, html_file=html_file, history=history, check=check,
        )  # fmt: skip
        return
    sale.refuse_without(scenario, of_a_sale)
    if fault and len(fault) > 1:
        raise UsageError("running a drill", "it has one fault", "understudy drill sale --fault kill --fault pause")
    about_a_run = _given(scenario, fault, nodes, settings, hold, client, rate, after, name, history)
    limited = _given(check, json_file, html_file, max_downtime, max_lost, max_stale, max_doubled, max_drift)
    if listing or not (about_a_run or limited):
        _list()
        return
    if scenario is None and not check:
        raise UsageError("running a drill", "no scenario is named", "understudy drill --list names them.")
    if check and (about_a_run or runs != 1):
        raise UsageError(
            "judging a history again", "that takes limits only, not what to run", "understudy drill --check FILE"
        )
    try:
        from understudy.drill import conduct, kept
        from understudy.drill.report import report_page
    except ImportError as error:
        raise installed.missing_extra("running a drill", error, "drill") from error
    from understudy import progress
    from understudy.cli.options import duration_s

    limits = {
        "max_downtime_s": duration_s(max_downtime) if max_downtime else None,
        "max_lost": max_lost, "max_stale": max_stale, "max_doubled": max_doubled,
        "max_drift_ms": duration_s(max_drift) * 1000 if max_drift else None,
    }  # fmt: skip
    typed = shlex.join(["understudy", *sys.argv[1:]])
    if str(html_file) == "-":
        raise UsageError("writing the page", "it goes to a file", "--html report.html")
    sale.refuse_unwritable(None if silent else json_file, html_file)
    if check:
        _tell(conduct.judge_again(check, limits, typed), report_page, json_file, html_file)
        return
    overrides = _overrides(fault[0] if fault else None, nodes, settings, hold, client, rate, after)
    plan = _scenario(str(scenario), overrides, limits)
    teller = progress.for_terminal(quiet=silent)

    def conducted(place: Lab | None = None) -> tuple[DrillReport, Path]:
        if place is not None:
            _refuse_other_layout(plan, place.layout, str(name))
        folder = history or kept.folder_for(plan.name)
        report = conduct.conduct(plan, folder, teller, runs=runs, seed=seed, place=place, command=typed)
        return report, folder

    if name is None:
        report, folder = conducted()
    else:
        from understudy.drill.inject import on_named

        report, folder = on_named(name, f"running the drill {plan.name}", conducted)
    _tell(report, report_page, json_file, html_file, folder)


def _given(*options: object) -> bool:
    return any(one is not None and one != [] for one in options)


def _scenario(name: str, overrides: dict[str, Any], limits: dict[str, Any]) -> Scenario:
    from understudy.cli.options import settings_from
    from understudy.drill.scenario import load

    budget = {key: value for key, value in limits.items() if value is not None}
    own = settings_from().drill_client
    return load(name, {**overrides, **({"client": own} if own else {}), "budget": budget})


def _overrides(
    fault: str | None, nodes: list[str] | None, settings: list[str] | None, hold: str | None,
    client: list[str] | None, rate: float | None, after: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Return what was typed in the shape of a scenario."""
    from understudy.cli.options import duration_s

    broken = {
        "kind": fault, "nodes": nodes, "hold_s": duration_s(hold) if hold else None,
        "set": dict(map(_setting, settings or [])) or None,
    }  # fmt: skip
    load = {"rate": rate, "after_s": duration_s(after) if after else None}
    asked: dict[str, Any] = {
        "fault": {key: value for key, value in broken.items() if value is not None},
        "workload": {key: value for key, value in load.items() if value is not None},
    }
    if client:
        asked |= {"clients": client, "judge": client}
    return {key: value for key, value in asked.items() if value}


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"reading --set {text!r}", "it is not name=value", "`understudy fault --list` has the names.")
    return name, value


def _refuse_other_layout(plan: Scenario, layout: str, name: str) -> None:
    for leg in plan.legs:
        if leg.layout != layout:
            raise UsageError(
                f"running the drill {plan.name} in the lab {name}",
                f"it wants the layout {leg.layout}, this is {layout}",
                "Leave --name out: the drill starts a lab of its own.",
            )  # fmt: skip


def _tell(
    report: DrillReport, page: Callable[[DrillReport], str], json_file: Path | None, html_file: Path | None,
    folder: Path | None = None,
) -> None:  # fmt: skip
    from understudy.drill.kept import stays
    from understudy.drill.summary import as_data, summarize
    from understudy.pages.page import write

    silent = str(json_file) == "-"
    if silent:
        print_json(as_data(report))
    else:
        summary = summarize(report)
        print_table(
            [name.upper() for name in summary.header], summary.rows, right=[one.upper() for one in summary.right]
        )
        print()
        for line in summary.lines:
            print(line)
    out = sys.stderr if silent else sys.stdout
    if folder is not None:  # first: what cannot be written below can be made of them
        print(f"Histories: {folder}\n{stays(folder)}", file=out)
    if json_file is not None and not silent:
        write(json_file, json.dumps(as_data(report), indent=2, ensure_ascii=False) + "\n")
        print(f"Findings: {json_file}", file=out)
    if html_file is not None:
        write(html_file, page(report))
        print(f"Page: {html_file}", file=out)
    if report.verdict.word != "passed":
        raise VerdictError(
            f"judging the drill {report.scenario}", f"the verdict is {report.verdict.word}",
            "--html FILE shows when what happened; --max-downtime and --max-lost say what is allowed."
            if report.verdict.word == "failed" else
            "Again, with what was not known mended: on a busy machine with fewer others, or with --max-drift.",
        )  # fmt: skip


def _list() -> None:
    from understudy.drill import scenario
    from understudy.drill.clients import BASES, LIBRARIES

    about = [(name, scenario.load(name).about) for name in scenario.names()]
    print_table(("SCENARIO", "WHAT IT DOES"), [*about, (sale.NAME, sale.ABOUT)])
    print()
    print_table(("CLIENT", "WHAT IT IS"), list(BASES.items()))
    others = ", ".join(f"{one}/defaults" for one in LIBRARIES)
    print(f"\nA client is one of redis-py unless its library is named: {others}.")
    print("Your own scenarios and clients: see docs/drills.md.")
