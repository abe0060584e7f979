"""A sale in a few lines for the terminal, and as data for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from understudy.pages.figures import precise
from understudy.sale.findings import SaleFindings, SaleReport

DATA_VERSION = 1
HEADER = (
    "run", "verdict", "joined", "entered", "sold", "lost", "sold twice", "forgotten", "no service", "503", "took",
)  # fmt: skip
RIGHT = HEADER[2:]


def rows(report: SaleReport) -> list[tuple[str, ...]]:
    """Return a row for each run."""
    return [_row(found, verdict.word) for found, verdict in report.runs]


def _row(found: SaleFindings, word: str) -> tuple[str, ...]:
    tally = found.tally
    longest = max((one.gap_s for one in found.outages), default=None)
    return (
        found.name or found.layout, word, f"{tally.joined:,}", f"{tally.entered:,}", f"{tally.sold:,}",
        _broken(found, "lost"), _broken(found, "sold_twice"), _broken(found, "forgotten"),
        "–" if longest is None else precise(longest), f"{tally.unavailable:,}", precise(tally.took_s),
    )  # fmt: skip


def _broken(found: SaleFindings, name: str) -> str:
    return next((f"{one.broken:,}" for one in found.findings if one.name == name), "not known")


def lines(report: SaleReport) -> list[str]:
    """Return the verdict with its reasons, and the outages of single runs."""
    told = [f"{report.verdict.word}: sale", *(f"  {reason}" for reason in report.verdict.reasons)]
    if len(report.runs) == 1:
        [(found, _)] = report.runs
        told += [f"  {one.fault}: {precise(one.gap_s)} without service for buyers" for one in found.outages]
        stated = [one for one in found.findings if one.basis == "stated" and one.broken]
        told += [f"  {one.title}: {one.broken:,} of {one.of:,}" for one in stated]
    return told


def as_data(report: SaleReport) -> dict[str, Any]:
    """Return a report as JSON can hold it, with the names of `findings.py`. Series are left out."""
    return {
        "version": DATA_VERSION, "scenario": "sale", "about": report.about, "when": report.when,
        "servers": report.servers, "command": report.command, "allowed": asdict(report.allowed),
        "verdict": _verdict(report.verdict.word, report.verdict.reasons),
        "runs": [
            {
                "name": found.name, "layout": found.layout, "faults": list(found.faults), "replicas": found.replicas,
                "verdict": _verdict(verdict.word, verdict.reasons), "tally": asdict(found.tally),
                "findings": [asdict(one) for one in found.findings], "outages": [asdict(one) for one in found.outages],
                "marks": [asdict(one) for one in found.marks], "unfinished": found.unfinished,
                "checked": found.checked, "notes": list(found.notes),
            }
            for found, verdict in report.runs
        ],
    }  # fmt: skip


def _verdict(word: str, reasons: tuple[str, ...]) -> dict[str, Any]:
    return {"word": word, "reasons": list(reasons)}
