"""The report: what the demo did and saw, as one page that a person can send on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.demo import pictures
from understudy.demo.bystanders import BUDGET, JUDGED
from understudy.demo.outcome import Outcome, Step, following
from understudy.demo.sell import TIMES_S
from understudy.demo.sold import Sold, promotion, started_again
from understudy.demo.verdict import LONGEST_S, Digests
from understudy.drill import words
from understudy.drill.findings import ClientFindings
from understudy.drill.report import budget_in_words
from understudy.operations.rehearsal.report import recovery
from understudy.pages.charts import Bar
from understudy.pages.figures import precise, seconds
from understudy.pages.page import render
from understudy.sale.report import promises

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
COLUMNS = ("Client", "Longest outage", "Servers took", "Client added", "Errors", "Writes lost", "Idle connection")


def report_page(outcome: Outcome) -> str:
    """Return the report as one HTML page."""
    return render(
        TEMPLATE,
        outcome=outcome,
        finished=outcome.finished_at.replace("T", " ").replace("+00:00", " UTC"),
        checks=_checks(outcome),
        step_bars=[
            Bar(f"{number}. {step.title}", step.took_s, seconds(step.took_s), _what(step), step.good)
            for number, step in enumerate(outcome.steps, 1)
        ],
        slot_bars=[
            Bar(f"Shard {number}", shard.slot_count, f"slots {', '.join(shard.slots)}")
            for number, shard in enumerate(outcome.shards, 1)
        ],
        type_bars=[Bar(name, number, f"{number:,}") for name, number in outcome.types.items()],
        sale=_sale(outcome.sold),
        seat_maps=pictures.seat_maps(outcome.seats, outcome.keys_after_wipe),
        key_bars=_keys(outcome),
        recovery=recovery(outcome.rehearsal),
        following=following(),
    )


def _sale(sold: Sold) -> dict[str, Any]:
    """Return what the template needs of the sale and of the clients beside it."""
    found, survived = sold.found, sold.survived
    took = promotion(found)
    again_s = started_again(found)
    return {
        "timeline": pictures.timeline(sold),
        "tally": found.tally,
        "promoted": precise(took[1]) if took else "",
        "again": precise(again_s) if again_s is not None else "",
        "step": sold.outage,
        "hold": seconds(TIMES_S["hold_ttl_s"]),
        "outage": precise(sold.outage.gap_s) if sold.outage else "",
        "promises": promises(found),
        "command": sold.sale.command,
        "allowed": f"{LONGEST_S:g} s without service for buyers; for the client {budget_in_words(BUDGET)}",
        "columns": COLUMNS,
        "numbers": (1, 2, 3, 4, 5),
        "clients": [_client(one) for one in sold.leg.clients],
        "lost": sum(one.consistency.lost for one in sold.leg.clients),
        "checks": [
            ("Keys from before the sale that changed", survived.compared, survived.different),
            ("Keys from before the sale that are gone", survived.compared + survived.missing, survived.missing),
        ],
    }  # fmt: skip


def _client(client: ClientFindings) -> tuple[str, ...]:
    worst = words.worst_outage(client)
    return (
        client.name if client.name == JUDGED else f"{client.name} (not judged)",
        words.downtime(client),
        words.duration(worst.promoted_s if worst else None),
        words.duration(worst.client_s if worst else None),
        f"{client.failed + client.indeterminate:,} of {client.operations:,}",
        f"{words.checked(client, client.consistency.lost)} of {client.consistency.acknowledged:,}",
        words.fate(client.idle, client),
    )


def _keys(outcome: Outcome) -> list[Bar]:
    back, rehearsed = outcome.digests, outcome.rehearsal.components[0]
    again = sum(one.found for one in rehearsed.counts)
    return [
        Bar("Before the loss", outcome.keys, f"{outcome.keys:,}"),
        Bar("After the wipe", outcome.keys_after_wipe, f"{outcome.keys_after_wipe:,}",
            good=not outcome.keys_after_wipe),
        Bar("After the restore", back.equal, f"{back.equal:,}", _equal(back), good=back.all_equal),
        Bar("In the rehearsal", again, f"{again:,}", rehearsed.server, good=not rehearsed.failed),
    ]  # fmt: skip


def _equal(digests: Digests) -> str:
    odd = digests.different + digests.missing + digests.extra
    return f"with an equal digest{f'; {odd:,} not equal' if odd else ''}"


def _checks(outcome: Outcome) -> list[tuple[str, int, int]]:
    seen, digests, seats = outcome.verified, outcome.digests, outcome.seats
    return [
        ("Keys that are missing", seen.compared, seen.missing),
        ("Keys with another value", seen.compared, seen.value_mismatch),
        ("Keys with another expiry", seen.compared, seen.ttl_mismatch),
        ("Keys that the set does not hold", seen.compared + seen.extra, seen.extra),
        ("Digests that differ", digests.compared, digests.different),
        ("Digests without a counterpart", outcome.keys + digests.extra, digests.missing + digests.extra),
        ("Seats that have another buyer, or none", len(seats.names), len(seats.others)),
    ]


def _what(step: Step) -> str:
    rate = step.rate.replace(" ", "\N{NO-BREAK SPACE}")
    what = f"{step.figure} ({rate})" if rate else step.figure
    return ("" if step.good else "Not as it should be: ") + what.replace(" -> ", " → ")
