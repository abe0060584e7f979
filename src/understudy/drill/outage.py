"""How long each shard was of no use to a client: from busy operations.

Successes count when they ended, for it is then that the caller had them. An operation is of the time after the fault
when it was due at or after it. A run without a fault is measured from its start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from statistics import median

from understudy.drill.findings import Outage
from understudy.drill.history import Event, History
from understudy.drill.operation import Operation, Outcome

NOTEWORTHY = 5
"""So many times the usual time between two successes is a gap that is worth showing."""

HICCUP_US = 500_000
"""Up to so much a small machine stands still now and then, and no shard has to get over it."""

_by_due = attrgetter("due_us")


def origin_us(history: History) -> int:
    """Return the moment that times are relative to: when the fault began, or 0 where there was none."""
    return history.fault_us or 0


def by_shard(operations: Iterable[Operation]) -> dict[int, list[Operation]]:
    """Return operations by shard, each list in the order in which they were due."""
    found: defaultdict[int, list[Operation]] = defaultdict(list)
    for one in operations:
        found[one.shard].append(one)
    return {shard: sorted(found[shard], key=_by_due) for shard in sorted(found)}


def outages(history: History, busy: Iterable[Operation]) -> tuple[Outage, ...]:
    """Return the longest outage of every shard that the busy operations of a client went to."""
    return tuple(_outage(history, shard, operations) for shard, operations in by_shard(busy).items())


def _outage(history: History, shard: int, operations: Sequence[Operation]) -> Outage:
    fault_us = origin_us(history)
    successes = sorted(one.ended_us for one in operations if one.outcome is Outcome.OK)
    failures = [one for one in operations if one.outcome is not Outcome.OK]
    bad = [one for one in failures if one.ended_us >= fault_us]
    began_us, ended_us = _longest_gap(successes, operations[0].due_us, fault_us)
    # Silence at the end is an outage only where something was tried in it.
    last_us = successes[-1] if successes else operations[0].due_us
    end_us = max(history.ended_us, *(one.ended_us for one in operations))
    if not successes or (any(one.ended_us > last_us for one in bad) and end_us - last_us > (ended_us or 0) - began_us):
        began_us, ended_us = last_us, None
    gap_us = (end_us if ended_us is None else ended_us) - began_us
    usual_us = _spacing(successes, history.fault_us)
    well_us = ended_us
    if ended_us is not None and usual_us is not None and gap_us <= max(HICCUP_US, NOTEWORTHY * usual_us):
        well_us = next((at_us for at_us in successes if at_us >= fault_us), ended_us)
    usable_us = usable(history.events, shard, fault_us)
    needed_us = None
    if ended_us is not None and usable_us is not None and began_us <= usable_us <= ended_us:
        needed_us = ended_us - usable_us
    return Outage(
        shard=shard + 1,
        gap_s=gap_us / 1e6,
        began_s=(began_us - fault_us) / 1e6,
        ended_s=since_s(fault_us, ended_us),
        sustained_s=since_s(fault_us, _sustained(operations, bad, well_us)),
        promoted_s=since_s(fault_us, promotion(history.events, shard, fault_us)),
        usable_s=since_s(fault_us, usable_us),
        client_s=None if needed_us is None else needed_us / 1e6,
        failed=len(bad),
    )


def _longest_gap(successes: Sequence[int], first_due_us: int, fault_us: int) -> tuple[int, int | None]:
    """Return the longest gap between successes that ends after the fault, and is not the silence at the end."""
    gaps = [(a, b) for a, b in pairwise([min([first_due_us, *successes[:1]]), *successes]) if b > fault_us]
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=(first_due_us, first_due_us))


def _spacing(successes: Sequence[int], before_us: int | None) -> float | None:
    """Return the usual time between two successes, before a moment if there is one; None where there were no two."""
    counted = [at_us for at_us in successes if before_us is None or at_us < before_us]
    return median(b - a for a, b in pairwise(counted)) if len(counted) > 1 else None


def _sustained(operations: Sequence[Operation], bad: Sequence[Operation], well_us: int | None) -> int | None:
    """Return the first success due after the last failure, or the end of the outage where that is later."""
    if well_us is None or operations[-1].outcome is not Outcome.OK:
        return None
    last_bad_us = max((one.due_us for one in bad), default=None)
    if last_bad_us is None:
        return well_us
    return max(well_us, next((one.ended_us for one in operations if one.due_us > last_bad_us), well_us))


def promotion(events: Iterable[Event], shard: int, since_us: int) -> int | None:
    """Return when a new primary of a shard was first seen."""
    return _first(events, "promoted", shard, since_us)


def usable(events: Iterable[Event], shard: int, since_us: int) -> int | None:
    """Return when clients could know of a shard's new primary: from its promotion, or from when a sentinel named it."""
    promoted_us = _first(events, "promoted", shard, since_us)
    switched_us = _first(events, "switched", shard, since_us)
    return None if promoted_us is None else max(promoted_us, switched_us or promoted_us)


def _first(events: Iterable[Event], kind: str, shard: int, since_us: int) -> int | None:
    times = (one.at_us for one in events if one.kind == kind and one.shard in {shard, None})
    return min((at_us for at_us in times if at_us >= since_us), default=None)


def resolution_s(history: History, busy: Iterable[Operation]) -> float | None:
    """Return the usual time between two successes on the shard that sees the fewest, before the fault.

    No outage can be seen that is shorter, and every one is measured that much too long at most.
    """
    shards = [
        _spacing(sorted(one.ended_us for one in operations if one.outcome is Outcome.OK), history.fault_us)
        for operations in by_shard(busy).values()
    ]
    spacings = [spacing for spacing in shards if spacing is not None]
    return max(spacings) / 1e6 if spacings else None


def since_s(fault_us: int, at_us: int | None) -> float | None:
    """Return a moment in seconds since the fault."""
    return None if at_us is None else (at_us - fault_us) / 1e6
