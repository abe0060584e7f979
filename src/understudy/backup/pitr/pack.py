"""From bytes of a copy's files to the objects of an archive: gzip, and age outside of it where that is asked for.

Both are streamed: memory does not grow with the files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isal import isal_zlib

from understudy.backup.age import encrypt_file
from understudy.backup.archive import GZIP_LEVEL
from understudy.errors import IntegrityError
from understudy.progress import Silent

_CHUNK_BYTES = 1 << 20
_GZIP_WINDOW = 31  # zlib's word for "a gzip member"
Extent = Sequence[tuple[Path, int, int]]


@dataclass(frozen=True)
class Packed:
    """A file that is ready to be stored: its size and SHA-256, and how many bytes are in it."""

    path: Path
    size: int
    sha256: str
    plain_size: int


def pack(extent: Extent, into: Path, recipients: Sequence[Any] | None) -> Packed:
    """Pack parts of files, each from a byte to a byte, one behind the other, into a new file.

    Raises:
        IntegrityError: a file is shorter than that.
    """
    size = sum(last - first for _, first, last in extent)
    into.unlink(missing_ok=True)  # of an attempt that broke off
    if recipients is None:
        return _gzipped(extent, into, size)
    plain = into.with_name(f"{into.name}.plain")
    plain.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(plain, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for data in _read(extent):
                file.write(data)
        stored, sha256 = encrypt_file(plain, into, recipients, Silent())
    finally:
        plain.unlink(missing_ok=True)
    return Packed(into, stored, sha256, size)


def pack_file(file: Path, into: Path, recipients: Sequence[Any] | None) -> Packed:
    """Pack a whole file, to which nobody writes any more, into a new one."""
    size = file.stat().st_size
    if recipients is None:
        return pack([(file, 0, size)], into, None)
    into.unlink(missing_ok=True)
    stored, sha256 = encrypt_file(file, into, recipients, Silent())
    return Packed(into, stored, sha256, size)


def _gzipped(extent: Extent, into: Path, size: int) -> Packed:
    packer = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
    digest, stored = hashlib.sha256(), 0
    with os.fdopen(os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for data in _read(extent):
            some = packer.compress(data)
            digest.update(some)
            stored += file.write(some)
        some = packer.flush()
        digest.update(some)
        stored += file.write(some)
    return Packed(into, stored, digest.hexdigest(), size)


def _read(extent: Extent) -> Iterator[bytes]:
    for path, first, last in extent:
        with path.open("rb") as file:
            file.seek(first)
            left = last - first
            while left:
                data = file.read(min(_CHUNK_BYTES, left))
                if not data:
                    raise IntegrityError(f"reading {path.name} of a copy", "it is shorter than it was")
                left -= len(data)
                yield data
