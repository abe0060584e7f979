"""Let a scratch server load a copy of an RDB file; where it refuses, its own reason is told."""

from __future__ import annotations

import contextlib
import gzip
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from isal import igzip, isal_zlib

from understudy import installed
from understudy.errors import IntegrityError, RefusedError, ServerSaidError, UnreachableError, UsageError
from understudy.lab.complaint import complaint, said
from understudy.progress import Progress, stage
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire

if TYPE_CHECKING:
    from understudy.lab import Lab

_MAGIC = re.compile(rb"(REDIS|VALKEY)\d{3,4}")
_HEAD_BYTES = 16
_CHUNK_BYTES = 1 << 20
_DATABASES = 10_000
_LOADS_WITHIN_S = 24 * 3600.0
_LOOK_EVERY_S = 0.2
_HINT = "Use another file, or name the server that wrote it in UNDERSTUDY_SERVER."
_UNREADABLE = (EOFError, zlib.error, cast(type[Exception], isal_zlib.error), gzip.BadGzipFile)
_EXPIRED = re.compile(r"keys expired: (\d+)")


@contextlib.contextmanager
def loaded(source: Path, progress: Progress) -> Iterator[Target]:
    """Give a scratch server that has loaded the file, `.gz` or not.

    Raises:
        IntegrityError: it is no RDB file, or the server refuses it; `why` is the server's own reason.
        RefusedError: there is not enough room for the copy.
        UsageError: the lab is not installed.
    """
    try:
        from understudy import lab  # noqa: PLC0415 - the lab is an extra
    except ImportError as error:
        raise UsageError(
            f"reading {source}", "it takes a server to read it, and the lab is not installed",
            f"{installed.how_to_add('lab')}.",
        ) from error  # fmt: skip
    with lab.standalone(password=secrets.token_hex(16), databases=_DATABASES) as server:
        copy = server.nodes[0].directory / "dump.rdb"
        _unpack(source, copy, progress)
        _load(server, source, progress)
        copy.unlink()
        yield server.target()


def _unpack(source: Path, copy: Path, progress: Progress) -> None:
    """Copy the file, gunzipped where it is compressed, never past what is free on the disk."""
    doing = f"reading {source}"
    room = shutil.disk_usage(copy.parent).free
    try:
        with source.open("rb") as raw, _stream(raw) as stream, copy.open("xb") as file:
            data = stream.read(_HEAD_BYTES)
            if not _MAGIC.match(data):
                raise IntegrityError(doing, "it is no RDB file of Redis or Valkey", _HINT)
            with stage(progress, "Unpacking", None, "bytes"):
                while data:
                    room -= len(data)
                    if room < 0:
                        raise RefusedError(doing, f"unpacked it does not fit into {copy.parent}", "Free some space.")
                    file.write(data)
                    progress.advance(len(data))
                    data = stream.read(_CHUNK_BYTES)
    except _UNREADABLE as error:
        raise IntegrityError(doing, f"it cannot be gunzipped: {error}", _HINT) from error


def _stream(raw: BinaryIO) -> contextlib.AbstractContextManager[BinaryIO]:
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    if not packed:
        return contextlib.nullcontext(raw)
    return cast(BinaryIO, igzip.GzipFile(fileobj=raw, mode="rb"))  # type: ignore[no-untyped-call]


def _load(server: Lab, source: Path, progress: Progress) -> None:
    target = server.target()
    log = server.nodes[0].log
    before = log.stat().st_size

    def reload() -> Any:
        with contextlib.closing(Wire(target.seeds[0], target, _LOADS_WITHIN_S)) as wire:
            return wire.call("DEBUG", "RELOAD", "NOSAVE")

    with ThreadPoolExecutor(1) as pool, stage(progress, "Loading", None, "bytes"):
        answer: Future[Any] = pool.submit(reload)
        try:
            while not wait([answer], _LOOK_EVERY_S).done:
                progress.advance(0)
            answer.result()
        except (ServerSaidError, UnreachableError) as error:  # one of them before, the other after it ended itself
            reason = complaint(log, before)
            raise IntegrityError(f"reading {source}", f"the server refuses it: {reason}", _HINT) from error
        except BaseException:
            server.stop()  # the waiting thread ends with its connection
            raise
    if (expired := _EXPIRED.search(said(log, before))) and int(expired[1]):
        progress.say(f"Left out: {expired[1]} key(s) of {source.name} have expired since it was written.")
