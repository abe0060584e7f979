"""Read what an archive holds: every stream's documents and the names of its pieces. No piece is opened."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import TypeVar

from understudy.backup.pitr.clocks import Dated, set_back
from understudy.backup.pitr.objects import Objects
from understudy.backup.pitr.stream import (
    HEAD,
    ROOT,
    STREAM,
    ChunkName,
    Head,
    Slots,
    StreamInfo,
    is_archive,
    is_stream_id,
    slots_from_ms,
)
from understudy.backup.pitr.windows import ALL_SLOTS, Serving, Span, Track, Windows, as_bits, vouched, windows
from understudy.errors import IntegrityError, NotFoundError
from understudy.valkey.target import Mode

_AT_ONCE = 8  # requests: an object store answers each of them after some tens of milliseconds
_FIRST_MS = 0
_CLOCKS_APART_MS = 60_000  # two machines' clocks may differ by so much without a word
Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Stream:
    """A stream as it is kept: its folder, documents, pieces in their order, and what each object takes there.

    `until_ms` and `next_seq` are what its head says, and `goes_on_ms` when it was written, if it says of no end.
    Nothing counts that it says of moments behind `limit_ms`.
    """

    folder: str
    info: StreamInfo
    chunks: tuple[ChunkName, ...]
    slots: tuple[Slots, ...]
    sizes: dict[str, int]
    until_ms: int
    next_seq: int
    goes_on_ms: int | None = None
    limit_ms: int | None = None

    @functools.cached_property
    def track(self) -> Track:
        """Return what it can give back."""
        return self._track(self.chunks, self.next_seq)

    def before(self, seq: int) -> Track:
        """Return what it could give back if it ended before a piece."""
        spans, _ = vouched(self.info.begins_ms, self.chunks[:seq], 0, 0)
        return replace(self.track, spans=self._limited(spans))

    def _limited(self, spans: Iterable[Span]) -> tuple[Span, ...]:
        limit_ms = self.limit_ms
        if limit_ms is None:
            return tuple(spans)
        return tuple(Span(one.first, min(one.last, limit_ms)) for one in spans if one.first <= limit_ms)

    def _track(self, chunks: Sequence[ChunkName], next_seq: int) -> Track:
        info = self.info
        spans, broken = vouched(info.begins_ms, chunks, self.until_ms, next_seq)
        servings = tuple(
            Serving(each.from_ms, ALL_SLOTS if each.slots is None else as_bits(each.slots), as_bits(each.moving))
            for each in self.slots
        )
        if not servings and info.mode != Mode.OSS_CLUSTER:
            servings = (Serving(_FIRST_MS),)
        counting = self._limited(spans)
        gap = info.gap if counting else None
        return Track(
            info.id, info.begins_ms, counting, servings,
            gap.from_ms if gap else None, gap.why if gap else None, broken or None,
        )  # fmt: skip

    @property
    def dated(self) -> Dated:
        """Return what tells when it was, beside others."""
        info = self.info
        return Dated(
            info.id, info.begins_ms, self.track.spans[-1].last, info.gap.from_ms if info.gap else None, info.previous,
            info.node, info.replid, info.offset,
            (self.slots[0].slots, self.slots[-1].slots) if self.slots else (None, None),
        )  # fmt: skip

    def needed(self, second: int) -> tuple[ChunkName, ...]:
        """Return the pieces that hold everything up to the end of a second."""
        end_ms = (second + 1) * 1000
        for number, chunk in enumerate(self.chunks):
            if chunk.until_ms >= end_ms:
                return self.chunks[: number + 1]
        return self.chunks


@dataclass(frozen=True)
class Archive:
    """All that is kept under one name: its streams, oldest first, and what could not be read."""

    name: str
    streams: tuple[Stream, ...]
    problems: tuple[str, ...] = ()

    @property
    def tracks(self) -> list[Track]:
        """Return what each stream can give back."""
        return [stream.track for stream in self.streams]

    @functools.cached_property
    def windows(self) -> Windows:
        """Return the seconds that can be restored."""
        return windows(self.tracks)

    def last_good(self, damaged: Stream, seq: int | None, second: int) -> int | None:
        """Return the last second up to this one that can be had without a piece, or without a base (None)."""
        left = [one.track for one in self.streams if one is not damaged]
        left += [] if seq is None else [damaged.before(seq)]
        return windows(left).nearest(second + 1)[0]


def archives(objects: Objects) -> list[str]:
    """Return the names of the archives in a repository, `<name>-<profile>`."""
    return [name for name in objects.folders(ROOT) if is_archive(name)]


def read_archive(objects: Objects, root: str, now_ms: int | None = None) -> Archive:
    """Read an archive's documents; those that are damaged are told of in `problems`, and left out.

    No second behind `now_ms` counts, nor one of a clock that was set back since.
    """
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    folders = [f"{root}/{name}" for name in objects.folders(root) if is_stream_id(name)]
    streams: list[Stream] = []
    problems: list[str] = []

    def one(folder: str) -> Stream | IntegrityError | None:
        try:
            return _read_stream(objects, folder, problems)
        except IntegrityError as error:
            return error

    for found in side_by_side(one, folders, _AT_ONCE):
        if isinstance(found, Stream):
            streams.append(found)
        elif found is not None:
            problems.append(str(found))
    problems += [f"reading {one.folder}: {one.track.broken}" for one in streams if one.track.broken]
    streams = _limited(streams, now_ms, problems)
    streams.sort(key=lambda stream: (stream.info.begins_ms, stream.info.id))
    return Archive(root.rpartition("/")[2], tuple(streams), tuple(problems))


def _limited(streams: Sequence[Stream], now_ms: int, problems: list[str]) -> list[Stream]:
    """Have no stream say anything of the future, or of what a clock said that was set back since."""
    dated = {stream.info.id: stream.dated for stream in streams}
    newer = set_back(dated.values())
    found = []
    for stream in streams:
        began = [one.begins_ms for one in newer.get(stream.info.id, ())]
        if not began and dated[stream.info.id].until_ms > now_ms + _CLOCKS_APART_MS:
            problems.append(
                f"reading {stream.folder}: it speaks of seconds that have not come by this machine's clock"
                " (is one of the clocks wrong?)"
            )
        found.append(replace(stream, limit_ms=min([*began, now_ms])))
    return found


def _read_stream(objects: Objects, folder: str, problems: list[str]) -> Stream | None:
    """Read one stream; None where there is none, or not any more.

    The head is read before the folder: what it speaks of is there when it is written. Without one, or with one that is
    damaged, a stream is what its pieces say.
    """
    try:
        info = StreamInfo.decode(objects.get(f"{folder}/{STREAM}"), f"{folder}/{STREAM}")
        try:
            head = _head(objects, folder)
        except IntegrityError as error:
            head = None
            problems.append(str(error))
        sizes = objects.sizes(folder)
        moments = sorted(moment for moment in map(slots_from_ms, sizes) if moment is not None)
        paths = [f"{folder}/slots-{moment}.json" for moment in moments]
        slots = [Slots.decode(objects.get(path), path) for path in paths]
    except NotFoundError:
        return None
    if info.id != folder.rpartition("/")[2]:
        raise IntegrityError(f"reading {folder}/{STREAM}", f"it is that of {info.id}")
    lacking = [one.from_ms for one in slots] != moments or (head is not None and len(slots) < head.changes)
    if lacking and info.mode == Mode.OSS_CLUSTER:
        raise IntegrityError(f"reading {folder}", "what says which slots its shard served is not all there")
    chunks = sorted(chunk for chunk in map(ChunkName.parse, sizes) if chunk is not None)
    last_ms = chunks[-1].until_ms if chunks else info.begins_ms
    until_ms, next_seq = (head.until_ms, head.seq) if head else (last_ms, 0)
    if info.base.path not in sizes:
        raise IntegrityError(f"reading {folder}", f"its base, {info.base.path}, is missing")
    goes_on_ms = head.written_ms if head and head.ended is None else None
    return Stream(folder, info, tuple(chunks), tuple(slots), sizes, until_ms, next_seq, goes_on_ms)


def _head(objects: Objects, folder: str) -> Head | None:
    try:
        return Head.decode(objects.get(f"{folder}/{HEAD}"), f"{folder}/{HEAD}")
    except NotFoundError:
        return None


def side_by_side(act: Callable[[Given], Found], items: Iterable[Given], width: int) -> Iterator[Found]:
    """Do something to every item, so many at a time, and yield the results in order.

    Where the caller is interrupted, nobody waits for what is still on its way.
    """
    ahead: list[Future[Found]] = []

    def begin(item: Given) -> Future[Found]:
        done: Future[Found] = Future()

        def run() -> None:
            try:
                done.set_result(act(item))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                done.set_exception(error)

        Thread(target=run, daemon=True).start()
        return done

    for item in items:
        ahead.append(begin(item))
        if len(ahead) == width:
            yield ahead.pop(0).result()
    while ahead:
        yield ahead.pop(0).result()
