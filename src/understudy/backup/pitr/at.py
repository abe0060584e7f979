"""Give a second of the past as a set: fetch what is needed, have servers load it, read them, and they are gone."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from understudy import installed
from understudy.backup.encryption import Key
from understudy.backup.frozen import Frozen, read_frozen
from understudy.backup.pitr.catalog import Archive, Stream, read_archive
from understudy.backup.pitr.fetch import Fetched, cut, fetch, identities_for, plain_size, stored_size
from understudy.backup.pitr.load import LINES, Shard, load, seeded
from understudy.backup.pitr.moving import bring_home
from understudy.backup.pitr.objects import Objects
from understudy.backup.pitr.when import told
from understudy.backup.pitr.windows import ALL_SLOTS, Part, as_slots, parts_of
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.take import take
from understudy.errors import NotFoundError, RefusedError, UsageError, out_of_room
from understudy.pages.figures import count
from understudy.progress import Progress, stage
from understudy.valkey.slots import as_ranges
from understudy.valkey.target import Mode

if TYPE_CHECKING:
    from understudy.backup.component import Component, Taken
    from understudy.backup.set import BackupSet
    from understudy.lab.scratch import Scratch

ENGINE = "archive"
_LIST = "`understudy list --archive` shows what can be restored."
_GOES_ON_S = 90  # a head that is younger is of an archiver that runs: ARCHIVE_EVERY is seconds
# of the size of an RDB file: what a set of it takes on the disk, and keys in memory, as far as one can tell before
_SET_TIMES, _MEMORY_TIMES = 2, 3


@contextlib.contextmanager
def at_second(
    objects: Objects,
    root: str,
    second: int,
    key: Key,
    local: LocalRepository,
    progress: Progress,
    plan: Mapping[str, Any],
) -> Iterator[BackupSet]:
    """Give the stack as it was when a second ended, as a plain set beside the local ones, removed afterwards.

    `plan` is what `read_frozen` takes: how keys are read.

    Raises:
        NotFoundError: that second cannot be restored; the error names those that can, before and after it, and why.
        IntegrityError: something that it needs is damaged; the error names the last second that does not.
        RefusedError: a key is missing, or there is not enough room.
        UsageError: the lab, whose servers load it, is not installed.
    """
    try:
        from understudy.lab.scratch import Scratch  # noqa: PLC0415 - the lab is an extra
    except ImportError as error:
        raise UsageError(
            f"restoring {told(second)}", "it takes a server to read it, and the lab is not installed",
            f"{installed.how_to_add('lab')}.",
        ) from error  # fmt: skip
    with stage(progress, "Looking through the archive", None, "streams"):
        archive = read_archive(objects, root)
    for problem in archive.problems:
        progress.say(f"Warning: {problem}. What only it has cannot be restored.")
    parts = chosen(archive, second, f"{objects.where}/{root}")
    streams = {stream.info.id: stream for stream in archive.streams}
    with local.scratch("at") as place:
        try:
            _check_room([streams[part.stream] for part in parts], second, place, progress)
            with Scratch(place) as scratch:
                shards = _fetch_all(objects, archive, parts, second, key, place, scratch, progress)
                load(shards, progress)
                info = shards[0].stream.info
                past, now = cast("Component", _Past(shards, second, plan)), datetime.fromtimestamp(second, UTC)
                sets = LocalRepository(place / "sets")
                taken = take([past], sets, None, info.profile, progress, name=info.name, now=now)
        except OSError as error:
            raise out_of_room(error) from error
        yield taken.backup


def chosen(archive: Archive, second: int, where: str) -> tuple[Part, ...]:
    """Return whose streams make up a second. Raises `NotFoundError`, which says what can be restored instead."""
    doing = f"looking for {told(second)} in {where}"
    if not archive.streams:
        raise NotFoundError(
            doing, "there is no archive", "`understudy archive` keeps one; BACKUP_NAME, ENV_PROFILE and S3_URI name it."
        )
    if parts := parts_of(archive.tracks, second):
        return parts
    windows = archive.windows
    before, after = windows.nearest(second)
    gap = windows.gap_at(second)
    why = "it is in a gap: " + "; ".join(gap.why) if gap else "nothing in it can be restored yet"
    if gap is None and windows.spans:
        why = "it is before everything that is kept" if before is None else "it is after everything that is kept"
    if gap is None and (reached := _goes_on(archive, second)) is not None:
        raise NotFoundError(
            doing, f"the archive reaches to {told(reached)} so far, and goes on",
            f"Type it again in a few seconds. The last one that can be restored now is --at {told(reached)}.",
        )  # fmt: skip
    near = [f"the last one before is --at {told(before)}"] if before is not None else []
    near += [f"the first one after is --at {told(after)}"] if after is not None else []
    raise NotFoundError(doing, why, f"Seconds that can be restored: {', '.join(near)}." if near else _LIST)


def _goes_on(archive: Archive, second: int) -> int | None:
    """Return the last second of an archive that somebody writes just now, if a later one is meant that was lately."""
    spans, now_s = archive.windows.spans, time.time()
    fresh_ms = max((one.goes_on_ms for one in archive.streams if one.goes_on_ms is not None), default=0)
    fresh = 0 <= now_s - fresh_ms / 1000 < _GOES_ON_S
    return spans[-1].last if spans and fresh and spans[-1].last < second <= now_s else None


def _check_room(streams: Sequence[Stream], second: int, place: Path, progress: Progress) -> None:
    bases = sum(stream.info.base.plain_size for stream in streams)
    plain = sum(plain_size(stream, second) for stream in streams)
    largest = max(max(stream.sizes.values()) for stream in streams)
    needed, room = max(plain + largest, _SET_TIMES * bases), shutil.disk_usage(place).free
    if needed > room:
        raise RefusedError(
            f"restoring {told(second)}", f"it needs about {needed:,} bytes, and {room:,} are free in {place.parent}",
            "Free some space, or name another directory with --out-dir (BACKUP_DIR).",
        )  # fmt: skip
    memory = _free_memory()
    if memory is not None and bases > memory:
        raise RefusedError(
            f"restoring {told(second)}",
            f"the RDB files alone have {bases:,} bytes, and {memory:,} are free in memory",
            "Do it on a larger machine: its servers hold everything for as long as it is read.",
        )
    if memory is not None and bases * _MEMORY_TIMES > memory:
        progress.say(
            f"Warning: its servers may need {bases * _MEMORY_TIMES:,} bytes of memory, and {memory:,} are free."
        )


def _free_memory() -> int | None:
    """Return the bytes that programs can still have; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        rows = Path("/proc/meminfo").read_text().splitlines()
        return int(next(row for row in rows if row.startswith("MemAvailable:")).split()[1]) << 10
    return None


