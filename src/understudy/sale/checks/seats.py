"""Whose seat is it? No seat to two, no sale forgotten, no seat too many, and what is held in vain comes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from understudy.sale.checks.common import Calm, by_buyer, finding, names, seconds, tickets_of
from understudy.sale.findings import Finding
from understudy.sale.record import OPERATOR, Request, Sale

BACK_WITHIN_S = 4.0  # a map of seats may be a second old
_CLOCKS_S = 0.05


def check(sale: Sale) -> Iterator[Finding]:
    """Yield what was found."""
    yield _sold_twice(sale)
    if sale.remains:
        yield _lost(sale)
        yield _sold_unasked(sale)
    yield _held_twice(sale)
    yield _hold_lost(sale)
    yield _inventory(sale)
    yield _late(sale)


def _sold_twice(sale: Sale) -> Finding:
    buyers: dict[str, list[Request]] = defaultdict(list)
    for one in sale.requests:
        if one.kind == "confirm" and one.acknowledged:
            for seat in one.asked:
                buyers[seat].append(one)
    broken = []
    for seat, sold in buyers.items():
        who = list(dict.fromkeys(one.buyer for one in sold))
        if len(who) > 1:
            when = names(f"{one.ended_s:.2f} s" for one in sold)
            broken.append(f"{seat} to buyers {names(map(str, who))}, at {when}")
    return finding("sold_twice", "Seats whose sale to two was acknowledged", "acknowledged", len(buyers), broken)


def _lost(sale: Sale) -> Finding:
    assert sale.remains  # noqa: S101
    ticket = tickets_of(sale)
    sold = {
        (one.buyer, seat): one
        for one in sale.requests
        if one.kind == "confirm" and one.acknowledged
        for seat in one.asked
    }
    broken = []
    for (buyer, seat), one in sold.items():
        state, holder = sale.remains.status.get(seat, "gone"), sale.remains.holder.get(seat, "")
        if state != "SOLD" or holder != ticket.get(buyer):
            whose = "" if state == "AVAILABLE" else " of another" if holder != ticket.get(buyer) else ""
            broken.append(f"{seat}, sold to buyer {buyer} at {one.ended_s:.2f} s, is {state}{whose}")
    return finding("lost", "Acknowledged sales that are lost", "acknowledged", len(sold), broken)


def _sold_unasked(sale: Sale) -> Finding:
    assert sale.remains  # noqa: S101
    buyer_of = {ticket: buyer for buyer, ticket in tickets_of(sale).items()}
    wanted = {(one.buyer, seat) for one in sale.requests if one.kind == "confirm" for seat in one.asked}
    sold = [seat for seat, state in sale.remains.status.items() if state == "SOLD"]
    broken = []
    for seat in sold:
        buyer = buyer_of.get(sale.remains.holder.get(seat, ""))
        if (buyer, seat) not in wanted:
            broken.append(f"{seat} is sold to {'nobody known' if buyer is None else f'buyer {buyer}'}, who never asked")
    return finding("sold_unasked", "Seats sold to who did not buy them", "acknowledged", len(sold), broken)


def _ends(sale: Sale, hold: Request, mine: list[Request]) -> float:
    """Return until when a hold stands: its end, or when its buyer begins to give it back; for ever if it is bought."""
    ends_s = seconds(sale, hold.said["expires_at"])
    for one in mine:
        if one.begun_s < hold.ended_s:
            continue
        if one.kind == "confirm" and one.acknowledged and set(one.asked) == set(hold.asked):
            return float("inf")
        if one.kind == "leave" or (one.kind == "release" and set(one.asked) & set(hold.asked)):
            ends_s = min(ends_s, one.begun_s)
    return ends_s


def _held_twice(sale: Sale) -> Finding:
    spans: dict[str, list[tuple[float, float, float, int]]] = defaultdict(list)
    count = 0
    for buyer, mine in by_buyer(sale, "hold", "release", "confirm", "leave").items():
        first: dict[str, Request] = {}
        for one in mine:
            if one.kind == "hold" and one.acknowledged:
                first.setdefault(one.key, one)
        began = {one.key: one.begun_s for one in reversed(mine)}
        for one in first.values():
            count += 1
            for seat in one.asked:
                spans[seat].append((began[one.key], one.ended_s, _ends(sale, one, mine), buyer))
    broken = []
    for seat, held in spans.items():
        held.sort(key=lambda span: span[1])
        for (_, got_s, until_s, who), (begun_s, ended_s, _, other) in pairwise(held):
            if who != other and begun_s >= got_s and ended_s < until_s - _CLOCKS_S:
                until = "for good" if until_s == float("inf") else f"to {until_s:.2f} s"
                whose = f"buyer {who} from {got_s:.2f} s {until}"
                broken.append(f"{seat}: {whose}, buyer {other} at {ended_s:.2f} s")
    return finding("held_twice", "Seats held by two at once", "acknowledged", count, broken)


def _hold_lost(sale: Sale) -> Finding:
    broken, count = [], 0
    for buyer, mine in by_buyer(sale, "hold", "release", "confirm", "leave").items():
        for hold in (one for one in mine if one.kind == "hold" and one.acknowledged):
            ends_s = _ends(sale, hold, [one for one in mine if one.kind in {"release", "leave"}])
            for one in mine:
                if one.kind != "confirm" or one.asked != hold.asked or one.begun_s < hold.ended_s:
                    continue
                if one.ended_s < ends_s - _CLOCKS_S:
                    count += 1
                    if one.code == "NOT_HOLDER":
                        held = f"{names(hold.asked)} of buyer {buyer}, held at {hold.ended_s:.2f} s"
                        broken.append(f"{held}, refused at {one.ended_s:.2f} s")
    return finding("hold_lost", "Holds that were denied before their end", "acknowledged", count, broken)


def _inventory(sale: Sale) -> Finding:
    most, broken, count = len(sale.header["seats"]), [], 0
    for one in sale.requests:
        if not one.acknowledged:
            continue
        when = f"{one.kind} at {one.ended_s:.2f} s"
        if "remaining" in one.said:
            count += 1
            if not 0 <= one.said["remaining"] <= most:
                broken.append(f"{when}: {one.said['remaining']} seats left of {most}")
        if one.kind == "event":
            count += 1
            left, held, sold = (one.said["counts"][name] for name in ("remaining", "held", "sold"))
            if left + held + sold != most or min(left, held, sold) < 0:
                broken.append(f"{when}: {left} left, {held} held and {sold} sold are not {most}")
    return finding("inventory", "Answers in which the seats do not add up", "always", count, broken)


def _late(sale: Sale) -> Finding:
    """Holds of those who walked away, of which an answer said too long after their end that they stand."""
    calm = Calm(sale)
    place = {seat: at for at, seat in enumerate(sale.header["seats"])}
    maps = [one for one in sale.requests if one.kind == "seats" and one.acknowledged and one.buyer == OPERATOR]
    maps.sort(key=lambda one: one.begun_s)
    claims: dict[str, list[Request]] = defaultdict(list)
    for one in sale.requests:
        if one.kind == "hold" and not one.refused:
            for seat in one.asked:
                claims[seat].append(one)
    broken, count = [], 0
    for buyer, mine in by_buyer(sale, "hold", "release", "confirm", "leave").items():
        last = mine[-1]
        if last.kind != "hold" or not last.acknowledged:
            continue
        ends_s = seconds(sale, last.said["expires_at"])
        for seat in last.asked:
            count += 1
            others = (one.begun_s for one in claims[seat] if one.buyer != buyer and one.ended_s > last.ended_s)
            claimed_s = min(others, default=float("inf"))
            for one in maps:
                late_s = one.begun_s - ends_s
                stands = one.said["map"][place[seat]] == "H" and one.ended_s < claimed_s
                if stands and late_s > BACK_WITHIN_S + calm.disturbed_s(ends_s, one.begun_s):
                    broken.append(f"{seat}: its hold ended at {ends_s:.2f} s, and stood at {one.begun_s:.2f} s")
                    break
    title = f"Holds that stood more than {BACK_WITHIN_S:g} s after their end"
    return finding("late", title, "timed", count, broken)
