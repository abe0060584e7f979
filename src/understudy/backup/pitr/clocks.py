"""Which streams were written by a clock that was set back since: what they say of later seconds is not so.

A stream says up to when its shard had been archived when it began (`gap.from_ms`). Where that is later than its own
beginning, the clock was set back in between: what was archived before it ends, in truth, where it begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dated:
    """What tells the order of streams: when one begins and ends by its clock, and what led up to it.

    `gap_from_ms` is up to when its shard had been archived before; `serves` its slots first and last (None: all).
    """

    id: str
    begins_ms: int
    until_ms: int
    gap_from_ms: int | None
    previous: str | None
    node: str
    replid: str
    offset: int
    serves: tuple[frozenset[int] | None, frozenset[int] | None] = (None, None)


def set_back(streams: Iterable[Dated]) -> dict[str, list[Dated]]:
    """Return, for each stream that was written by a clock ahead, those that began when the clock had been set back."""
    known = {one.id: one for one in streams}
    found: dict[str, list[Dated]] = {}
    for new in known.values():
        if new.gap_from_ms is None or new.gap_from_ms <= new.begins_ms:
            continue
        for old in known.values():
            if old is not new and old.until_ms > new.begins_ms and _older(old, new, new.gap_from_ms, known):
                found.setdefault(old.id, []).append(new)
    return found


def _older(old: Dated, new: Dated, reached_ms: int, known: Mapping[str, Dated]) -> bool:
    """Tell whether a stream was there before one that began when `reached_ms` had been reached.

    What began later has this among what led up to it: it says a moment that is not before `reached_ms`.
    """
    first = _first(old, known)
    if first is new:
        return False
    if old.replid == new.replid and old.offset != new.offset:  # of one primary: it counts on, whatever clocks say
        return old.offset < new.offset
    same = None in (*old.serves, *new.serves) or old.node == new.node or old.serves[1] == new.serves[0]
    return same and old.until_ms <= reached_ms and (first.gap_from_ms is None or first.gap_from_ms < reached_ms)


def _first(stream: Dated, known: Mapping[str, Dated]) -> Dated:
    """Return the stream that nothing leads up to without a gap, which this one goes on from."""
    seen = {stream.id}
    while stream.previous and stream.previous in known and stream.previous not in seen:
        stream = known[stream.previous]
        seen.add(stream.id)
    return stream
