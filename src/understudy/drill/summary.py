"""A report in a few lines for the terminal, and as data for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from understudy.drill import words
from understudy.drill.findings import ClientFindings, DrillReport, LegFindings, LegReport
from understudy.drill.verdict import judge, overall

DATA_VERSION = 1
_FEW_LEGS = 2
HEADER = (
    "leg", "client", "verdict", "downtime", "servers", "client added", "back", "lost", "doubled", "stale", "errors",
    "idle",
)  # fmt: skip
RIGHT = ("downtime", "servers", "client added", "back", "lost", "doubled", "stale", "errors")


@dataclass(frozen=True)
class Summary:
    """A table with its header, the columns that are numbers, and the lines that follow it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...]
    lines: tuple[str, ...]


def summarize(report: DrillReport) -> Summary:
    """Return a row for each client of each leg, and the verdict with its reasons. Of several runs the worst is shown.

    Each judged client has its own verdict, on all runs. What was seen of the place is told while the legs are few.
    """
    rows = [_row(report, leg, one) for leg in report.legs for one in leg.worst.clients]
    lines = [f"{report.verdict.word}: {report.scenario}", *(f"  {reason}" for reason in report.verdict.reasons)]
    for leg in report.legs:
        if len(leg.runs) > 1:
            lines += [
                f"  {leg.worst.name}, {one.client}: {one.runs} runs, downtime {words.spread(one.downtime_s)}, "
                f"lost {words.spread(one.lost, whole=True)} (least / median / most)"
                for one in leg.spreads
            ]
    if len(report.legs) <= _FEW_LEGS:
        lines += [f"  {note}" for leg in report.legs for note in leg.worst.notes]
    return Summary(HEADER, tuple(rows), RIGHT, tuple(lines))


def _row(report: DrillReport, leg: LegReport, client: ClientFindings) -> tuple[str, ...]:
    worst = words.worst_outage(client)
    judged = client.name in report.judged
    verdict = overall(("", judge(run, report.budget, [client.name])) for run in leg.runs)
    return (
        leg.worst.name,
        client.name,
        verdict.word if judged else words.NONE,
        words.downtime(client),
        words.duration(worst.usable_s if worst else None),
        words.duration(worst.client_s if worst else None),
        words.back(client),
        words.checked(client, client.consistency.lost),
        words.checked(client, client.consistency.doubled),
        f"{client.consistency.stale:,}",
        words.errors(client),
        words.fate(client.idle, client),
    )


def as_data(report: DrillReport) -> dict[str, Any]:
    """Return a report as JSON can hold it, with the names of `findings.py`; described in `docs/drills.md`.

    Series are left out: the history file has every operation.
    """
    return {
        "version": DATA_VERSION,
        "scenario": report.scenario,
        "about": report.about,
        "when": report.when,
        "servers": report.servers,
        "command": report.command,
        "budget": asdict(report.budget),
        "judged": list(report.judged),
        "verdict": _verdict(report.verdict.word, report.verdict.reasons),
        "legs": [
            {
                "name": leg.worst.name,
                "layout": leg.worst.layout,
                "fault": leg.worst.fault,
                "verdict": _verdict(leg.verdict.word, leg.verdict.reasons),
                "spreads": [asdict(one) for one in leg.spreads],
                "runs": [_run(run) for run in leg.runs],
            }
            for leg in report.legs
        ],
    }


def _verdict(word: str, reasons: tuple[str, ...]) -> dict[str, Any]:
    return {"word": word, "reasons": list(reasons)}


def _run(run: LegFindings) -> dict[str, Any]:
    return {
        "applied": run.applied,
        "server_s": run.server_s,
        "clients": [asdict(one) for one in run.clients],
        "marks": [asdict(one) for one in run.marks],
        "notes": list(run.notes),
    }
