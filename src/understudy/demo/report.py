"""The report: what the demo did, as one page that a person can send on."""

from __future__ import annotations

from pathlib import Path

from understudy.demo.failover_section import failover_section
from understudy.demo.outcome import NEXT, Outcome, Step
from understudy.demo.place import DRILL
from understudy.pages.charts import Bar
from understudy.pages.figures import seconds
from understudy.pages.page import render

TEMPLATE = Path(__file__).parent / "templates" / "report.html"


def report_page(outcome: Outcome) -> str:
    """Return the report as one HTML page."""
    seen = outcome.verified
    digests = outcome.digests
    checks = [
        ("Keys that are missing", seen.compared, seen.missing),
        ("Keys with another value", seen.compared, seen.value_mismatch),
        ("Keys with another expiry", seen.compared, seen.ttl_mismatch),
        ("Keys that the set does not hold", seen.compared + seen.extra, seen.extra),
        ("Digests that differ", digests.compared, digests.different),
        ("Digests without a counterpart", outcome.keys + digests.extra, digests.missing + digests.extra),
    ]
    return render(
        TEMPLATE,
        outcome=outcome,
        finished=outcome.finished_at.replace("T", " ").replace("+00:00", " UTC"),
        checks=checks,
        step_bars=[
            Bar(f"{number}. {step.title}", step.took_s, seconds(step.took_s), _what(step), step.good)
            for number, step in enumerate(outcome.steps, 1)
        ],
        slot_bars=[
            Bar(f"Shard {number}", shard.slot_count, f"slots {', '.join(shard.slots)}")
            for number, shard in enumerate(outcome.shards, 1)
        ],
        type_bars=[Bar(name, number, f"{number:,}") for name, number in outcome.types.items()],
        failover=failover_section(outcome.failover),
        drill=DRILL,
        following=NEXT,
    )


def _what(step: Step) -> str:
    rate = step.rate.replace(" ", "\N{NO-BREAK SPACE}")
    what = f"{step.figure} ({rate})" if rate else step.figure
    return ("" if step.good else "Not as it should be: ") + what.replace(" -> ", " → ")
