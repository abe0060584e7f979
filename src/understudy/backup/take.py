"""Take a backup: read the components side by side, name the files, publish the set, upload its archive."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.backup.archive import ArchiveWriter
from understudy.backup.component import Component
from understudy.backup.durable import sync, write_file
from understudy.backup.encryption import FreshLock, Lock, encrypt
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, SAFETY, Repository
from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, Metadata, SetId, sums
from understudy.backup.together import connect_all, side_by_side
from understudy.errors import UnderstudyError, UsageError, out_of_room
from understudy.progress import Progress, stage

DEFAULT_NAME = "redis-backup"
STACK_NAME = "stack-backup"  # of sets that hold more than redis


@dataclass(frozen=True)
class TakenSet:
    """What a backup left: the set, its archive, and where the archive was uploaded to, if it was."""

    backup: BackupSet
    archive: Path
    uploaded: str | None


@dataclass(frozen=True)
class _Staged:
    """What lies ready of one component: its files below `folder`, and the compressed twins of some of them."""

    folder: Path
    files: tuple[FileEntry, ...]
    members: dict[str, Path]
    metadata: dict[str, Any]
    requires: tuple[str, ...]
    began: datetime
    ended: datetime


def take(
    components: Sequence[Component],
    local: LocalRepository,
    remote: Repository | None,
    profile: str,
    progress: Progress,
    *,
    name: str | None = None,
    now: datetime | None = None,
    tier: str | None = None,
    optional: Collection[str] = (),
    lock: Lock | None = None,
) -> TakenSet:
    """Back up all components as one set, and upload its archive where there is a remote repository.

    Components are read at the same time. One that fails ends the others, and there is no set, unless it is named
    in `optional`: then the set says that it is missing, and why. With a `lock` the files are encrypted. Without a
    name it is `redis-backup`, or `stack-backup` where the set holds more than redis.
    Interrupted at any moment, it leaves the complete set or nothing. When only the upload fails, the error says
    so, and the local set stays.

    Raises:
        UsageError: the name or the profile can be none.
        UnderstudyError: of the kind that fits; nothing is published, unless the error says that it was.
    """
    if not name:
        name = DEFAULT_NAME if all(component.name == "redis" for component in components) else STACK_NAME
    if name == SAFETY and tier != SAFETY:
        raise UsageError(
            "naming the set", f"{SAFETY!r} is the name of what a restore replaces, and `latest` never means such a set",
            "Choose another: BACKUP_NAME.",
        )  # fmt: skip
    set_id = SetId.new(name, profile, now or datetime.now(UTC))
    there, absent = connect_all(components, optional)  # before anything is made on the disk
    for missing, why in absent.items():
        progress.say(f"Warning: {missing} will be missing in this set: {why}")
    with local.scratch("backup") as place, contextlib.nullcontext() if lock is None else lock.fresh(progress) as fresh:

        def one(component: Component, beside: Progress) -> _Staged:
            return _stage(component, place, fresh, beside)

        try:
            outcome = side_by_side(one, there, optional, progress)
            outcome.missing |= absent
            archive = place / f"{set_id}{ARCHIVE_SUFFIX}"
            results = {one.name: outcome.results[one.name] for one in there if one.name in outcome.results}
            staged = _finish(set_id, profile, tier, results, outcome.missing, fresh, place, archive)
            backup = local.commit(staged, archive, set_id)
        except OSError as error:
            raise out_of_room(error) from error
    result = TakenSet(backup, local.directory / archive.name, None)
    return result if remote is None else upload(result, remote, progress)


def _stage(component: Component, place: Path, lock: FreshLock | None, progress: Progress) -> _Staged:
    """Read one component into a directory of its own; number its parts, encrypt its files, bring them to the disk."""
    work, folder = place / f"work-{component.name}", place / f"set-{component.name}"
    work.mkdir(mode=0o700)
    folder.mkdir(mode=0o700)
    began = datetime.now(UTC)
    taken = component.take(work, folder, progress)
    ended = datetime.now(UTC)
    entries: list[FileEntry] = []
    members: dict[str, Path] = {}
    for number, part in enumerate(taken.parts):
        entry = FileEntry(f"keys/keys-part-{number:05d}.jsonl", part.size, part.sha256, part.keys)
        (folder / entry.path).parent.mkdir(mode=0o700, exist_ok=True)
        (work / part.file).rename(folder / entry.path)
        members[entry.path] = work / part.member
        entries.append(entry)
    files = (*entries, *taken.files)
    if lock:
        files, members = encrypt(folder, files, lock, progress), {}
    else:
        for entry in taken.files:  # parts are on the disk already
            sync(folder / entry.path)
    return _Staged(folder, files, members, dict(taken.metadata), taken.requires, began, ended)


def _finish(
    set_id: SetId,
    profile: str,
    tier: str | None,
    results: Mapping[str, _Staged],
    missing: Mapping[str, str],
    lock: FreshLock | None,
    place: Path,
    archive: Path,
) -> Path:
    """Bring the components' files together, write sums and metadata, and put the archive together."""
    staged = place / "set"
    staged.mkdir(mode=0o700)
    entries: list[FileEntry] = []
    members: dict[str, Path] = {}
    for each in results.values():
        members |= each.members
        for entry in each.files:
            final = staged / entry.path
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (each.folder / entry.path).rename(final)
            entries.append(entry)
    if lock and (sealed := lock.write_sealed(staged)):
        entries.append(sealed)
    entries.sort(key=lambda entry: entry.keys is None)  # parts come first
    text = sums(tuple(entries))
    write_file(staged / SUMS, text)
    metadata = Metadata(
        set_id, profile, datetime.now(UTC).replace(microsecond=0), f"understudy {__version__}",
        {name: each.metadata | _times(each) for name, each in results.items()},
        (*entries, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest())),
        tier, _span_s(results.values()), missing, lock.as_data() if lock else None,
        sorted({one for each in results.values() for one in each.requires}),
    )  # fmt: skip
    raw = metadata.encode()
    writer = ArchiveWriter(archive, str(set_id), set_id.created.timestamp())
    try:
        writer.add_bytes(METADATA, raw)
        writer.add_bytes(SUMS, text)
        for entry in entries:
            if entry.path in members:
                writer.add_member(entry.path, entry.size, members[entry.path])
            else:
                writer.add_file(entry.path, staged / entry.path)
        writer.finish()
    finally:
        writer.close()
    for folder, _, _ in os.walk(staged):
        sync(Path(folder))
    write_file(staged / METADATA, raw)
    return staged


def _times(each: _Staged) -> dict[str, str]:
    """Return when a component was read, in UTC to the millisecond."""
    return {
        "began_at": each.began.isoformat(timespec="milliseconds"),
        "ended_at": each.ended.isoformat(timespec="milliseconds"),
    }


def _span_s(results: Collection[_Staged]) -> float:
    """Return the seconds from the first component's begin to the last one's end."""
    first, last = min(each.began for each in results), max(each.ended for each in results)
    return round((last - first).total_seconds(), 3)


def upload(taken: TakenSet, remote: Repository, progress: Progress) -> TakenSet:
    """Upload a set's archive.

    Raises:
        UnderstudyError: the upload failed; the local set is untouched, and the error says where it is.
    """
    with stage(progress, "Uploading", taken.archive.stat().st_size, "bytes"):
        try:
            place = remote.put(taken.archive, taken.backup.metadata.id, progress.advance)
        except UnderstudyError as error:
            error.items.append(f"The set is whole and usable here: {taken.archive}")
            error.items.append(f"To upload it later: understudy upload {taken.backup.metadata.id}")
            raise
    return TakenSet(taken.backup, taken.archive, place)
