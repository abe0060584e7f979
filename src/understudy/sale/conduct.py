"""Conduct sales: as often as asked, each with its record kept; or judge records again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from understudy.drill.findings import Verdict
from understudy.errors import UnreachableError
from understudy.progress import Progress
from understudy.sale import record
from understudy.sale.findings import Allowed, SaleFindings, SaleReport
from understudy.sale.measure import measure
from understudy.sale.plan import SalePlan
from understudy.sale.record import Sale
from understudy.sale.run import run
from understudy.sale.verdict import all_of, judge

SUFFIX = ".sale.gz"
Judged = tuple[SaleFindings, Verdict]


def conduct(
    plan: SalePlan, allowed: Allowed, folder: Path, progress: Progress, *, runs: int = 1, command: str = ""
) -> SaleReport:
    """Run a sale `runs` times, each with the next seed and another fault first; each leaves its record in `folder`.

    Raises:
        UnderstudyError: the lab or a gateway did not start.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    judged: list[Judged] = []
    servers: list[str] = []
    for number in range(runs):
        name = f"{number + 1}" if runs > 1 else ""
        if runs > 1:
            progress.say(f"sale {number + 1} of {runs} on {plan.layout}")
        first = number % max(1, len(plan.faults))
        faults = plan.faults[first:] + plan.faults[:first]
        sale = run(replace(plan, seed=plan.seed + number, faults=faults), progress)
        sale.header["when"], sale.header["allowed"] = when, [allowed.max_lost, allowed.max_downtime_s]
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            record.write(_unused(folder, "-".join(filter(None, (plan.layout, name)))), sale)
        except (UnreachableError, OSError) as error:
            sale.header["notes"].append(str(error))  # what was found is worth being told without it
        judged.append(_judged(sale, allowed, name))
        servers.append(str(sale.header["servers"]))
        if runs > 1:
            progress.say(f"sale {number + 1}: {judged[-1][1].word}")
    return _report(when, servers, command, allowed, judged)


def judge_again(paths: Sequence[Path], allowed: Allowed, command: str = "") -> SaleReport:
    """Judge sales that were kept; by what was allowed then, and these limits.

    Raises:
        NotFoundError, IntegrityError: a file is not there, or is no record of a sale.
    """
    judged, servers, when = [], [], []
    for path in paths:
        sale = record.read(path)
        lost, downtime_s = sale.header["allowed"]
        allowed = Allowed(
            lost if allowed.max_lost is None else allowed.max_lost,
            downtime_s if allowed.max_downtime_s is None else allowed.max_downtime_s,
        )
        judged.append(_judged(sale, allowed, path.name.removesuffix(SUFFIX) if len(paths) > 1 else ""))
        servers.append(str(sale.header["servers"]))
        when.append(str(sale.header["when"]))
    return _report(min(when), servers, command, allowed, judged)


def _judged(sale: Sale, allowed: Allowed, name: str) -> Judged:
    found = measure(sale, name)
    return found, judge(found, allowed)


def _report(when: str, servers: Sequence[str], command: str, allowed: Allowed, judged: Sequence[Judged]) -> SaleReport:
    found = judged[0][0]
    about = (
        f"A sale of {found.tally.seats:,} seats to {found.tally.buyers:,} buyers on {found.layout}, while this goes "
        f"wrong: {', '.join(found.faults) or 'nothing'}."
    )
    return SaleReport(
        about, when, ", ".join(dict.fromkeys(servers)), command, allowed, all_of(judged), tuple(judged)
    )  # fmt: skip


def _unused(folder: Path, name: str) -> Path:
    paths = (folder / f"{name}{f'-{number}' if number else ''}{SUFFIX}" for number in range(10_000))
    return next(path for path in paths if not path.exists())
