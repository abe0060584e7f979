"""How a connection of a client fared after the fault, and since when it works again: from its own operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from understudy.drill.findings import Life, Outage
from understudy.drill.history import History
from understudy.drill.operation import Operation, Outcome
from understudy.drill.outage import HICCUP_US, by_shard, origin_us, since_s, usable

FINAL_US = 1_000_000
"""The last second: what succeeds in it has recovered."""


def life(history: History, operations: Iterable[Operation], found: Iterable[Outage] = ()) -> Life:
    """Return how a connection fared after the fault, from its own operations, and the outages that these show."""
    fault_us = origin_us(history)
    since = [one for one in operations if one.due_us >= fault_us]
    shards = by_shard(since)
    telling = _asked_since_usable(history, shards)
    recovered = bool(since) and all(works_at_the_end(one, history.ended_us) for one in telling)
    return Life(
        tried=len(since),
        succeeded=sum(one.outcome is Outcome.OK for one in since),
        back_s=since_s(fault_us, _back(history, shards.values(), found)) if recovered else None,
        recovered=recovered,
    )


def _asked_since_usable(history: History, shards: Mapping[int, Sequence[Operation]]) -> list[Sequence[Operation]]:
    """Return the shards that were asked after clients could know of a new primary, or all where none was.

    What failed before that, and was never tried again, says nothing about the client.
    """
    usable_us = {shard: usable(history.events, shard, origin_us(history)) or 0 for shard in shards}
    asked = [one for shard, one in shards.items() if one[-1].ended_us >= usable_us[shard]]
    return asked or list(shards.values())


def _back(history: History, shards: Iterable[Sequence[Operation]], found: Iterable[Outage]) -> int | None:
    """Return when the last shard was back of those where anything failed or had to wait; else the first success of any.

    Never before an outage that was found had ended. None where a shard failed last. Shards on which all went well only
    say how seldom they were asked.
    """
    fault_us = origin_us(history)
    applied_us = min((one.at_us for one in history.events if one.kind == "applied"), default=fault_us)
    back, well = [], []
    for operations in shards:
        failed_us = max((one.due_us for one in operations if one.outcome is not Outcome.OK), default=None)
        since_us = applied_us if failed_us is None else max(applied_us, failed_us + 1)
        first_us = min(
            (one.ended_us for one in operations if one.outcome is Outcome.OK and one.due_us >= since_us), default=None
        )
        waited_us = _waited_until(operations)
        if failed_us is None and waited_us is None:
            well += [] if first_us is None else [first_us]
        elif failed_us is not None and first_us is None:
            return None
        else:
            back.append(max(first_us or 0, waited_us or 0))
    sustained = [one.sustained_s for one in found]
    if None in sustained or not (back or well):
        return None
    ended = [fault_us + round(at_s * 1e6) for at_s in sustained if at_s is not None]
    return max((back or [min(well)]) + ended)


def _waited_until(operations: Iterable[Operation]) -> int | None:
    """Return when the longest wait for a success ended, from when it was due or another one came; None if by chance."""
    good = sorted((one for one in operations if one.outcome is Outcome.OK), key=attrgetter("ended_us"))
    ended = [0, *(one.ended_us for one in good)]
    waits = [(one.ended_us - max(before, one.due_us), one.ended_us) for before, one in zip(ended, good, strict=False)]
    longest_us, until_us = max(waits, default=(0, 0))
    return until_us if longest_us > HICCUP_US else None


def works_at_the_end(operations: Sequence[Operation], ended_us: int) -> bool:
    """Tell whether at least half of a shard's operations due in the final second succeeded; without any, the last one.

    A few errors that go on for ever are told by their count, and are no outage.
    """
    final = [one for one in operations if one.due_us > ended_us - FINAL_US] or operations[-1:]
    return 2 * sum(one.outcome is Outcome.OK for one in final) >= len(final)
