"""The report of a drill: one page that a person can send on, print, and read without a network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from understudy.drill import tables, words
from understudy.drill.findings import WORST_FIRST, Budget, ClientFindings, DrillReport, LegReport
from understudy.drill.timeline import timelines
from understudy.pages.figures import count
from understudy.pages.page import render

TEMPLATE = Path(__file__).parent / "templates" / "report.html"

SENTENCES = {
    "passed": "Every judged client stayed within what is allowed.",
    "failed": "Not every judged client stayed within what is allowed.",
    "unknown": "Nothing was proven to have failed, but not everything that must be known is known.",
}


def report_page(report: DrillReport) -> str:
    """Return the report as one HTML page."""
    return render(
        TEMPLATE,
        report=report,
        sentence=_sentence(report),
        when=report.when.replace("T", " ").partition(".")[0].removesuffix("Z").removesuffix("+00:00") + " UTC",
        allowed=budget_in_words(report.budget),
        headline=_headline(report),
        overview=_overview(report) if len(report.legs) > 1 else None,
        legs=[_leg(number, leg, report.judged) for number, leg in enumerate(report.legs, 1)],
    )


def _sentence(report: DrillReport) -> str:
    each = Counter(leg.verdict.word for leg in report.legs)
    counts = ", ".join(f"{each[word]} {word}" for word in WORST_FIRST if each[word])
    said = SENTENCES[report.verdict.word] + (f" Of {len(report.legs)} legs: {counts}." if len(report.legs) > 1 else "")
    clients = [one for leg in report.legs for one in leg.worst.clients]
    stuck = dict.fromkeys(f"{one.name}{_judged(one.name, report)}" for one in clients if one.stuck)
    return said + (f" Stuck until it is restarted: {'; '.join(stuck)}." if stuck else "")


def _judged(name: str, report: DrillReport) -> str:
    return "" if name in report.judged else " (not judged)"


def budget_in_words(budget: Budget) -> str:
    """Return what is allowed, as one phrase."""
    limits = [
        f"{budget.max_downtime_s:g} s without a success on any shard" if budget.max_downtime_s is not None else "",
        count(budget.max_lost, "lost write") if budget.max_lost is not None else "",
        count(budget.max_stale, "stale read") if budget.max_stale is not None else "",
        count(budget.max_doubled, "doubled append") if budget.max_doubled is not None else "",
    ]
    return ", ".join(filter(None, limits)) or "no limits; only recovery is judged"


def _headline(report: DrillReport) -> list[tuple[str, str, str]]:
    runs = [run for leg in report.legs for run in leg.runs]
    judged = [one for run in runs for one in run.clients if one.name in report.judged]
    worst = max(judged, key=lambda one: one.downtime_s or 0.0, default=None)
    servers = [run.server_s for run in runs if run.server_s is not None]
    lost, writes = (sum(getattr(one.consistency, name) for one in judged) for name in ("lost", "acknowledged"))
    unread = any(not one.consistency.checked for one in judged)
    return [
        ("Longest outage", words.downtime(worst) if worst else words.NONE, worst.name if worst else ""),
        ("Servers took", words.duration(max(servers, default=None)), "until clients could use the last shard"),
        ("Acknowledged writes lost", f"{'≥ ' if unread else ''}{lost:,}", f"of {writes:,}"),
        ("Recovered", f"{sum(one.recovered for one in judged)} of {len(judged)}", "judged clients, all runs"),
    ]


def _overview(report: DrillReport) -> dict[str, Any]:
    names = list(dict.fromkeys(one.name for leg in report.legs for one in leg.worst.clients))
    rows = []
    for number, leg in enumerate(report.legs, 1):
        clients = {one.name: one for one in leg.worst.clients}
        cells = [_in_brief(clients[name]) if name in clients else words.NONE for name in names]
        link = Markup('<a href="#leg-{}">{}</a>').format(number, leg.worst.name)
        rows.append((link, _word(leg.verdict.word), *cells))
    shown = [name if name in report.judged else f"{name} (not judged)" for name in names]
    return {"header": ("Leg", "Verdict", *shown), "rows": rows}


def _in_brief(client: ClientFindings) -> str:
    """Return a client's cell of the overview."""
    said = [words.downtime(client)]
    if client.stuck:
        said.append("stuck")
    elif not client.recovered:
        said.append("not recovered")
    if lost := client.consistency.lost:
        said.append(f"{lost:,} lost")
    return ", ".join(said)


def _word(word: str) -> Markup:
    return Markup('<span class="state {0}">{0}</span>').format(word)


def _leg(number: int, leg: LegReport, judged: tuple[str, ...]) -> dict[str, Any]:
    shown = leg.worst
    return {
        "id": f"leg-{number}",
        "findings": shown,
        "fault": shown.fault[:1].upper() + shown.fault[1:] or "No fault",
        "verdict": leg.verdict,
        "runs": len(leg.runs),
        "header": ("", *(one.name for one in shown.clients)),
        "clients": tables.side_by_side(shown.clients, judged),
        "timelines": timelines(shown),
        "outages": [row for one in shown.clients for row in tables.outage_rows(one)],
        "latency": [row for one in shown.clients for row in tables.latency_rows(one)],
        "errors": [row for one in shown.clients for row in tables.error_rows(one)],
        "examples": tables.examples(shown),
        "resolution": max((one.resolution_s for one in shown.clients if one.resolution_s), default=None),
        "spreads": [
            (one.client, one.runs, words.spread(one.downtime_s), words.spread(one.lost, whole=True), one.recovered)
            for one in (leg.spreads if len(leg.runs) > 1 else ())
        ],
    }
