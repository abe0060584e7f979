"""How long operations took, from when they were due: exact percentiles, no histogram in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

from understudy.drill.findings import Latency, Outage
from understudy.drill.history import History
from understudy.drill.operation import Operation, Outcome


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the nearest-rank percentile: the least of the values that `share` of all of them do not exceed."""
    return ordered[max(1, ceil(round(share * len(ordered), 6))) - 1]


def latency(operations: Iterable[Operation]) -> Latency:
    """Return the latency of those operations that succeeded."""
    took = sorted(one.ended_us - one.due_us for one in operations if one.outcome is Outcome.OK)
    if not took:
        return Latency(0)
    p50, p99, p999 = (percentile(took, share) / 1000 for share in (0.5, 0.99, 0.999))
    return Latency(len(took), p50, p99, p999, took[-1] / 1000)


def phases(history: History, busy: Iterable[Operation], outages: Iterable[Outage]) -> dict[str, Latency]:
    """Return latency before the fault, during it (until all shards had recovered for good, or the end) and after.

    Operations belong to the phase in which they were due, but those that were under way when the fault began do not
    tell how it was before. Without a fault all of them were before it.
    """
    found: dict[str, list[Operation]] = {"before": [], "during": [], "after": []}
    fault_us = history.fault_us
    sustained = [one.sustained_s for one in outages]
    for one in busy:
        since_s = (one.due_us - (fault_us or 0)) / 1e6
        if fault_us is None or one.ended_us < fault_us:
            found["before"].append(one)
        elif all(at_s is not None and since_s >= at_s for at_s in sustained):
            found["after"].append(one)
        else:
            found["during"].append(one)
    return {phase: latency(operations) for phase, operations in found.items()}


def drift_p99_ms(history: History, busy: Iterable[Operation]) -> float | None:
    """Return how late operations began before the fault, in milliseconds: the tool's own doing, not the servers'."""
    return _late_p99_ms(one for one in busy if history.fault_us is None or one.due_us < history.fault_us)


def drift_after_p99_ms(history: History, busy: Iterable[Operation]) -> float | None:
    """Return how late operations due since the fault began, in milliseconds: so much of their latency is our waiting.

    The machine was too slow, or every worker was in a call that did not end: then the servers have their part in it.
    None where there was no fault, and where there is no rate to be kept (0, of the probe): there one waits for another.
    """
    if not history.header.get("rate", 1):
        return None
    return _late_p99_ms(one for one in busy if history.fault_us is not None and one.due_us >= history.fault_us)


def _late_p99_ms(operations: Iterable[Operation]) -> float | None:
    late = sorted(one.begun_us - one.due_us for one in operations)
    return percentile(late, 0.99) / 1000 if late else None
