"""Sets whose content was altered so that nothing but a rehearsal can notice: sums and metadata are made to fit."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, sums


def altered(
    backup: BackupSet, into: Path, changes: Mapping[str, Callable[[bytes], bytes]], **metadata: Any
) -> BackupSet:
    """Return a copy of a set with some files changed; sums fit, and what the components recorded stays."""
    place = into / backup.directory.name
    shutil.copytree(backup.directory, place)
    entries: list[FileEntry] = []
    for entry in backup.metadata.files:
        if entry.path == SUMS:
            continue
        if entry.path in changes:
            data = changes[entry.path]((place / entry.path).read_bytes())
            (place / entry.path).write_bytes(data)
            keys = None if entry.keys is None else data.count(b"\n")
            entry = replace(entry, size=len(data), sha256=hashlib.sha256(data).hexdigest(), keys=keys)  # noqa: PLW2901
        entries.append(entry)
    text = sums(tuple(entries))
    (place / SUMS).write_bytes(text)
    files = (*entries, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest()))
    (place / METADATA).write_bytes(replace(backup.metadata, files=files, **metadata).encode())
    return BackupSet.open(place)


def without_a_line(data: bytes, number: int, lost: list[dict[str, Any]]) -> bytes:
    """Return a part without one of its keys, which is added to `lost`."""
    lines = data.splitlines(keepends=True)
    lost.append(orjson.loads(lines.pop(number)))
    return b"".join(lines)
