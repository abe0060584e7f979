"""Which streams of an archive may go: a pure decision; and deleting one, `stream.json` first.

Every second of the last so many days stays. A stream whose last second is older is needed by nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from understudy.backup.pitr.clocks import Dated, set_back
from understudy.backup.pitr.objects import Objects
from understudy.backup.pitr.stream import HEAD, STREAM, ChunkName, Head, Slots, StreamInfo, is_stream_id, slots_from_ms
from understudy.errors import IntegrityError, NotFoundError

_DAY_MS = 86_400_000
_ABANDONED_MS = _DAY_MS


@dataclass(frozen=True)
class Kept:
    """A stream in the repository, by its id: up to when it gives anything back, and whether it is one at all.

    `until_ms` of one that was never finished is when it began. `slots` is what its shard last served. `dated` tells
    whether its clock was set back since; None where it is damaged.
    """

    id: str
    begins_ms: int
    until_ms: int
    whole: bool = True
    slots: frozenset[int] | None = None
    ended: str | None = None
    dated: Dated | None = None


def expired(streams: Sequence[Kept], live: Collection[str], now_ms: int, keep_days: float, healthy: bool) -> list[str]:
    """Return the ids of the streams to delete, oldest first.

    Nothing goes while the archive is not `healthy`, that is, while a shard of it is not archived just now: what is
    there may be all that there will be. What a clock wrote that was set back since goes with the streams that tell of
    it, and before them: without them its seconds would count.
    """
    if not healthy:
        return []
    oldest_ms = now_ms - keep_days * _DAY_MS
    newer = set_back(one.dated for one in streams if one.dated)
    until_ms = {one.id: one.until_ms for one in streams}
    for name, those in newer.items():
        until_ms[name] = min(until_ms[name], max(one.until_ms for one in those))
    found = []
    for one in sorted(streams, key=lambda one: (one.id not in newer, one.begins_ms, one.id)):
        limit_ms = oldest_ms if one.whole else now_ms - _ABANDONED_MS
        if one.id not in live and until_ms[one.id] < limit_ms:
            found.append(one.id)
    return found


def survey(objects: Objects, root: str, known: Collection[str] = ()) -> list[Kept]:
    """Look at every stream of an archive but the known ones."""
    return [look(objects, root, name) for name in objects.folders(root) if is_stream_id(name) and name not in known]


def look(objects: Objects, root: str, name: str) -> Kept:
    """Look at one stream; one that is damaged is told of by whoever restores, and is kept as long as the others."""
    folder = f"{root}/{name}"
    there = objects.sizes(folder)
    chunks = [chunk for text in there if (chunk := ChunkName.parse(text))]
    begins_ms = _begins_ms(name)
    until_ms = max((chunk.until_ms for chunk in chunks), default=begins_ms)
    slots, ended, first = None, None, None
    try:
        if STREAM not in there:
            return Kept(name, begins_ms, max(begins_ms, until_ms), whole=False)
        info = StreamInfo.decode(objects.get(f"{folder}/{STREAM}"), f"{folder}/{STREAM}")
        begins_ms = info.begins_ms
        if HEAD in there:
            head = Head.decode(objects.get(f"{folder}/{HEAD}"), f"{folder}/{HEAD}")
            until_ms, ended = max(until_ms, head.until_ms), head.ended
        if changes := sorted(at for text in there if (at := slots_from_ms(text)) is not None):
            first, slots = (_slots(objects, folder, at) for at in (changes[0], changes[-1]))
    except (IntegrityError, NotFoundError):
        return Kept(name, begins_ms, until_ms)
    dated = Dated(
        name, begins_ms, max(begins_ms, until_ms), info.gap.from_ms if info.gap else None, info.previous, info.node,
        info.replid, info.offset, (first, slots),
    )  # fmt: skip
    return Kept(name, begins_ms, until_ms, slots=slots, ended=ended, dated=dated)


def _slots(objects: Objects, folder: str, from_ms: int) -> frozenset[int] | None:
    path = f"{folder}/{Slots(from_ms, None).path}"
    return Slots.decode(objects.get(path), path).slots


def delete(objects: Objects, root: str, name: str) -> None:
    """Delete a stream: from the first step on it is none."""
    folder = f"{root}/{name}"
    objects.delete(f"{folder}/{STREAM}")
    for path in sorted(objects.sizes(folder)):
        objects.delete(f"{folder}/{path}")
    objects.remove_folder(folder)


def archived_before(streams: Sequence[Kept], slots: frozenset[int] | None) -> int | None:
    """Return up to when a shard with these slots was archived; None: never."""
    same = [one for one in streams if one.whole and (slots is None or one.slots is None or slots & one.slots)]
    return max((one.until_ms for one in same), default=None)


def _begins_ms(name: str) -> int:
    return int(datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() * 1000)
