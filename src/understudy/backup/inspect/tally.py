"""What is counted of keys: each key once, in one cell of type, size and expiry, so that every view adds up to the same.

Cells are `(type, size, at taking, now)`, where size is the number of digits of the payload's bytes, and the other two
are indexes of `WHEN` for the two moments.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.backup.inspect.heavy import Count, Heavy
from understudy.backup.inspect.names import prefix
from understudy.backup.record import Records

MINUTE_MS = 60_000
WHEN = ("never", "past", "hour", "day", "week", "month", "later")
_AFTER_MS = (0, 60 * MINUTE_MS, 1440 * MINUTE_MS, 7 * 1440 * MINUTE_MS, 30 * 1440 * MINUTE_MS)
_POWERS = tuple(10**power for power in range(1, 13))
MOST_NAME_BYTES = 4096  # of a listed largest key
Cell = tuple[str, int, int, int]
Large = tuple[int, bytes, int, str, int]  # bytes, name, database, type, expiry in milliseconds or NEVER
NEVER = -1


@dataclass(frozen=True)
class Plan:
    """How to count: separators and depth of prefixes, how many largest keys, the two moments in milliseconds."""

    separators: tuple[bytes, ...]
    depth: int
    top: int
    taken_ms: int
    now_ms: int

    def as_data(self) -> dict[str, Any]:
        """Return it for a worker."""
        return vars(self) | {"separators": [one.decode() for one in self.separators]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Plan:
        """Read what `as_data` wrote."""
        return cls(
            tuple(one.encode() for one in data["separators"]), data["depth"], data["top"], data["taken_ms"],
            data["now_ms"],
        )  # fmt: skip


class Tally:
    """The counts of some keys; those of several workers are merged."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cells: dict[Cell, Count] = defaultdict(lambda: [0, 0])
        self.prefixes = Heavy()
        self.databases = Heavy()
        self.without: Count = [0, 0]  # keys that have no separator in their name
        self._large: list[Large] = []
        self._edges = [[moment + after for after in _AFTER_MS] for moment in (plan.taken_ms, plan.now_ms)]

    def add(self, records: Records, sizes: Sequence[int] | None = None) -> None:
        """Count keys; `sizes` are their bytes where those are not the payloads'."""
        then_edges, now_edges = self._edges
        cells, heavy, without = self.cells, self.prefixes, self.without
        separators, depth = self.plan.separators, self.plan.depth
        table = heavy.table
        sizes = [len(payload) for payload in records.payloads] if sizes is None else sizes
        for key, kind, expiry, size in zip(records.keys, records.types, records.expire_at_ms, sizes, strict=True):
            if expiry is None:
                cell = cells[kind, bisect_right(_POWERS, size), 0, 0]
            else:
                then, now = bisect_left(then_edges, expiry), bisect_left(now_edges, expiry)
                cell = cells[kind, bisect_right(_POWERS, size), then + 1, now + 1]
            cell[0] += 1
            cell[1] += size
            begins = prefix(key, separators, depth)
            entry = without if begins is None else table.get(begins)
            if entry is None:
                heavy.add(begins, 1, size)  # type: ignore[arg-type]  # a name without one is counted in `without`
                table = heavy.table
            else:
                entry[0] += 1
                entry[1] += size
        self._add_databases(records.dbs, sizes)
        self._add_large(records, sizes)

    def _add_databases(self, dbs: Sequence[int], sizes: Sequence[int]) -> None:
        if len(set(dbs)) == 1:
            self.databases.add(b"%d" % dbs[0], len(dbs), sum(sizes))
            return
        for db, size in zip(dbs, sizes, strict=True):
            self.databases.add(b"%d" % db, 1, size)

    def _add_large(self, records: Records, sizes: Sequence[int]) -> None:
        floor = self._large[0][0] if len(self._large) == self.plan.top else -1
        for at, size in enumerate(sizes):
            if size > floor:
                key = records.keys[at][:MOST_NAME_BYTES]
                self._keep((size, key, records.dbs[at], records.types[at], records.expire_at_ms[at] or NEVER))
                floor = self._large[0][0] if len(self._large) == self.plan.top else -1

    def _keep(self, one: Large) -> None:
        if len(self._large) < self.plan.top:
            heapq.heappush(self._large, one)
        else:
            heapq.heappushpop(self._large, one)

    @property
    def largest(self) -> list[Large]:
        """Return the largest keys, the largest first; names are cut at `MOST_NAME_BYTES`."""
        return sorted(self._large, key=lambda one: (-one[0], one[1], one[2]))

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "cells": [[*cell, *count] for cell, count in self.cells.items()],
            "prefixes": self.prefixes.as_data(),
            "databases": self.databases.as_data(),
            "without": self.without,
            "large": [[one[0], one[1].decode("latin-1"), *one[2:]] for one in self._large],
        }

    def merge(self, data: Mapping[str, Any]) -> None:
        """Add what `as_data` of another one returned."""
        for kind, size, then, now, *count in data["cells"]:
            for at in (0, 1):
                self.cells[kind, size, then, now][at] += count[at]
        self.prefixes.merge(data["prefixes"])
        self.databases.merge(data["databases"])
        for at in (0, 1):
            self.without[at] += data["without"][at]
        for size, name, db, kind, expiry in data["large"]:
            self._keep((size, name.encode("latin-1"), db, kind, expiry))
