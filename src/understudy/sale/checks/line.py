"""Who is next? Nobody ahead of their turn, and not more at once than the rate allows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import ceil

from understudy.sale.checks.common import Calm, by_buyer, finding, tickets_of
from understudy.sale.findings import Finding
from understudy.sale.record import Remains, Sale

_SLACK = 1.5  # admissions: that of the moment itself, and half for times in whole milliseconds


def check(sale: Sale) -> Iterator[Finding]:
    """Yield what was found."""
    if sale.remains:
        yield _joined_in_order(sale, sale.remains)
        yield _called_in_order(sale.remains)
        yield _rate(sale, sale.remains)
    yield from _moved_back(sale)
    yield _bugs(sale)


def _joined_in_order(sale: Sale, remains: Remains) -> Finding:
    """Who was answered before another had asked stands before them."""
    joins = []
    for buyer, mine in by_buyer(sale, "join").items():
        done = next((one for one in mine if one.acknowledged), None)
        stands = remains.tickets.get(done.said["ticket"]) if done else None
        if done and stands and "seq" in stands:
            joins.append((min(one.begun_s for one in mine), done.ended_s, int(stands["seq"]), buyer))
    by_end = sorted(joins, key=lambda one: one[1])
    broken = []
    at, last, before = 0, 0, -1
    for begun_s, _, seq, buyer in sorted(joins):
        while at < len(by_end) and by_end[at][1] < begun_s:
            if by_end[at][2] > last:
                last, before = by_end[at][2], by_end[at][3]
            at += 1
        if seq < last:
            broken.append(f"buyer {buyer} asked at {begun_s:.2f} s and is {seq}, before buyer {before} ({last})")
    return finding("joined_in_order", "Joins that stand before earlier ones", "acknowledged", len(joins), broken)


def _called_in_order(remains: Remains) -> Finding:
    """The order of the calls is that of the line."""
    tickets = [(ticket, one) for ticket, one in remains.tickets.items() if "nth" in one]
    called = sorted((int(one["seq"]), int(one["nth"]), ticket) for ticket, one in tickets)
    broken = [
        f"{ticket} ({seq}) was called as {nth}, and {other} ({after}) as {later}"
        for (seq, nth, ticket), (after, later, other) in pairwise(called)
        if later <= nth
    ]
    return finding("called_in_order", "Calls that were not in the order of the line", "always", len(called), broken)


def _rate(sale: Sale, remains: Remains) -> Finding:
    """A bucket is filled at the rate that was set, and emptied by every call: it never runs dry."""
    entry_ms = round(sale.header["settings"]["entry_ttl_s"] * 1000)
    zero_ms = sale.header["zero_ms"]
    calls = [int(one["enter_by"]) for one in remains.tickets.values() if "nth" in one]
    called = sorted((enter_by - entry_ms - zero_ms) / 1000 for enter_by in calls)
    rates = [(float(at_s), float(rate)) for at_s, rate in sale.header["rates"]]
    set_burst = float(sale.header["settings"]["burst"])
    broken = []
    at_s, rate = rates[0]
    room = burst = set_burst or max(1, ceil(rate))
    following = rates[1:]
    for call_s in called:
        while following and following[0][0] <= call_s:
            room = min(burst, room + max(0.0, following[0][0] - at_s) * rate)
            at_s, rate = following.pop(0)
            burst = set_burst or max(1, ceil(rate))
        room = min(burst, room + max(0.0, call_s - at_s) * rate) - 1
        at_s = max(at_s, call_s)
        if room < -_SLACK:
            broken.append(f"{-room:.1f} calls too many by {call_s:.2f} s, at {rate:g}/s")
            room = -_SLACK
    return finding("rate", "Calls above the rate and its burst", "always", len(called), broken)


def _bugs(sale: Sale) -> Finding:
    """The only answer of its own fault that a gateway may give is 503."""
    bad = [one for one in sale.requests if one.status >= 500 and one.status != 503]
    broken = [f"{one.kind} at {one.ended_s:.2f} s: {one.status} {one.code}" for one in bad]
    return finding("bugs", "Answers that name a bug of the gateway", "always", len(sale.requests), broken)


def _moved_back(sale: Sale) -> Iterator[Finding]:
    calm, known = Calm(sale), tickets_of(sale)
    broken: list[str] = []
    over: list[str] = []
    count = 0
    for buyer, mine in by_buyer(sale, "join", "status").items():
        if buyer not in known:
            continue
        placed = [one for one in mine if one.acknowledged and one.said.get("state", "waiting") == "waiting"]
        called = next((one.ended_s for one in mine if one.said.get("state") in {"admitted", "inside"}), None)
        for before, after in pairwise(placed):
            if after.kind == "join" or after.begun_s < before.ended_s:
                continue
            count += 1
            grew = after.said["position"] > before.said["position"]
            if grew or (called is not None and before.ended_s < called < after.begun_s):
                text = (f"buyer {buyer}: {before.said['position']} at {before.ended_s:.2f} s, "
                        f"{after.said['position']} at {after.ended_s:.2f} s")  # fmt: skip
                (broken if calm.between(before.begun_s, after.ended_s) else over).append(text)
    yield finding("moved_back", "Places that grew while nothing was wrong", "always", count, broken)
    title = "Places that grew during a fault: seen before they were safe"
    yield finding("moved_back_in_a_fault", title, "stated", count, over)
