"""What the checks share."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from understudy.sale.findings import MOST_EXAMPLES, Basis, Finding
from understudy.sale.record import OPERATOR, Request, Sale

_LINGERS_S = 2.0  # until gateways have heard that all is whole


def finding(name: str, title: str, basis: Basis, of: int, broken: Sequence[str]) -> Finding:
    """Return a finding of the texts that say how it was broken."""
    return Finding(name, title, basis, len(broken), of, tuple(broken[:MOST_EXAMPLES]))


def by_buyer(sale: Sale, *kinds: str) -> dict[int, list[Request]]:
    """Return each buyer's requests of these kinds, in the order in which they were answered."""
    found: dict[int, list[Request]] = defaultdict(list)
    for one in sale.requests:
        if one.kind in kinds and one.buyer != OPERATOR:
            found[one.buyer].append(one)
    for requests in found.values():
        requests.sort(key=lambda one: one.ended_s)
    return found


def tickets_of(sale: Sale) -> dict[int, str]:
    """Return the ticket id that each buyer was given first."""
    found: dict[int, str] = {}
    for one in sale.requests:
        if one.kind == "join" and one.acknowledged:
            found.setdefault(one.buyer, one.said["ticket"])
    return found


def seconds(sale: Sale, moment: str) -> float:
    """Return a time of the server, as answers have it, in the sale's seconds."""
    return datetime.fromisoformat(moment).timestamp() - float(sale.header["zero_ms"]) / 1000


class Calm:
    """When nothing was wrong with the servers: all but from a fault until everyone agreed again."""

    def __init__(self, sale: Sale) -> None:
        self._spans: list[tuple[float, float]] = []
        began: float | None = None
        for event in sorted(sale.events, key=lambda one: one.at_us):
            at_s = event.at_us / 1e6
            if event.kind in {"fault", "unmended"} and began is None:
                began = at_s
            elif began is not None and (
                event.kind == "whole" or (event.kind == "undone" and event.node.startswith("gateway"))
            ):
                self._spans.append((began, at_s + _LINGERS_S))
                began = None
        if began is not None:
            self._spans.append((began, float("inf")))
        self._starts = [begin for begin, _ in self._spans]

    def between(self, from_s: float, to_s: float) -> bool:
        """Return whether it was calm all this time."""
        return not self.disturbed_s(from_s, to_s)

    def disturbed_s(self, from_s: float, to_s: float) -> float:
        """Return how much of this time it was not."""
        upto = bisect_right(self._starts, to_s)
        return sum(max(0.0, min(to_s, end) - max(from_s, begin)) for begin, end in self._spans[:upto])


def names(some: Iterable[str]) -> str:
    """Return names as text."""
    return ", ".join(some)
