"""What of one shard lies on this disk and is still to be shipped: its streams, and up to where each is exact.

One thread follows the shard and writes here, another ships and strikes out. A stream that took over from another by a
rewrite of ours is fed side by side with it until its own base is in the repository: nothing waits for that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from understudy.backup.pitr.journal import increment_path
from understudy.backup.pitr.stream import Slots

MOST_PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Mark:
    """At the end of a second, `at_ms`, everything of it lies in the first `size` bytes of an increment."""

    at_ms: int
    increment: int
    size: int


@dataclass(frozen=True)
class Point:
    """The same, counted in the bytes of a stream."""

    at_ms: int
    end: int


@dataclass(frozen=True)
class Piece:
    """Bytes of a stream that are shipped as one object, and the moments (from_ms, until_ms] that it vouches for."""

    from_ms: int
    until_ms: int
    start: int
    end: int


@dataclass(frozen=True)
class Shipped:
    """How far a stream is shipped: the moment that its last piece vouches for, that of its head, and bytes."""

    piece_ms: int | None = None
    at_ms: int | None = None
    end: int = 0
    seq: int = 0


@dataclass
class Local:
    """A stream as it lies here.

    Attributes:
        base: its RDB file; None while the server writes it.
        starts: where each increment begins, in the bytes of the stream.
        points: what is not shipped yet.
        shipped: how far it is shipped; `seq` is the number of the next piece.
        published: its base and its `stream.json` are in the repository.
        previous: the stream that it continues, which goes on until this one is published.
        gap_why: why it continues none, where there may have been one.
        over: why nothing more comes.
        dropped: its files are gone.
    """

    id: str
    directory: Path
    begins_ms: int
    node: str
    replid: str
    offset: int
    starts: dict[int, int]
    base: Path | None = None
    previous: str | None = None
    gap_why: str | None = None
    points: list[Point] = field(default_factory=list)
    shipped: Shipped = field(default=Shipped())
    published: bool = False
    over: str | None = None
    dropped: bool = False
    slots_put: int = 0

    @property
    def until_ms(self) -> int | None:
        """Return up to which moment it is known, shipped or not."""
        return self.points[-1].at_ms if self.points else self.shipped.at_ms

    def extent(self, start: int, end: int) -> list[tuple[Path, int, int]]:
        """Return in which files these bytes of the stream lie, and from where to where in each."""
        found = []
        numbers = sorted(self.starts)
        for number, following in zip(numbers, [*numbers[1:], None], strict=True):
            first = self.starts[number]
            last = end if following is None else min(end, self.starts[following])
            if max(start, first) < last:
                found.append((increment_path(self.directory, number), max(start, first) - first, last - first))
        return found


def pieces(shipped: Shipped, points: Sequence[Point], most_bytes: int = MOST_PIECE_BYTES) -> list[Piece]:
    """Return what is to be shipped of these points, in order; nothing for moments in which nothing was written.

    Where a second is missing and something was written, the piece vouches for nothing before the next good one. A
    stream's first piece is there even where it is empty: it says from when on the stream is exact. What only the head
    vouches for at the end of a quiet time is in the next piece, too.
    """
    found: list[Piece] = []
    piece_ms, at_ms, at = shipped.piece_ms, shipped.at_ms, shipped.end
    for point in points:
        quiet = at_ms is not None and point.end == at
        if quiet:
            at_ms = point.at_ms
            continue
        joined = at_ms is not None and point.at_ms - at_ms <= 1000
        if at_ms is not None and piece_ms is not None and not joined and at_ms > piece_ms:
            found.append(Piece(piece_ms, at_ms, at, at))
        from_ms = piece_ms if joined and piece_ms is not None else point.at_ms - 1000
        last = found[-1] if found else None
        if joined and last and last.until_ms == from_ms and point.end - last.start <= most_bytes:
            found[-1] = Piece(last.from_ms, point.at_ms, last.start, point.end)
        else:
            while point.end - at > most_bytes:  # a second with more than fits vouches with its last piece
                found.append(Piece(from_ms, from_ms, at, at + most_bytes))
                at += most_bytes
            found.append(Piece(from_ms, point.at_ms, at, point.end))
        piece_ms, at_ms, at = point.at_ms, point.at_ms, point.end
    return found


class Ledger:
    """The streams of one shard, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: list[Local] = []
        self._increments: set[Path] = set()
        self._slots: list[Slots] = []
        self.looked_ms = 0  # up to when it is known what the shard served

    def streams(self) -> list[Local]:
        """Return them."""
        with self._lock:
            return list(self._streams)

    @property
    def current(self) -> Local | None:
        """Return the newest one that still grows."""
        with self._lock:
            return next((one for one in reversed(self._streams) if one.over is None), None)

    def begin(self, stream: Local) -> None:
        """Add a stream."""
        with self._lock:
            self._streams.append(stream)
            self._increments |= {increment_path(stream.directory, number) for number in stream.starts}

    def grew(self, increment: int, before: int, size: int) -> None:
        """Note that the server went on to another increment, and how large the one before became."""
        with self._lock:
            for one in self._streams:
                if one.over is None and before in one.starts and increment not in one.starts:
                    one.starts[increment] = one.starts[before] + size
                    self._increments.add(increment_path(one.directory, increment))

    def mark(self, mark: Mark) -> None:
        """Note that a second is exact, in every stream that holds it."""
        with self._lock:
            for one in self._streams:
                if one.over is None and mark.increment in one.starts and mark.at_ms >= one.begins_ms:
                    end = one.starts[mark.increment] + mark.size
                    last = one.points[-1].end if one.points else one.shipped.end
                    if end >= last and mark.at_ms > (one.until_ms or 0):
                        one.points.append(Point(mark.at_ms, end))

    def end(self, why: str, streams: Iterable[Local] | None = None) -> None:
        """End streams, all that grow where none is named: what is exact of them is still shipped."""
        with self._lock:
            for one in self._streams if streams is None else streams:
                one.over = one.over or why

    def drop(self, why: str) -> None:
        """End all streams; what is not shipped of them is lost."""
        with self._lock:
            for one in self._streams:
                one.over, one.dropped, one.points = one.over or why, True, []

    def strike(self, stream: Local) -> None:
        """Forget a stream: all of it is shipped, or lost."""
        with self._lock:
            self._streams = [one for one in self._streams if one is not stream]

    def take(self, stream: Local) -> list[Point]:
        """Return what is to be shipped of a stream, up to when it is known what the shard served."""
        with self._lock:
            return [point for point in stream.points if point.at_ms <= self.looked_ms]

    def shipped(self, stream: Local, shipped: Shipped) -> None:
        """Strike out what is shipped."""
        with self._lock:
            stream.shipped = shipped
            if shipped.at_ms is not None:
                until_ms = shipped.at_ms
                stream.points = [point for point in stream.points if point.at_ms > until_ms]

    def unneeded(self) -> list[Path]:
        """Return, once, increments of which everything is shipped, or that belong to no stream any more."""
        with self._lock:
            kept: set[Path] = set()
            for one in self._streams:
                numbers = sorted(one.starts)
                for number, following in zip(numbers, [*numbers[1:], None], strict=True):
                    if not one.dropped and (following is None or one.starts[following] > one.shipped.end):
                        kept.add(increment_path(one.directory, number))
            passed, self._increments = self._increments - kept, self._increments & kept
            return sorted(passed)

    def serves(self, slots: Slots) -> None:
        """Note what the shard serves from a moment on, where that is something new."""
        with self._lock:
            last = self._slots[-1] if self._slots else None
            if last is None or (last.slots, last.moving) != (slots.slots, slots.moving):
                self._slots.append(slots)

    def slots_of(self, stream: Local) -> list[Slots]:
        """Return what the shard served since a stream began; the first is what it served then."""
        with self._lock:
            before = [one for one in self._slots if one.from_ms <= stream.begins_ms]
            later = [one for one in self._slots if one.from_ms > stream.begins_ms]
            first = before[-1] if before else Slots(0, later[0].slots, later[0].moving) if later else Slots(0, None)
            return [Slots(stream.begins_ms, first.slots, first.moving), *later]
