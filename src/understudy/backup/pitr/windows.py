"""Which seconds of the past an archive can give back, which not and why, and who serves one: pure functions.

Second S stands for its end, the moment (S + 1) * 1000 in milliseconds: whatever was applied in S is in. A stream gives
it where that moment lies in what its base and chunks vouch for. A cluster is whole where its streams together served
every slot then; of two that served a slot the later begun one counts.

Shards are looked at one after the other, and a slot may come or go meanwhile: then two of them serve it, and the one
from which it does not go counts; or none does, and the one to which it goes counts, if the one that gave it is there.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from understudy.backup.pitr.stream import ChunkName
from understudy.valkey.topology import SLOTS

ALL_SLOTS = (1 << SLOTS) - 1
"""Every slot, as bits. Outside of a cluster a stream serves all of them."""
_LAGGED = "the copy lagged behind its primary, or was not connected"
_NOTHING = "nothing was archived"
_UNSERVED = "{:,} slots were served by no primary that was archived"


class Span(NamedTuple):
    """A stretch, both ends in it: of moments in milliseconds, or of seconds."""

    first: int
    last: int


class Serving(NamedTuple):
    """From a moment on a shard served these slots, as bits; `moving` are those that came or went just then."""

    from_ms: int
    slots: int = ALL_SLOTS
    moving: int = 0


@dataclass(frozen=True)
class Track:
    """What one stream has: the moments it can give back, what it served when, and why it has no forerunner.

    `gap_why` says why nothing leads up to its beginning, from `gap_from_ms` on; `broken` what is missing behind its
    last span, if anything is.
    """

    stream: str
    begins_ms: int
    spans: tuple[Span, ...]
    servings: tuple[Serving, ...] = (Serving(0),)
    gap_from_ms: int | None = None
    gap_why: str | None = None
    broken: str | None = None

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """Return what it had of the slots from each change on."""
        found: list[Share] = []
        came_from_here, ever = 0, 0  # as long as it moves a slot is on its way out where it was served before
        for one in self.servings:
            came_from_here = (came_from_here & one.moving) | one.slots
            found.append(Share(one.slots, one.moving, one.moving & ~came_from_here, ever & ~one.slots))
            ever |= one.slots
        return tuple(found)

    def share(self, second: int) -> Share | None:
        """Return what it had of the slots at the end of a second; None: nobody knows."""
        at = bisect_right([one.from_ms for one in self.servings], (second + 1) * 1000)
        return self.shares[at - 1] if at else None

    def gives(self, second: int) -> bool:
        """Tell whether it can give back a second."""
        moment = (second + 1) * 1000
        at = bisect_right(self.spans, (moment, float("inf")))
        return bool(at) and moment <= self.spans[at - 1].last


@dataclass(frozen=True)
class Gap:
    """Seconds between two windows, and every reason that is known."""

    first: int
    last: int
    why: tuple[str, ...]


@dataclass(frozen=True)
class Windows:
    """The seconds that can be restored, oldest first, and the gaps between them: one fewer."""

    spans: tuple[Span, ...] = ()
    gaps: tuple[Gap, ...] = field(default=())

    def holds(self, second: int) -> bool:
        """Tell whether a second can be restored."""
        at = bisect_right(self.spans, (second, float("inf")))
        return bool(at) and second <= self.spans[at - 1].last

    def nearest(self, second: int) -> tuple[int | None, int | None]:
        """Return the last second before this one, and the first one behind it, that can be restored."""
        at = bisect_right(self.spans, (second, float("inf")))
        before = min(self.spans[at - 1].last, second - 1) if at else None
        if at and before is not None and before < self.spans[at - 1].first:
            before = self.spans[at - 2].last if at > 1 else None
        if at and second < self.spans[at - 1].last:
            return before, second + 1
        return before, self.spans[at].first if at < len(self.spans) else None

    def gap_at(self, second: int) -> Gap | None:
        """Return the gap that a second lies in."""
        at = bisect_right([gap.first for gap in self.gaps], second)
        return self.gaps[at - 1] if at and second <= self.gaps[at - 1].last else None


class Share(NamedTuple):
    """What a shard had of the slots: those that it served, those that came or went, those of them that were on their
    way in, and those that it served once and no more.
    """

    slots: int
    moving: int
    arriving: int
    former: int


class Part(NamedTuple):
    """One stream's share of a second: the slots that it counts for, those that came or went, and those on their way in.

    Of a slot on its way in, whoever counts for it has only the keys that have not been sent yet.
    """

    stream: str
    slots: int
    moving: int
    arriving: int = 0


def vouched(begins_ms: int, chunks: Sequence[ChunkName], until_ms: int, next_seq: int) -> tuple[tuple[Span, ...], str]:
    """Return the moments that a stream can give back, and what is missing behind them (nothing: the empty text).

    Args:
        begins_ms: the moment that its base stands for.
        chunks: those that are there, in the order of their numbers, which begin with 0.
        until_ms: what the head vouches for behind the last chunk: nothing was written there.
        next_seq: the number that the head gives to the next chunk.
    """
    spans = [Span(begins_ms, begins_ms)]
    expected = reached_ms = 0
    for chunk in chunks:
        if chunk.seq != expected:
            return tuple(spans), f"chunk {expected} is missing"
        if chunk.from_ms < reached_ms:
            return tuple(spans), f"chunk {expected} is one of before"
        expected, reached_ms = expected + 1, chunk.until_ms
        _grow(spans, chunk.from_ms, chunk.until_ms)
    if next_seq > expected:
        return tuple(spans), f"chunk {expected} is missing"
    if next_seq == expected:
        _grow(spans, chunks[-1].until_ms if chunks else begins_ms, until_ms)
    return tuple(spans), ""


def _grow(spans: list[Span], from_ms: int, until_ms: int) -> None:
    """Add the stretch (from, until] behind the last span, or to it where it begins no later than that ends."""
    last = spans[-1]
    if from_ms <= last.last:
        spans[-1] = Span(last.first, max(last.last, until_ms))
    elif until_ms > from_ms:
        spans.append(Span(from_ms + 1, until_ms))


def as_bits(slots: Iterable[int]) -> int:
    """Return slots as the bits of one number."""
    row = bytearray(SLOTS // 8)
    for slot in slots:
        row[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(row, "little")


def as_slots(bits: int) -> frozenset[int]:
    """Return what `as_bits` was given."""
    row = bits.to_bytes(SLOTS // 8, "little")
    return frozenset(slot for slot in range(SLOTS) if row[slot >> 3] >> (slot & 7) & 1)


def parts_of(tracks: Iterable[Track], second: int) -> tuple[Part, ...] | None:
    """Return who gives back a second, each slot by one stream, latest first; None where they do not cover every slot.

    A stream into which slots were moving is there for them, too, also where none of its own counts.
    """
    giving = sorted((one for one in tracks if one.gives(second)), key=_age, reverse=True)
    shares = {one.stream: share for one in giving if (share := one.share(second))}
    own = dict.fromkeys(shares, 0)
    former = _any(share.former for share in shares.values())
    left = ALL_SLOTS
    ranked = [
        *((stream, share.slots & ~share.moving) for stream, share in shares.items()),
        *((stream, share.slots) for stream, share in shares.items()),
        *((stream, share.arriving & former) for stream, share in shares.items()),
    ]
    for stream, bits in ranked:
        own[stream] |= bits & left
        left &= ~bits
    found = (Part(stream, own[stream], share.moving, share.arriving) for stream, share in shares.items())
    return None if left else tuple(part for part in found if part.slots or part.moving)


def _any(bits: Iterable[int]) -> int:
    found = 0
    for one in bits:
        found |= one
    return found


def _age(track: Track) -> tuple[int, str]:
    return track.begins_ms, track.stream


def windows(tracks: Sequence[Track]) -> Windows:
    """Return every second that can be restored, and the gaps.

    It sweeps over the moments at which anything changes: hours without a gap cost as much as a second.
    """
    spans: list[Span] = []
    uncovered: dict[int, int] = {}  # by the first second of a gap: how many slots are served by nobody
    for first, last, covered in _swept(tracks):
        if covered != ALL_SLOTS:
            uncovered.setdefault(first, (ALL_SLOTS & ~covered).bit_count())
        elif spans and spans[-1].last + 1 == first:
            spans[-1] = Span(spans[-1].first, last)
        else:
            spans.append(Span(first, last))
    between = [(one.last + 1, two.first - 1) for one, two in pairwise(spans)]
    reasons = _reasons(tracks, between)
    gaps = [
        Gap(first, last, tuple(why) or (_UNSERVED.format(uncovered[first]) if first in uncovered else _NOTHING,))
        for (first, last), why in zip(between, reasons, strict=True)
    ]
    return Windows(tuple(spans), tuple(gaps))


def _seconds(span: Span) -> Span | None:
    """Return the seconds whose ends lie in a stretch of moments."""
    first, last = -(-span.first // 1000) - 1, span.last // 1000 - 1
    return Span(first, last) if first <= last else None


def _swept(tracks: Sequence[Track]) -> Iterator[tuple[int, int, int]]:
    """Yield stretches of seconds, first and last, with the slots that are served throughout; without those of none."""
    events: list[tuple[int, int, int, int]] = []  # second, track, 1 at a beginning or 0 at an end, which of its shares
    for number, track in enumerate(tracks):
        for span in track.spans:
            if seconds := _seconds(span):
                for first, last, change in _pieces(track, seconds):
                    events += [(first, number, 1, change), (last + 1, number, 0, 0)]
    events.sort()
    active: dict[int, Share] = {}
    for at, (second, number, begins, change) in enumerate(events):
        if begins:
            active[number] = tracks[number].shares[change]
        else:
            active.pop(number, None)
        following = events[at + 1][0] if at + 1 < len(events) else second
        if active and following > second:
            covered = _any(one.slots for one in active.values())
            if covered != ALL_SLOTS and any(one.arriving for one in active.values()):
                arriving, former = (_any(one[at] for one in active.values()) for at in (2, 3))
                covered |= arriving & former
            yield second, following - 1, covered


def _pieces(track: Track, seconds: Span) -> Iterator[tuple[int, int, int]]:
    """Cut a stretch of seconds where what the shard served changed."""
    changes = [-(-one.from_ms // 1000) - 1 for one in track.servings]  # the first second at whose end it holds
    at = max(0, bisect_right(changes, seconds.first) - 1)
    for number in range(at, len(changes)):
        following = changes[number + 1] if number + 1 < len(changes) else seconds.last + 1
        first, last = max(seconds.first, changes[number]), min(seconds.last, following - 1)
        if changes[number] > seconds.last:
            return
        if first <= last:
            yield first, last, number


def _reasons(tracks: Sequence[Track], gaps: Sequence[tuple[int, int]]) -> list[list[str]]:
    """Return for each gap why it is one, in the order in which it came about."""
    causes: list[tuple[int, int, str]] = []  # first and last second, and why
    for track in tracks:
        for one, two in pairwise(track.spans):
            causes.append((one.last // 1000, two.first // 1000, _LAGGED))
        if track.gap_why is not None:
            since = track.begins_ms if track.gap_from_ms is None else min(track.begins_ms, track.gap_from_ms)
            causes.append((since // 1000 - 1, track.begins_ms // 1000, track.gap_why))
        if track.broken and track.spans:
            end = track.spans[-1].last // 1000
            causes.append((end - 1, end, f"{track.broken} in {track.stream}"))
    causes.sort()
    found: list[list[str]] = []
    open_causes: list[tuple[int, int, str]] = []  # by their last second
    at = 0
    for first, last in gaps:
        while at < len(causes) and causes[at][0] <= last:
            began, ended, why = causes[at]
            heapq.heappush(open_causes, (ended, began, why))
            at += 1
        while open_causes and open_causes[0][0] < first:
            heapq.heappop(open_causes)
        found.append([*dict.fromkeys(why for _, _, why in sorted(open_causes, key=lambda one: one[1]))])
    return found
