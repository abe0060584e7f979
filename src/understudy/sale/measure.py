"""From the record of a sale to everything that is told of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import pairwise

from understudy.sale.checks import check
from understudy.sale.findings import Mark, Outage, SaleFindings, Series, Tally
from understudy.sale.record import CHANGES, Request, Sale

_BUCKETS = 300
_WIDTHS_S = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
_SHOWN = frozenset({"fault", "undone", "promoted", "switched", "whole", "unmended"})


def measure(sale: Sale, name: str = "") -> SaleFindings:
    """Return what is found in a sale."""
    header = sale.header
    return SaleFindings(
        name=name, layout=header["layout"], faults=tuple(header["faults"]), replicas=header["replicas"],
        loses=header["loses"], findings=check(sale), outages=tuple(outages(sale)), tally=_tally(sale),
        marks=tuple(Mark(one.at_us / 1e6, one.kind, one.text) for one in sale.events if one.kind in _SHOWN),
        series=_series(sale), checked=sale.remains is not None, unfinished=header["unfinished"],
        failures=tuple(header["troubles"]), lag_s=header["lag_s"], notes=tuple(header["notes"]),
    )  # fmt: skip


def outages(sale: Sale) -> list[Outage]:
    """Return for each fault the longest time in which nothing was done for anybody, until the next fault begins.

    Something is done when a join, an entry, a hold, a release, a sale or a goodbye is acknowledged. A time
    counts to the fault at which or after which it begins, and no longer than until the next.
    """
    done = sorted(one.ended_s for one in sale.requests if one.kind in CHANGES and one.acknowledged)
    bad = sorted(one.ended_s for one in sale.requests if one.unknown)
    faults = [(one.at_us / 1e6, one.text) for one in sale.events if one.kind == "fault"]
    found = []
    for (at_s, text), (end_s, _) in pairwise([*faults, (float(sale.header["ended_s"]), "")]):
        first = max(0, bisect_left(done, at_s) - 1)
        within = done[first : bisect_left(done, end_s) + 1]
        gap_s, from_s = max(
            ((min(b, end_s) - a, a) for a, b in pairwise(within) if a < end_s), default=(end_s - at_s, at_s)
        )
        unanswered = bisect_left(bad, end_s) - bisect_left(bad, at_s)
        found.append(Outage(text, at_s, gap_s, from_s, unanswered, *_unseen(sale, from_s, from_s + gap_s)))
    return found


def _unseen(sale: Sale, from_s: float, to_s: float) -> tuple[int, int]:
    """Return by how much the servers' count of sold seats rose, and how many of those nobody had been told of."""
    looks = sorted((r.ended_s, r.said["counts"]["sold"]) for r in sale.requests if r.kind == "event" and r.acknowledged)
    told = [(r.ended_s, r.asked) for r in sale.requests if r.kind == "confirm" and r.acknowledged]
    before = max((sold for at_s, sold in looks if at_s <= from_s), default=0)
    counted = untold = 0
    for at_s, sold in looks:
        if from_s < at_s < to_s:
            known = {seat for ended_s, seats in told if ended_s <= at_s for seat in seats}
            counted, untold = max(counted, sold - before), max(untold, sold - len(known))
    return counted, untold


def _tally(sale: Sale) -> Tally:
    buyers: dict[str, set[int]] = defaultdict(set)
    bought = set()
    last: dict[str, str] = {}
    for one in sorted(sale.requests, key=lambda one: one.ended_s):
        if one.acknowledged:
            buyers[one.kind].add(one.buyer)
            if one.kind == "confirm":
                bought |= set(one.asked)
            if one.kind in {"hold", "release", "confirm"}:
                last |= dict.fromkeys(one.asked, one.kind)
    free = {seat for seat, state in sale.remains.status.items() if state == "AVAILABLE"} if sale.remains else set()
    return Tally(
        buyers=sale.header["buyers"], joined=len(buyers["join"]), entered=len(buyers["enter"]), bought=len(bought),
        sold=sum(state == "SOLD" for state in sale.remains.status.values()) if sale.remains else 0,
        seats=len(sale.header["seats"]), requests=len(sale.requests),
        unavailable=sum(one.status == 503 for one in sale.requests),
        unanswered=sum(one.status == 0 for one in sale.requests), took_s=sale.header["ended_s"],
        left=len(buyers["leave"] - buyers["enter"]), dropped=sum(last.get(seat) == "hold" for seat in free),
    )  # fmt: skip


def _series(sale: Sale) -> Series:
    length_s = float(sale.header["ended_s"])
    bucket_s = next((width for width in _WIDTHS_S if length_s / width <= _BUCKETS), 60.0)
    count = int(length_s / bucket_s) + 1
    done: dict[str, list[int]] = {kind: [0] * count for kind in sorted(CHANGES)}
    unavailable, unanswered = [0] * count, [0] * count
    sold: list[int | None] = [None] * count
    took_ms: list[list[float]] = [[] for _ in range(count)]

    def bucket(one: Request) -> int:
        return min(count - 1, max(0, int(one.ended_s / bucket_s)))

    for one in sale.requests:
        at = bucket(one)
        if one.status == 503:
            unavailable[at] += 1
        elif one.status == 0:
            unanswered[at] += 1
        elif one.acknowledged:
            took_ms[at].append((one.ended_s - one.begun_s) * 1000)
            if one.kind in done:
                done[one.kind][at] += 1
            if one.kind == "event":
                sold[at] = one.said["counts"]["sold"]
    for each in took_ms:
        each.sort()
    return Series(
        bucket_s, {kind: tuple(counts) for kind, counts in done.items()}, tuple(unavailable), tuple(unanswered),
        tuple(sold), tuple(each[len(each) // 2] if each else None for each in took_ms),
        tuple(each[-1] if each else None for each in took_ms),
    )  # fmt: skip
