"""Does what the servers hold in the end fit together?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from understudy.sale.checks.common import finding
from understudy.sale.checks.seats import BACK_WITHIN_S
from understudy.sale.findings import Finding
from understudy.sale.record import Remains, Sale

_FEW = 3


def check(sale: Sale) -> Iterator[Finding]:
    """Yield one finding: everything that does not fit."""
    assert sale.remains  # noqa: S101
    broken = [*_seats(sale.remains, len(sale.header["seats"])), *_line(sale.remains)]
    looked_at = len(sale.remains.status) + len(sale.remains.tickets)
    yield finding("state", "Contradictions in what the servers hold at the end", "always", looked_at, broken)


def _seats(here: Remains, seats: int) -> Iterator[str]:
    number = Counter(here.status.values())
    if sum(number.values()) != seats:
        yield f"{sum(number.values())} seats, where {seats} were made"
    if here.inventory != number["AVAILABLE"]:
        yield f"the inventory is {here.inventory}, and {number['AVAILABLE']} seats are free"
    if int(here.event["sold"]) != number["SOLD"]:
        yield f"{here.event['sold']} are counted as sold, and {number['SOLD']} are"
    held = {seat for seat, state in here.status.items() if state == "HELD"}
    yield from _differ("seats that are held", held, "holds", here.holds)
    taken = {seat for seat, state in here.status.items() if state != "AVAILABLE"}
    yield from _differ("seats that are held or sold", taken, "seats with a holder", here.holder)
    by_ticket = {(ticket, seat) for ticket, seats in here.held.items() for seat in seats}
    by_seat = {(ticket, seat) for seat, ticket in here.holder.items()}
    yield from _differ("tickets' seats", by_ticket, "seats' tickets", by_seat)
    for seat, ends_ms in here.holds.items():
        if ends_ms < here.read_ms - BACK_WITHIN_S * 1000:
            yield f"{seat} is held since its hold ended {(here.read_ms - ends_ms) / 1000:.1f} s ago"


def _line(here: Remains) -> Iterator[str]:
    of: dict[str, set[str]] = {"waiting": set(), "admitted": set(), "inside": set()}
    for ticket, one in here.tickets.items():
        of.setdefault(one["state"], set()).add(ticket)
    yield from _differ("tickets that wait", of["waiting"], "the line", here.waiting)
    yield from _differ("tickets that are called", of["admitted"], "admitted", here.admitted)
    yield from _differ("tickets that are inside", of["inside"], "inside", here.inside)
    yield from _differ("tickets that wait", of["waiting"], "entries of the stream", here.streams)
    for ticket, seq in here.waiting.items():
        if ticket in here.tickets and int(here.tickets[ticket]["seq"]) != seq:
            yield f"{ticket} stands at {seq}, and is {here.tickets[ticket]['seq']}"
    for name in ("seq", "nth"):
        numbers = Counter(one[name] for one in here.tickets.values() if name in one)
        yield from (f"{count} tickets have the {name} {number}" for number, count in numbers.items() if count > 1)


def _differ(one: str, some: Iterable[object], other: str, others: Iterable[object]) -> Iterator[str]:
    here, there = set(some), set(others)
    if here - there:
        yield f"{len(here - there)} {one} are not among {other}: {_few(here - there)}"
    if there - here:
        yield f"{len(there - here)} of {other} are not among {one}: {_few(there - here)}"


def _few(some: set[object]) -> str:
    return ", ".join(sorted(map(str, some))[:_FEW])
