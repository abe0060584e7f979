"""Nobody twice, nobody lost: each buyer has one ticket and one token, and nothing of it is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from understudy.sale.checks.common import by_buyer, finding, names, tickets_of
from understudy.sale.findings import Finding
from understudy.sale.record import Remains, Request, Sale

_ENDED = frozenset({"ended", "left", "expired", "abandoned", "aged", "done"})
_TOMBSTONE_S = 280.0  # how ended tickets are remembered for 300 s
_SURELY = 0.5  # of the silence that ends a ticket


def check(sale: Sale) -> Iterator[Finding]:
    """Yield what was found."""
    yield _ticket_twice(sale)
    yield _token_twice(sale)
    yield _denied(sale)
    if sale.remains:
        yield _forgotten(sale, sale.remains)
        yield _ended_while_there(sale)


def _ticket_twice(sale: Sale) -> Finding:
    joins = by_buyer(sale, "join")
    broken, owners = [], dict[str, int]()
    for buyer, mine in joins.items():
        tickets = dict.fromkeys(one.said["ticket"] for one in mine if one.acknowledged)
        if len(tickets) > 1:
            broken.append(f"buyer {buyer} has {names(tickets)}")
        broken += [f"{one} belongs to buyers {owners[one]} and {buyer}" for one in tickets if one in owners]
        owners |= dict.fromkeys(tickets, buyer)
    return finding("ticket_twice", "Buyers with more than one ticket", "acknowledged", len(joins), broken)


def _token_twice(sale: Sale) -> Finding:
    entries, ticket = by_buyer(sale, "enter"), tickets_of(sale)
    broken, count = [], 0
    for buyer, mine in entries.items():
        tokens = dict.fromkeys((one.said["token"], one.said["id"]) for one in mine if one.acknowledged)
        count += bool(tokens)
        if len(tokens) > 1:
            broken.append(f"buyer {buyer} has {len(tokens)} tokens")
        broken += [f"buyer {buyer}: the token is of {name}" for _, name in tokens if name != ticket.get(buyer)]
    return finding("token_twice", "Buyers with more than one entry", "acknowledged", count, broken)


def _denied(sale: Sale) -> Finding:
    """Tickets that were acknowledged and then denied; and who was let in and then told not to be inside."""
    broken, count = [], 0
    session_s = sale.header["settings"]["session_ttl_s"]
    for buyer, mine in by_buyer(sale, "join", "status", "enter", "hold", "leave").items():
        joined: Request | None = None
        entered: Request | None = None
        for one in mine:
            if one.acknowledged and one.kind == "join":
                joined = joined or one
            elif one.acknowledged and one.kind == "enter":
                entered = entered or one
            elif joined and one.refused:
                count += 1
                if one.code == "NO_TICKET":
                    since = f"in the line since {joined.ended_s:.2f} s"
                    broken.append(f"buyer {buyer}, {since}, has no ticket at {one.ended_s:.2f} s")
                if one.code == "NOT_INSIDE" and entered and one.ended_s < entered.begun_s + session_s - 1:
                    broken.append(f"buyer {buyer}, inside since {entered.ended_s:.2f} s, is not at {one.ended_s:.2f} s")
    return finding("denied", "Buyers whose ticket or entry was denied later", "acknowledged", count, broken)


def _forgotten(sale: Sale, remains: Remains) -> Finding:
    broken = []
    tickets = tickets_of(sale)
    steps = by_buyer(sale, "status", "enter", "leave")
    for buyer, ticket in tickets.items():
        mine = [one for one in steps.get(buyer, []) if one.acknowledged]
        left = next((one for one in mine if one.kind == "leave"), None)
        entered = next((one for one in mine if one.kind == "enter"), None)
        stands = remains.tickets.get(ticket)
        if stands is None:
            ended_s = max((one.ended_s for one in mine), default=0.0)
            if sale.header["ended_s"] - ended_s < _TOMBSTONE_S:
                broken.append(f"buyer {buyer}: the ticket is gone")
        elif left and stands["state"] not in _ENDED:
            broken.append(f"buyer {buyer} left at {left.ended_s:.2f} s, and is {stands['state']}")
        elif entered and stands["state"] not in {"inside", "ended", "left"}:
            broken.append(f"buyer {buyer} entered at {entered.ended_s:.2f} s, and is {stands['state']}")
    title = "Acknowledged joins, entries and leaves that are lost"
    return finding("forgotten", title, "acknowledged", len(tickets), broken)


def _ended_while_there(sale: Sale) -> Finding:
    """Tickets that ended for silence, though they asked and were answered all the time."""
    settings = sale.header["settings"]
    allowed = {"abandoned": settings["abandon_after_s"] * _SURELY, "expired": settings["entry_ttl_s"] * _SURELY}
    broken, count = [], 0
    for buyer, mine in by_buyer(sale, "join", "status").items():
        answered = [one for one in mine if one.acknowledged]
        count += bool(answered)
        if not answered or answered[-1].said.get("state") not in allowed:
            continue
        state = answered[-1].said["state"]
        silent_s = max((b.ended_s - a.ended_s for a, b in pairwise(answered)), default=0.0)
        if silent_s < allowed[state]:
            is_now = f"is {state} at {answered[-1].ended_s:.2f} s"
            broken.append(f"buyer {buyer} {is_now}, and was silent for {silent_s:.1f} s at most")
    title = "Tickets that ended for silence though their buyers asked"
    return finding("ended_while_there", title, "timed", count, broken)
