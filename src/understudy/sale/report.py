"""The report of a sale: one page that a person can send on, print, and read without a network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from understudy.drill.findings import Verdict
from understudy.pages.figures import count, precise
from understudy.pages.page import render
from understudy.sale.findings import Finding, SaleFindings, SaleReport
from understudy.sale.timeline import timeline
from understudy.sale.verdict import promised

TEMPLATE = Path(__file__).parent / "templates" / "sale.html"
SENTENCES = {
    "passed": "Everything that was promised to buyers was kept.",
    "failed": "Not everything that was promised to buyers was kept.",
    "unknown": "Nothing was proven to have failed, but not everything that must be known is known.",
}
MOST_EXAMPLES = 3


def report_page(report: SaleReport) -> str:
    """Return the report as one HTML page; of several runs each with its timeline."""
    return render(
        TEMPLATE,
        report=report,
        sentence=SENTENCES[report.verdict.word],
        when=report.when.replace("T", " ").partition("+")[0] + " UTC",
        allowed=_allowed(report),
        headline=_headline(report),
        overview=[_brief(found, verdict) for found, verdict in report.runs] if len(report.runs) > 1 else [],
        runs=[_run(number, found, verdict) for number, (found, verdict) in enumerate(report.runs, 1)],
    )


def _allowed(report: SaleReport) -> str:
    found = report.runs[0][0]
    limits = []
    if report.allowed.max_lost is not None:
        limits.append(count(report.allowed.max_lost, "lost sale"))
    if report.allowed.max_downtime_s is not None:
        limits.append(f"{report.allowed.max_downtime_s:g} s without service")
    if found.replicas:
        return ", ".join([*limits, "and otherwise no broken promise"])
    told = "what asynchronous replication loses is told, not judged" if found.loses else "no broken promise"
    return ", ".join([*limits, told])


def _headline(report: SaleReport) -> list[tuple[str, str, str]]:
    tallies = [found.tally for found, _ in report.runs]
    sold, seats = sum(one.sold for one in tallies), sum(one.seats for one in tallies)
    longest = max((one.gap_s for found, _ in report.runs for one in found.outages), default=None)
    return [
        ("Seats sold", f"{sold:,}", f"of {seats:,}"),
        ("Sold to two", _sum(report, "sold_twice"), "acknowledged to both"),
        ("Sales lost", _sum(report, "lost"), "that were acknowledged"),
        ("Longest without service", "–" if longest is None else precise(longest), "for all buyers, at any fault"),
    ]


def _sum(report: SaleReport, name: str) -> str:
    each = [one.broken for found, _ in report.runs for one in found.findings if one.name == name]
    return f"{sum(each):,}" if len(each) == len(report.runs) else "not known"


def _brief(found: SaleFindings, verdict: Verdict) -> tuple[object, ...]:
    link = Markup('<a href="#run-{0}">{0}</a>').format(found.name)
    broken = sum(one.broken for one in found.findings if promised(found, one))
    return (
        link, _word(verdict.word), f"{found.tally.entered:,}", f"{found.tally.sold:,}", _stands_out(broken),
        precise(max((one.gap_s for one in found.outages), default=0.0)),
    )  # fmt: skip


def _word(word: str) -> Markup:
    return Markup('<span class="state {0}">{0}</span>').format(word)


def _stands_out(number: int, *, bad: bool = True) -> str | Markup:
    text = f"{number:,}"
    return Markup('<strong class="state failed">{}</strong>').format(text) if number and bad else text


def _run(number: int, found: SaleFindings, verdict: Verdict) -> dict[str, Any]:
    tally = found.tally
    return {
        "id": f"run-{number}",
        "found": found,
        "verdict": verdict,
        "faults": ", then ".join(found.faults) or "nothing",
        "acknowledged": f"{count(found.replicas, 'replica')}" if found.replicas else "the primary alone",
        "tally": [
            ("Buyers who joined", f"{tally.joined:,} of {tally.buyers:,}"),
            ("Buyers who entered", f"{tally.entered:,}"),
            ("Requests", f"{tally.requests:,} in {precise(tally.took_s)}"),
            ("Answered 503", f"{tally.unavailable:,}"),
            ("Without an answer", f"{tally.unanswered:,}"),
            ("This tool was held up", f"{precise(found.lag_s)} at most"),
        ],
        "timeline": timeline(found),
        "promises": promises(found),
        "outages": [
            (one.fault, f"{one.at_s:.2f} s", precise(one.gap_s), f"{one.from_s:.2f} s", f"{one.unanswered:,}")
            for one in found.outages
        ],
        "examples": list(_examples(found.findings)),
    }


def promises(found: SaleFindings) -> list[tuple[object, ...]]:
    """Return a row for each promise: what must not be, how often it was, of how many, whether it is judged."""
    return [_promise(found, one) for one in found.findings]


def _promise(found: SaleFindings, one: Finding) -> tuple[object, ...]:
    judged = promised(found, one)
    return (one.title, _stands_out(one.broken, bad=judged), f"{one.of:,}", "yes" if judged else "no, only reported")


def _examples(findings: Iterable[Finding]) -> Iterable[tuple[str, tuple[str, ...], int]]:
    for one in findings:
        if one.broken:
            yield one.title, one.examples[:MOST_EXAMPLES], one.broken - len(one.examples[:MOST_EXAMPLES])
