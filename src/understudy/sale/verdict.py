"""Was that good enough? A pure decision over findings and what is allowed; sentences with the numbers for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from understudy.drill.findings import Verdict
from understudy.drill.verdict import overall
from understudy.pages.figures import count, precise
from understudy.sale.findings import Allowed, Finding, SaleFindings

MOST_LAG_S = 1.0
_COSTS = ("That is what asynchronous replication costs when a primary is lost: "
          "--replicas has gateways answer only when replicas know.")  # fmt: skip


def judge(found: SaleFindings, allowed: Allowed) -> Verdict:
    """Judge one sale.

    Failed where a promise is broken. What rests on acknowledgements is promised where replicas gave them, or where no
    fault can lose what a primary acknowledged; elsewhere it is told, and judged by `max_lost` alone. Unknown where
    nothing is proven to be broken and something that must be known is not.
    """
    wrong = list(_wrong(found, allowed))
    unknown = list(_open_questions(found))
    if wrong:
        return Verdict("failed", (*wrong, *unknown))
    if unknown:
        return Verdict("unknown", tuple(unknown))
    return Verdict("passed", tuple(_passed(found)))


def all_of(runs: Iterable[tuple[SaleFindings, Verdict]]) -> Verdict:
    """Return the verdict on several sales."""
    return overall((found.name, verdict) for found, verdict in runs)


def promised(found: SaleFindings, one: Finding) -> bool:
    """Return whether a finding is a promise in this sale."""
    match one.basis:
        case "always":
            return True
        case "acknowledged":
            return found.replicas > 0 or not found.loses
        case "timed":
            return found.lag_s <= MOST_LAG_S
        case "stated":
            return False


def _wrong(found: SaleFindings, allowed: Allowed) -> Iterator[str]:
    for one in found.findings:
        judged = promised(found, one)
        limit = 0
        if one.name == "lost" and allowed.max_lost is not None:
            judged, limit = True, allowed.max_lost
        if judged and one.broken > limit:
            first = f", first: {one.examples[0]}" if one.examples else ""
            yield f"{one.title}: {one.broken:,} of {one.of:,}{f' ({limit:,} allowed)' if limit else ''}{first}."
    if allowed.max_downtime_s is not None:
        for outage in found.outages:
            if outage.gap_s > allowed.max_downtime_s:
                yield (
                    f"{outage.fault}: {precise(outage.gap_s)} without service; "
                    f"{allowed.max_downtime_s:g} s are allowed."
                )


def _open_questions(found: SaleFindings) -> Iterator[str]:
    if not found.checked:
        yield "What is there at the end could not be read."
    if found.unfinished:
        yield f"{count(found.unfinished, 'buyer')} of {found.tally.buyers:,} had not finished when time was up."
    yield from (f"A fault went wrong: {one}" for one in found.failures)
    if found.lag_s > MOST_LAG_S:
        yield from (
            f"{one.title}: {one.broken:,} of {one.of:,}, but this tool was held up for {found.lag_s:.1f} s itself: "
            "this machine was too slow to measure by."
            for one in found.findings
            if one.basis == "timed" and one.broken
        )
    if len(found.outages) < len(found.faults) and not found.failures:
        yield f"{len(found.outages)} of {count(len(found.faults), 'fault')} took place."
    if not found.tally.entered or not found.tally.bought:
        yield "Nobody entered, or nothing was sold: nothing is known of what it would be worth."


def _passed(found: SaleFindings) -> Iterator[str]:
    tally = found.tally
    yield (
        f"{tally.joined:,} of {count(tally.buyers, 'buyer')} joined, {tally.entered:,} entered, "
        f"{tally.sold:,} of {count(tally.seats, 'seat')} were sold, none of them twice and none forgotten."
        if promised_all(found) else
        f"{tally.joined:,} of {count(tally.buyers, 'buyer')} joined, {tally.entered:,} entered, "
        f"{tally.sold:,} of {count(tally.seats, 'seat')} are sold."
    )  # fmt: skip
    lost = [one for one in found.findings if one.basis == "acknowledged" and one.broken]
    yield from (f"{one.title}: {one.broken:,} of {one.of:,}." for one in lost)
    if lost:
        yield _COSTS


def promised_all(found: SaleFindings) -> bool:
    """Return whether nothing was lost."""
    return not any(one.basis == "acknowledged" and one.broken for one in found.findings)
