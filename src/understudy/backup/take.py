"""Take a backup: read the components, name the files, publish the set, upload its archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from understudy import __version__
from understudy.backup.archive import ArchiveWriter
from understudy.backup.component import Component, Taken
from understudy.backup.durable import sync, write_file
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, Repository
from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, Metadata, SetId, sums
from understudy.errors import UnderstudyError, out_of_room
from understudy.progress import Progress, stage

DEFAULT_NAME = "redis-backup"


@dataclass(frozen=True)
class TakenSet:
    """What a backup left: the set, its archive, and where the archive was uploaded to, if it was."""

    backup: BackupSet
    archive: Path
    uploaded: str | None


def take(
    components: Sequence[Component],
    local: LocalRepository,
    remote: Repository | None,
    profile: str,
    progress: Progress,
    *,
    name: str = DEFAULT_NAME,
    now: datetime | None = None,
) -> TakenSet:
    """Back up all components as one set, and upload its archive where there is a remote repository.

    Interrupted at any moment, it leaves the complete set or nothing. When only the upload fails, the error says
    so, and the local set stays.

    Raises:
        UnderstudyError: of the kind that fits; nothing is published, unless the error says that it was.
    """
    set_id = SetId.new(name, profile, now or datetime.now(UTC))
    for component in components:
        component.connect()  # before anything is made on the disk
    with local.scratch("backup") as place:
        staged, work = place / "set", place / "work"
        staged.mkdir(mode=0o700)
        work.mkdir()
        taken = {component.name: component.take(work, staged, progress) for component in components}
        archive = place / f"{set_id}{ARCHIVE_SUFFIX}"
        try:
            _finish(set_id, profile, taken, staged, work, archive)
            backup = local.commit(staged, archive, set_id)
        except OSError as error:
            raise out_of_room(error) from error
    result = TakenSet(backup, local.directory / archive.name, None)
    return result if remote is None else upload(result, remote, progress)


def _finish(set_id: SetId, profile: str, taken: dict[str, Taken], staged: Path, work: Path, archive: Path) -> None:
    """Number the parts, write sums and metadata, and put the archive together."""
    keys_folder = staged / "keys"
    keys_folder.mkdir(mode=0o700)
    parts = [part for each in taken.values() for part in each.parts]
    entries: list[FileEntry] = []
    for number, part in enumerate(parts):
        entry = FileEntry(f"keys/keys-part-{number:05d}.jsonl", part.size, part.sha256, part.keys)
        (work / part.file).rename(staged / entry.path)
        entries.append(entry)
    others = [entry for each in taken.values() for entry in each.files]
    for entry in others:
        sync(staged / entry.path)
    summed = (*entries, *others)
    text = sums(summed)
    write_file(staged / SUMS, text)
    files = (*summed, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest()))
    metadata = Metadata(
        set_id, profile, datetime.now(UTC).replace(microsecond=0), f"understudy {__version__}",
        {name: each.metadata for name, each in taken.items()}, files,
    )  # fmt: skip
    raw = metadata.encode()
    writer = ArchiveWriter(archive, str(set_id), set_id.created.timestamp())
    try:
        writer.add_bytes(METADATA, raw)
        writer.add_bytes(SUMS, text)
        for part, entry in zip(parts, entries, strict=True):
            writer.add_member(entry.path, entry.size, work / part.member)
        for entry in others:
            writer.add_file(entry.path, staged / entry.path)
        writer.finish()
    finally:
        writer.close()
    for folder, _, _ in os.walk(staged):
        sync(Path(folder))
    write_file(staged / METADATA, raw)


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
