"""Clients over time, in buckets; all of a drill share one time axis, with the fault on a border between two buckets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from understudy.drill.findings import Series, Ticks
from understudy.drill.history import History
from understudy.drill.latency import percentile
from understudy.drill.operation import Operation, Outcome, Part
from understudy.drill.outage import origin_us

MOST_BUCKETS = 240
STEPS_US = tuple(step * 10**power for power in (3, 4, 5, 6, 7, 8, 9) for step in (50, 100, 200, 250))
"""Lengths of a bucket that can be read off an axis."""


@dataclass(frozen=True)
class Axis:
    """`count` buckets of `bucket_us` each, the first from `from_us`."""

    from_us: int
    bucket_us: int
    count: int

    @classmethod
    def of(cls, history: History) -> Axis:
        """Return the axis that has room for every operation of a history, and for its fault."""
        origin = origin_us(history)
        first = min((one.due_us for one in history.operations), default=0)
        last = max((one.ended_us for one in history.operations), default=0)
        first, last = min(first, origin), max(last, origin, history.ended_us)
        for bucket in STEPS_US:
            before, after = ceil((origin - first) / bucket), (last - origin) // bucket + 1
            if before + after <= MOST_BUCKETS:
                break
        return cls(origin - before * bucket, bucket, before + after)

    def place(self, at_us: int) -> int:
        """Return the bucket of a moment."""
        return (at_us - self.from_us) // self.bucket_us


def series(history: History, axis: Axis, client: str, operations: Iterable[Operation]) -> Series:
    """Return one client over time, from its operations: the busy ones as series, the others as ticks."""
    ended = {outcome: [0] * axis.count for outcome in Outcome}
    took: list[list[int]] = [[] for _ in range(axis.count)]
    errors: defaultdict[str, list[int]] = defaultdict(lambda: [0] * axis.count)
    quiet = {part: ([0] * axis.count, [0] * axis.count) for part in (Part.IDLE, Part.FRESH)}
    for one in operations:
        bucket = axis.place(one.ended_us)
        if one.part is not Part.BUSY:
            quiet[one.part][one.outcome is not Outcome.OK][bucket] += 1
            continue
        ended[one.outcome][bucket] += 1
        if one.outcome is Outcome.OK:
            took[axis.place(one.due_us)].append(one.ended_us - one.due_us)
        else:
            errors[one.error][bucket] += 1
    for values in took:
        values.sort()
    return Series(
        client=client,
        from_s=(axis.from_us - origin_us(history)) / 1e6,
        bucket_s=axis.bucket_us / 1e6,
        ok=tuple(ended[Outcome.OK]),
        failed=tuple(ended[Outcome.FAILED]),
        indeterminate=tuple(ended[Outcome.INDETERMINATE]),
        p50_ms=tuple(percentile(values, 0.5) / 1000 if values else None for values in took),
        max_ms=tuple(values[-1] / 1000 if values else None for values in took),
        errors={error: tuple(errors[error]) for error in sorted(errors, key=lambda name: -sum(errors[name]))},
        idle=Ticks(*map(tuple, quiet[Part.IDLE])),
        fresh=Ticks(*map(tuple, quiet[Part.FRESH])),
    )
