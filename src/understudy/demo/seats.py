"""Whose seat is it, before the loss and after the restore?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.sale.record import Remains

SOLD = "SOLD"


@dataclass(frozen=True)
class Seats:
    """Every seat of the event by name, and which ticket had bought it: before the loss, and after the restore.

    `users` has who was behind each ticket.
    """

    names: tuple[str, ...]
    before: Mapping[str, str]
    after: Mapping[str, str]
    users: Mapping[str, str]

    @classmethod
    def compare(cls, before: Remains | None, after: Remains | None) -> Seats:
        """Compare an event as the servers held it; None where it could not be read."""
        both = [one for one in (after, before) if one]
        known = {name for one in both for name in one.status}
        users = {ticket: one["user"] for here in both for ticket, one in here.tickets.items() if "user" in one}
        return cls(tuple(sorted(known, key=_by_number)), _holders(before), _holders(after), users)

    @property
    def sold(self) -> int:
        """Return how many were sold before the loss."""
        return len(self.before)

    @property
    def same(self) -> int:
        """Return how many of these have the same buyer again."""
        return sum(self.after.get(seat) == ticket for seat, ticket in self.before.items())

    @property
    def others(self) -> tuple[str, ...]:
        """Return the seats that have another buyer now, or one only now, or none any more."""
        seats = self.before.keys() | self.after.keys()
        return tuple(sorted((seat for seat in seats if self.before.get(seat) != self.after.get(seat)), key=_by_number))

    @property
    def all_same(self) -> bool:
        """Tell whether every sold seat has the buyer whom it had, and no other one is sold."""
        return not self.others

    @property
    def differences(self) -> str:
        """Return how many are wrong in which way."""
        gone, new = len(self.before.keys() - self.after.keys()), len(self.after.keys() - self.before.keys())
        return f"{len(self.others) - gone - new:,} of another buyer, {gone:,} not sold any more, {new:,} sold only now"

    @property
    def examples(self) -> list[str]:
        """Return in words what is wrong with each seat."""
        both = ((one, self.buyer(self.before, one), self.buyer(self.after, one)) for one in self.others)
        return [f"{seat} of {before} is now of {after}" for seat, before, after in both]

    def buyer(self, of: Mapping[str, str], seat: str) -> str:
        """Return who has bought a seat, `before` or `after`; the ticket where nobody knows whose that is."""
        return self.users.get(of[seat], of[seat]) if seat in of else "nobody"


def _by_number(name: str) -> tuple[int, str]:
    return len(name), name


def _holders(remains: Remains | None) -> dict[str, str]:
    """Return the ticket that bought each sold seat."""
    return {
        seat: remains.holder.get(seat, "nobody known") for seat, state in remains.status.items() if state == SOLD
    } if remains else {}  # fmt: skip
