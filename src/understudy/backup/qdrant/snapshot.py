"""A snapshot file without a server: it is a tar archive, read here from its first header to its end."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any, cast

from understudy.backup.qdrant.names import FOLDER
from understudy.backup.qdrant.recorded import Recorded
from understudy.backup.set import BackupSet
from understudy.errors import IntegrityError
from understudy.progress import Progress, stage

_BLOCK = 512
_CHUNK_BYTES = 1 << 20


def read_through(backup: BackupSet, progress: Progress) -> None:
    """Walk every snapshot of a set, and compare its SHA-256 with the one that the server gave.

    The bytes themselves are what SHA256SUMS covers; this finds a snapshot that was never whole.

    Raises:
        IntegrityError: one cannot be read, or is not what the server made.
    """
    recorded = Recorded.of(backup)
    entries = {entry.path: entry for entry in backup.metadata.files if entry.path.startswith(f"{FOLDER}/")}
    total = sum(entries[file.path].size for each in recorded.collections for file in each.files)
    with stage(progress, "Reading snapshots", total, "bytes"):
        for file in (file for collection in recorded.collections for file in collection.files):
            entry = entries[file.path]
            if file.checksum and file.checksum.lower() != entry.sha256:
                raise IntegrityError(f"checking {file.path}", "it does not have the checksum that Qdrant gave for it")
            _walk(backup.directory / file.path, file.path, progress)


def _walk(place: Path, path: str, progress: Progress) -> None:
    members = told = 0
    try:
        with place.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
            while archive.next():  # looks whether the bytes of the one before are there
                members += 1
                progress.advance(archive.offset - told)
                told = archive.offset
                cast("Any", archive).members.clear()  # a snapshot may have very many files
            raw.seek(archive.offset)
            rest = raw.read(_CHUNK_BYTES)
            if len(rest) < _BLOCK or any(rest) or any(raw.read(_CHUNK_BYTES)):
                raise IntegrityError(f"checking {path}", "the archive inside ends too early, or goes on after its end")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise IntegrityError(
            f"checking {path}", f"it is no whole snapshot ({error})", "Use another set: `understudy list` shows them."
        ) from error
    if not members:
        raise IntegrityError(f"checking {path}", "the snapshot is empty", "Use another set.")
