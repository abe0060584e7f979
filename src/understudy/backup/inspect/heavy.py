"""Counts by a name of which there may be any number, in bounded memory: the heavy ones are kept, the rest is summed.

What was dropped is never lost: it is in `rest`, so that the counts always add up to all that was counted. A name that
was dropped and came again counts too little, by `slack` at most; without a drop every count is exact.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 20_000
Count = list[int]  # keys, bytes


class Heavy:
    """Keys and bytes by name. `table` is open to loops that count millions; they call `prune` when it is `full`."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.table: dict[bytes, Count] = {}
        self.rest: Count = [0, 0]
        self.slack: Count = [0, 0]

    def add(self, name: bytes, keys: int, size: int) -> None:
        """Count so many keys and bytes."""
        if (entry := self.table.get(name)) is not None:
            entry[0] += keys
            entry[1] += size
            return
        self.table[name] = [keys, size]
        if len(self.table) > self.most:
            self.prune()

    def prune(self) -> None:
        """Drop all but those with the most keys and those with the most bytes: half of what is held."""
        kept = self.top(self.most // 4, 0) | self.top(self.most // 4, 1)
        dropped = [entry for name, entry in self.table.items() if name not in kept]
        for at in (0, 1):
            self.rest[at] += sum(entry[at] for entry in dropped)
            self.slack[at] += max((entry[at] for entry in dropped), default=0)
        self.table = {name: entry for name, entry in self.table.items() if name in kept}

    def top(self, number: int, by: int) -> set[bytes]:
        """Return the names of the largest by keys (0) or bytes (1); of equal ones those that sort first."""
        table = self.table
        return set(heapq.nsmallest(number, table, key=lambda name: (-table[name][by], -table[name][1 - by], name)))

    def largest(self, number: int) -> list[tuple[bytes, int, int]]:
        """Return the largest with keys and bytes, most bytes first."""
        names = self.top(number, 1)
        rows = [(name, *self.table[name]) for name in names]
        return sorted(rows, key=lambda row: (-row[2], -row[1], row[0]))  # type: ignore[arg-type]

    @property
    def exact(self) -> bool:
        """Tell whether nothing was ever dropped."""
        return self.slack == [0, 0] and self.rest == [0, 0]

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        rows = [[name.decode("latin-1"), *entry] for name, entry in self.table.items()]
        return {"table": rows, "rest": self.rest, "slack": self.slack}

    def merge(self, data: Mapping[str, Any]) -> None:
        """Add what `as_data` of another one returned."""
        for name, keys, size in data["table"]:
            self.add(name.encode("latin-1"), keys, size)
        for at in (0, 1):
            self.rest[at] += data["rest"][at]
            self.slack[at] += data["slack"][at]


def totals(entries: Iterable[Iterable[int]]) -> Count:
    """Return the sums of keys and bytes."""
    keys = size = 0
    for one, other in entries:
        keys, size = keys + one, size + other
    return [keys, size]
