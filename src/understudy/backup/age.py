"""age at work on files: gzip inside, age outside, streamed; memory does not grow with them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from isal import isal_zlib

from understudy import installed
from understudy.backup.archive import GZIP_LEVEL
from understudy.errors import IntegrityError
from understudy.progress import Progress

_CHUNK_BYTES = 1 << 20
_GZIP_WINDOW = 31  # zlib's word for "a gzip member"
_DEFLATE_ERROR = cast(type[Exception], isal_zlib.error)


def library() -> Any:
    """Return pyrage. Raises `UsageError` where it is not installed."""
    try:
        import pyrage  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise installed.missing_extra("encrypting", error, "operations") from error
    return pyrage


def encrypt_file(plain: Path, final: Path, recipients: Sequence[Any], progress: Progress) -> tuple[int, str]:
    """Write the encrypted form of a file, durably; return its size and SHA-256."""
    with (
        plain.open("rb") as source,
        os.fdopen(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        sink = _Sink(file)
        with _own_errors() as noting:
            library().encrypt_io(_Ends(_Squeezed(source, progress), noting), _Ends(sink, noting), [*recipients])
        file.flush()
        os.fsync(file.fileno())
    return sink.size, sink.digest.hexdigest()


def decrypt_file(locked: Path, plain: Path, size: int, identities: Sequence[Any], progress: Progress, name: str) -> str:
    """Write the plain form of a file, which is to be so large, never more; return its SHA-256.

    Raises:
        IntegrityError: it is not what was encrypted.
    """
    damaged = IntegrityError(f"decrypting {name}", "it is not what was encrypted", "Use another set.")
    with locked.open("rb") as source, plain.open("xb") as file:
        sink = _Sink(file)
        stretched = _Stretched(sink, size, progress)
        try:
            with _own_errors() as noting:
                library().decrypt_io(_Ends(source, noting), _Ends(stretched, noting), [*identities])
        except (library().DecryptError, _DEFLATE_ERROR, _TooLong) as error:
            raise damaged from error
        except OSError as error:
            if error.errno is not None:  # the disk's, not age's
                raise
            raise damaged from error
        if not stretched.whole or sink.size != size:
            raise damaged
    return sink.digest.hexdigest()


class _Enough(Exception):  # noqa: N818 - a signal, not an error
    """The first bytes came out."""


class _First:
    def write(self, _: bytes) -> int:
        raise _Enough

    def flush(self) -> None:
        """There is nothing to flush."""


def opens(path: Path, identities: Sequence[Any], name: str) -> bool:
    """Tell whether one of these identities opens a file. Raises `IntegrityError` where it is none of age."""
    pyrage = library()
    try:
        with path.open("rb") as file:
            pyrage.decrypt_io(file, _First(), [*identities])
    except _Enough:
        return True
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            return False
        raise IntegrityError(f"decrypting {name}", str(error), "Use another set.") from error
    except OSError as error:
        raise IntegrityError(f"decrypting {name}", str(error), "Use another set.") from error
    return True


@contextlib.contextmanager
def _own_errors() -> Iterator[list[BaseException]]:
    """Raise what our own ends of age's work raised: it makes errors of its own of them, without their kind."""
    noted: list[BaseException] = []
    try:
        yield noted
    except BaseException:
        if noted:
            raise noted[0] from None
        raise


class _Ends:
    """A file that age reads or writes; what it raises is noted."""

    def __init__(self, file: Any, noted: list[BaseException]) -> None:
        self._file, self._noted = file, noted

    def read(self, size: int) -> bytes:
        try:
            return cast(bytes, self._file.read(size))
        except BaseException as error:
            self._noted.append(error)
            raise

    def write(self, data: bytes) -> int:
        try:
            return cast(int, self._file.write(data))
        except BaseException as error:
            self._noted.append(error)
            raise

    def flush(self) -> None:
        """Files are flushed at their end."""


class _Squeezed:
    """A file, gzipped while it is read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress = file, progress
        self._gzip = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
        self._held, self._ended = memoryview(b""), False

    def read(self, size: int) -> bytes:
        while not self._held and not self._ended:
            data = self._file.read(_CHUNK_BYTES)
            self._progress.advance(len(data))
            self._ended = not data
            self._held = memoryview(self._gzip.compress(data) if data else self._gzip.flush())
        some = self._held[:size].tobytes()
        self._held = self._held[size:]
        return some


class _Sink:
    """A file that is hashed while it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)


class _TooLong(Exception):  # noqa: N818 - a signal, not an error
    """More came out than the metadata announces."""


class _Stretched:
    """Gunzips what is written to it, never to more than `most` bytes."""

    def __init__(self, sink: _Sink, most: int, progress: Progress) -> None:
        self._sink, self._most, self._progress = sink, most, progress
        self._gzip = isal_zlib.decompressobj(_GZIP_WINDOW)

    @property
    def whole(self) -> bool:
        """Tell whether the gzip member has come to its end, with nothing behind it."""
        return bool(self._gzip.eof) and not self._gzip.unused_data

    def write(self, data: bytes) -> int:
        left = data
        while left:
            out = self._gzip.decompress(left, _CHUNK_BYTES)
            left = self._gzip.unconsumed_tail
            if self._sink.size + len(out) > self._most:
                raise _TooLong
            self._sink.write(out)
            self._progress.advance(len(out))
        return len(data)
