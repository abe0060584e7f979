"""Write the parts of a set: numbered JSONL files, each hashed, and compressed for the archive, as it is written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isal import isal_zlib

from understudy.backup.archive import GZIP_LEVEL, padding

_GZIP_WINDOW = 31  # zlib's word for "a gzip member"
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True)
class Part:
    """One finished part: its file, size, SHA-256 and number of keys, and where its compressed twin lies."""

    file: str
    size: int
    sha256: str
    keys: int
    member: str

    def as_data(self) -> dict[str, Any]:
        """Return plain data, for the pipe between a worker and its parent."""
        return asdict(self)


class PartWriter:
    """Rolls over to a new part every `chunk_keys` keys. Files are named `<stem>-<n>.jsonl` until the set is named.

    The archive's member is written in the same pass: a gzip file may be many gzip members one after the other,
    so that every worker compresses its own parts and nobody reads the data twice.
    """

    def __init__(self, folder: Path, stem: str, chunk_keys: int, compress: bool = True) -> None:
        self._folder, self._stem, self._chunk_keys, self._compress = folder, stem, chunk_keys, compress
        self.parts: list[Part] = []
        self._keys = 0
        self._open = False

    def write(self, lines: Sequence[bytes]) -> None:
        """Write one line for each key."""
        at = 0
        while at < len(lines):
            if not self._open:
                self._begin()
            room = self._chunk_keys - self._keys
            some = lines[at : at + room] if at or len(lines) > room else lines
            self._put(b"".join(some))
            self._keys += len(some)
            at += len(some)
            if self._keys >= self._chunk_keys:
                self._end()

    def finish(self) -> list[Part]:
        """Close the last part and return all of them; every byte is on the disk by then."""
        if self._open:
            self._end()
        return self.parts

    def _begin(self) -> None:
        name = f"{self._stem}-{len(self.parts):05d}.jsonl"
        self._file = (self._folder / name).open("wb", buffering=_BUFFER_BYTES)
        self._member = (self._folder / f"{name}.gz").open("wb", buffering=_BUFFER_BYTES) if self._compress else None
        self._gzip = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
        self._hash = hashlib.sha256()
        self._size = 0
        self._keys = 0
        self._open = True

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)
        self._size += len(data)
        if self._member:
            self._member.write(self._gzip.compress(data))

    def _end(self) -> None:
        if self._member:
            self._member.write(self._gzip.compress(padding(self._size)))
            self._member.write(self._gzip.flush())
            self._member.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        name = Path(self._file.name).name
        self.parts.append(Part(name, self._size, self._hash.hexdigest(), self._keys, f"{name}.gz"))
        self._open = False
