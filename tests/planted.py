"""Sets without a server: small, whole by every checksum, of any tier and any time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from understudy.backup.archive import ArchiveWriter
from understudy.backup.repository import ARCHIVE_SUFFIX
from understudy.backup.set import METADATA, SUMS, FileEntry, Metadata, SetId, sums


def planted(
    directory: Path,
    at: datetime,
    tier: str | None = None,
    content: bytes = b"{}\n" * 100,
    name: str = "stack-backup",
    components: Mapping[str, Mapping[str, Any]] | None = None,
) -> SetId:
    """Put a set with one part of no meaning into a directory: its own directory, and its archive."""
    set_id = SetId.new(name, "local", at)
    folder = directory / str(set_id)
    (folder / "postgres").mkdir(parents=True)
    part = FileEntry("postgres/app.dump", len(content), hashlib.sha256(content).hexdigest())
    text = sums((part,))
    files = (part, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest()))
    raw = Metadata(set_id, "local", at, "understudy test", components or {"postgres": {}}, files, tier=tier).encode()
    for path, data in ((part.path, content), (SUMS, text), (METADATA, raw)):
        (folder / path).write_bytes(data)
    writer = ArchiveWriter(directory / f"{set_id}{ARCHIVE_SUFFIX}", str(set_id), at.timestamp())
    for path, data in ((METADATA, raw), (SUMS, text), (part.path, content)):
        writer.add_bytes(path, data)
    writer.finish()
    return set_id