def _fetch_all(
    objects: Objects,
    archive: Archive,
    parts: Sequence[Part],
    second: int,
    key: Key,
    place: Path,
    scratch: Scratch,
    progress: Progress,
) -> list[Shard]:
    streams = {stream.info.id: stream for stream in archive.streams}
    needed = [streams[part.stream] for part in parts]
    identities = identities_for(objects, needed, key, place, progress)
    fetched: list[Fetched] = []
    with stage(progress, "Fetching", sum(stored_size(stream, second) for stream in needed), "bytes"):
        for stream in needed:
            into = place / stream.info.id
            into.mkdir(mode=0o700)
            fetched.append(fetch(objects, archive, stream, second, identities, into, progress))
    shards = []
    with stage(progress, f"Cutting at {told(second)}", len(fetched), "streams"):
        for one in fetched:
            cut(one, second, scratch.binary, progress)
            progress.advance(1)
    for part, one in zip(parts, fetched, strict=True):
        size = one.base.stat().st_size + one.increments.stat().st_size
        databases = max(one.stream.info.databases, 16)
        server = scratch.server(one.stream.info.id, lines=LINES, seed=seeded(one), databases=databases)
        shards.append(Shard(one.stream, server, part, size))
    return shards


class _Past:
    """What `take` asks of a component: servers that hold the stack as it was."""

    name, title = "redis", "Redis"

    def __init__(self, shards: Sequence[Shard], second: int, plan: Mapping[str, Any]) -> None:
        self._shards, self._second, self._plan = shards, second, plan

    def connect(self) -> None:
        """They are there."""

    def close(self) -> None:
        """They go with their place."""

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:
        """Read them."""
        warnings = self._settle(progress)
        for warning in warnings:
            progress.say(f"Warning: {warning}.")
        whole = len(self._shards) == 1 and self._shards[0].part.slots == ALL_SLOTS and not self._clustered
        copies = [
            Frozen(shard.server.target, None if whole else as_slots(shard.part.slots))
            for shard in self._shards
            if shard.part.slots
        ]
        return read_frozen(copies, self._plan, work, into, progress, self._account(warnings))

    @property
    def _clustered(self) -> bool:
        return any(shard.stream.info.mode == Mode.OSS_CLUSTER for shard in self._shards)

    def _settle(self, progress: Progress) -> list[str]:
        """Bring keys of slots that were on the move to the server that counts for the slot; say so."""
        moving = 0
        for shard in self._shards:
            moving |= shard.part.moving
        if not moving or len(self._shards) == 1:
            return []
        servers = [(shard.server.target, shard.part.slots, shard.part.arriving) for shard in self._shards]
        brought = bring_home(servers, progress)
        slots = as_slots(moving)
        moved = (
            f"{count(len(slots), 'slot')} ({', '.join(as_ranges(slots))}) moved between shards at {told(self._second)}"
        )
        return [
            f"{moved}: a key of theirs may be missing, or older than others; {count(brought, 'key')} lay over there"
        ]

    def _account(self, warnings: Sequence[str]) -> dict[str, Any]:
        info = self._shards[0].stream.info
        name, _, version = info.server.partition(" ")
        return {
            "engine": ENGINE,
            "mode": info.mode,
            "server": {"name": name, "version": version},
            "at": told(self._second),
            "streams": [{"id": shard.stream.info.id, "node": shard.stream.info.node} for shard in self._shards],
            "warnings": [*warnings],
        }
