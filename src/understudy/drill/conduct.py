"""Conduct a drill: every leg of a scenario, as often as asked; or judge histories again."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from understudy.drill import history
from understudy.drill.findings import Budget, DrillReport, LegFindings, LegReport, Verdict
from understudy.drill.history import History
from understudy.drill.measure import measure
from understudy.drill.run import run
from understudy.drill.scenario import Leg, Scenario
from understudy.drill.verdict import judge, overall, spreads
from understudy.errors import IntegrityError, UnderstudyError, UnreachableError
from understudy.lab.live import Lab
from understudy.progress import Progress


def conduct(
    scenario: Scenario,
    folder: Path,
    progress: Progress,
    *,
    runs: int = 1,
    seed: int = 0,
    place: Lab | None = None,
    command: str = "",
) -> DrillReport:
    """Run every leg `runs` times, one after the other; each run leaves its history in `folder`.

    Raises:
        UnderstudyError: a lab did not start, a client did not connect, or a fault could not be applied.
    """
    _make(folder)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    total = len(scenario.legs) * runs
    reports: list[tuple[str, LegReport]] = []
    servers: list[str] = []
    for at, leg in enumerate(scenario.legs):
        findings: list[tuple[LegFindings, Verdict]] = []
        for number in range(runs):
            if total > 1:
                progress.say(f"run {at * runs + number + 1} of {total}: {leg.name or leg.layout}")
            name = "-".join(filter(None, [_file_name(leg.name or scenario.name), str(number + 1) if runs > 1 else ""]))
            try:
                found = run(leg, folder, progress, seed + number, place)
            except UnderstudyError as error:
                if total == 1:
                    raise
                findings.append(_not_run(leg, scenario.name, error))  # the others are worth being told
                progress.say(str(error))
                continue
            found.header["budget"] = asdict(scenario.budget)
            try:
                history.write(_unused(folder, name), found)
            except UnreachableError as error:
                found.header["notes"].append(str(error))  # what was found is worth being told without it
            servers.append(str(found.header["servers"]))
            findings.append(_judged(found, scenario.budget, leg.name or scenario.name))
        reports.append((leg.name if len(scenario.legs) > 1 else "", _leg_report(findings)))
    return _report(scenario, when, ", ".join(dict.fromkeys(servers)), command, reports)


def judge_again(paths: Sequence[Path], limits: Mapping[str, float | None], command: str = "") -> DrillReport:
    """Judge histories that were kept, each as a leg; by the budget that they were judged by then, and these limits.

    Raises:
        NotFoundError, IntegrityError: a file is not there, or is no history.
    """
    reports, servers, when = [], [], []
    judged: set[str] = set()
    for path in paths:
        found = history.read(path)
        try:
            budget = with_limits(Budget(**found.header.get("budget", {})), limits)
        except TypeError as error:
            raise IntegrityError(f"reading the history {path}", f"its budget is none ({error})") from error
        name = found.header.get("leg") or path.name.removesuffix(".gz").removesuffix(".history")
        reports.append((name if len(paths) > 1 else "", _leg_report([_judged(found, budget, name)])))
        servers.append(str(found.header.get("servers", "")))
        when.append(str(found.header["zero"]))
        judged |= set(found.header.get("judged", found.header["clients"]))
    verdict = overall((name, leg.verdict) for name, leg in reports)
    return DrillReport(
        scenario=", ".join(path.name for path in paths), about="Judged again from what was recorded.", when=min(when),
        servers=", ".join(dict.fromkeys(servers)), command=command, budget=budget, judged=tuple(sorted(judged)),
        verdict=verdict, legs=tuple(leg for _, leg in reports),
    )  # fmt: skip


def _judged(found: History, budget: Budget, name: str) -> tuple[LegFindings, Verdict]:
    header = found.header
    findings = measure(
        found, name=name, layout=header.get("layout", ""), fault=header.get("fault", ""), notes=header.get("notes", ())
    )
    verdict = judge(findings, budget, header.get("judged", list(header["clients"])))
    if wrong := header.get("wrong"):
        verdict = overall([("", Verdict("failed", tuple(wrong))), ("", verdict)])
    return findings, verdict


def _not_run(leg: Leg, scenario: str, error: UnderstudyError) -> tuple[LegFindings, Verdict]:
    fault = leg.fault.kind if leg.fault else ""
    nothing = LegFindings(leg.name or scenario, leg.layout, fault, False, None, (), (), (), (str(error),))
    return nothing, Verdict("unknown", (f"it could not be run: {error}",))


def _leg_report(runs: Sequence[tuple[LegFindings, Verdict]]) -> LegReport:
    several = len(runs) > 1
    verdict = overall((f"run {number}" if several else "", one) for number, (_, one) in enumerate(runs, 1))
    found = tuple(findings for findings, _ in runs)
    return LegReport(found, verdict, spreads(found))


def _report(
    scenario: Scenario, when: str, servers: str, command: str, reports: Iterable[tuple[str, LegReport]]
) -> DrillReport:
    legs = list(reports)
    judged = sorted({name for leg in scenario.legs for name in leg.judged})
    return DrillReport(
        scenario.name, scenario.about, when, servers, command, scenario.budget, tuple(judged),
        overall((name, leg.verdict) for name, leg in legs), tuple(leg for _, leg in legs),
    )  # fmt: skip


def with_limits(budget: Budget, limits: Mapping[str, float | None]) -> Budget:
    """Return the budget with those limits that were given."""
    return replace(budget, **{name: limit for name, limit in limits.items() if limit is not None})  # type: ignore[arg-type]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UnreachableError(
            f"making {folder} for the histories", error.strerror or str(error), "Name another --history."
        ) from error


def _unused(folder: Path, name: str) -> Path:
    """Return a file's path that no earlier drill has taken."""
    names = (f"{name}{f'-{number}' if number > 1 else ''}.history.gz" for number in count(1))
    return next(path for path in map(folder.joinpath, names) if not path.exists())


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "drill"
