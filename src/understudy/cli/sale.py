"""`understudy drill sale`: what belongs to this scenario alone."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from understudy import installed
from understudy.cli.output import print_json, print_table
from understudy.errors import UsageError, VerdictError

if TYPE_CHECKING:
    from understudy.sale.findings import SaleReport

NAME = "sale"
ABOUT = "A sale of 500 seats to 5,000 buyers through the waiting room, while primaries and a gateway fail."


def refuse_others(**options: object) -> None:
    """Refuse options that are no sale's."""
    for name, value in options.items():
        if value is not None and value != []:
            raise UsageError("running a sale", f"--{name.replace('_', '-')} is not for sales", "understudy drill -h")


def refuse_without(scenario: str | None, options: Mapping[str, object]) -> None:
    """Refuse a sale's options where there is none."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"running the drill {scenario or ''}".strip(), f"--{name} is for sales only", "understudy drill sale"
            )


def refuse_unwritable(*files: Path | None) -> None:
    """Refuse before a drill what would only be found after it."""
    for file in files:
        if file is not None and (file.is_dir() or not os.access(file.absolute().parent, os.W_OK | os.X_OK)):
            raise UsageError(
                f"writing {file}", "its directory is not there or not writable, or it is one itself", "Another file."
            )


def run(
    options: Mapping[str, str | int | None], *, faults: list[str] | None, hold: str | None, max_lost: int | None,
    max_downtime: str | None, runs: int, seed: int, json_file: Path | None, html_file: Path | None,
    history: Path | None, check: list[Path] | None,
) -> None:  # fmt: skip
    """Run sales, or judge those that were kept."""
    try:
        from understudy.drill.kept import folder_for
        from understudy.sale import conduct
        from understudy.sale.findings import Allowed
        from understudy.sale.plan import plan_for
        from understudy.waitingroom import tokens  # noqa: F401 - the gateways need it
    except ImportError as error:
        raise installed.missing_extra("running a sale", error, "drill,waitingroom") from error
    from understudy import progress
    from understudy.cli.options import duration_s

    silent = str(json_file) == "-"
    if str(html_file) == "-":
        raise UsageError("writing the page", "it goes to a file", "--html sale.html")
    refuse_unwritable(None if silent else json_file, html_file)
    allowed = Allowed(max_lost, duration_s(max_downtime) if max_downtime else None)
    typed = shlex.join(["understudy", *sys.argv[1:]])
    if check:
        _tell(conduct.judge_again(check, allowed, typed), json_file, html_file)
        return
    asked = {name: value for name, value in options.items() if value is not None}
    others = {"hold_fault_s": duration_s(hold)} if hold else {}
    plan = plan_for(faults=faults or (), seed=seed, **asked, **others)  # type: ignore[arg-type]
    folder = history or folder_for(NAME)
    report = conduct.conduct(plan, allowed, folder, progress.for_terminal(quiet=silent), runs=runs, command=typed)
    _tell(report, json_file, html_file, folder)


def _tell(report: SaleReport, json_file: Path | None, html_file: Path | None, folder: Path | None = None) -> None:
    from understudy.pages.page import write
    from understudy.sale import summary
    from understudy.sale.report import report_page

    silent = str(json_file) == "-"
    if silent:
        print_json(summary.as_data(report))
    else:
        print_table([one.upper() for one in summary.HEADER], summary.rows(report), right=[
            one.upper() for one in summary.RIGHT
        ])  # fmt: skip
        print()
        for line in summary.lines(report):
            print(line)
    out = sys.stderr if silent else sys.stdout
    if folder is not None:
        from understudy.drill.kept import stays

        print(f"Records: {folder}\n{stays(folder)}", file=out)
    if json_file is not None and not silent:
        write(json_file, json.dumps(summary.as_data(report), indent=2, ensure_ascii=False) + "\n")
        print(f"Findings: {json_file}", file=out)
    if html_file is not None:
        write(html_file, report_page(report))
        print(f"Page: {html_file}", file=out)
    if report.verdict.word != "passed":
        raise VerdictError(
            "judging the sale", f"the verdict is {report.verdict.word}",
            "--html FILE shows when what happened; --history keeps every request.",
        )  # fmt: skip
