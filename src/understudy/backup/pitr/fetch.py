"""Fetch what one stream needs for a second: its base, and one append-only file that ends with that second.

Every object is compared with its checksum before it is opened, and never grows past the size that it is said to have.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from isal import igzip, isal_zlib

from understudy.backup.age import decrypt_file, library, opens
from understudy.backup.encryption import Key
from understudy.backup.pitr.catalog import Archive, Stream, side_by_side
from understudy.backup.pitr.objects import Objects
from understudy.backup.pitr.stream import KEY, ChunkName
from understudy.backup.pitr.when import told
from understudy.backup.workers import run_all
from understudy.errors import IntegrityError, NotFoundError, RefusedError
from understudy.progress import Progress, Silent, stage

if TYPE_CHECKING:
    from understudy.lab.servers.valkey import Binary

_AT_ONCE = 8
_BLOCK_BYTES = 1 << 20
_LOOK_EVERY_S = 0.2
_UNREADABLE = (EOFError, OSError, zlib.error, cast(type[Exception], isal_zlib.error))
_NO_KEY = "Set BACKUP_IDENTITY (or --identity) to the file with the secret key, or BACKUP_PASSPHRASE."
_MOST_MARK_BYTES = 64  # of a line `#TS:<unix seconds>`, with what ends the one before it
_NOTHING_YET = "has nothing before timestamp"
_WHOLE_UP_TO = re.compile(r"ok_up_to=(\d+),.* diff=[1-9]")


@dataclass(frozen=True)
class Fetched:
    """A stream on our disk as it was at a second's end: an RDB file, and the commands that followed it."""

    stream: Stream
    base: Path
    increments: Path


def stored_size(stream: Stream, second: int) -> int:
    """Return the bytes that are to be fetched."""
    return stream.info.base.size + sum(stream.sizes[str(chunk)] for chunk in stream.needed(second))


def plain_size(stream: Stream, second: int) -> int:
    """Return the bytes that these take on our disk."""
    return stream.info.base.plain_size + sum(chunk.size for chunk in stream.needed(second))


def fetch(
    objects: Objects,
    archive: Archive,
    stream: Stream,
    second: int,
    identities: Sequence[Any],
    into: Path,
    progress: Progress,
) -> Fetched:
    """Fetch a stream into an empty directory; `progress` has a stage, in bytes as they are stored.

    Raises:
        IntegrityError: an object is missing or damaged; the error names it, and the last second that needs none of it.
    """
    bench = _Bench(objects, archive, stream, second, identities, into, progress)
    base, increments = into / "base.rdb", into / "incr.aof"
    bench.base(base)
    with increments.open("xb") as file:
        chunks = stream.needed(second)
        for chunk, stored in zip(chunks, side_by_side(bench.chunk, chunks, _AT_ONCE), strict=True):
            if isinstance(stored, Exception):
                raise stored
            bench.append(chunk, stored, file)
    return Fetched(stream, base, increments)


@dataclass(frozen=True)
class _Bench:
    """What is the same for every object of a stream."""

    objects: Objects
    archive: Archive
    stream: Stream
    second: int
    identities: Sequence[Any]
    into: Path
    progress: Progress

    def base(self, plain: Path) -> None:
        """Fetch the base."""
        base = self.stream.info.base
        stored = self.into / "stored"
        try:
            self._fetch(base.path, stored, base.size, base.sha256)
            with plain.open("xb") as file:
                self._unpack(base.path, stored, base.plain_size, file)
        except (IntegrityError, NotFoundError) as error:
            raise self._damaged(base.path, error, None) from error

    def chunk(self, chunk: ChunkName) -> Path | Exception:
        """Fetch a piece; what is wrong is returned, to be raised when it is its turn."""
        stored = self.into / str(chunk)
        try:
            self._fetch(str(chunk), stored, self.stream.sizes[str(chunk)], chunk.sha256)
        except (IntegrityError, NotFoundError) as error:
            return self._damaged(str(chunk), error, chunk.seq)
        return stored

    def append(self, chunk: ChunkName, stored: Path, file: BinaryIO) -> None:
        """Put a piece behind those before it."""
        try:
            self._unpack(str(chunk), stored, chunk.size, file)
        except IntegrityError as error:
            raise self._damaged(str(chunk), error, chunk.seq) from error

    def _fetch(self, name: str, stored: Path, size: int, sha256: str) -> None:
        self.objects.fetch(f"{self.stream.folder}/{name}", stored, self.progress.advance)
        with stored.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if stored.stat().st_size != size or not found.startswith(sha256):
            raise IntegrityError(name, "its bytes are not those that were written")

    def _unpack(self, name: str, stored: Path, size: int, file: BinaryIO) -> None:
        """Decrypt and gunzip an object to the end of a file, exactly so many bytes; the object goes."""
        if self.stream.info.encryption is None:
            _gunzip(stored, size, file)
        else:
            plain = stored.with_name(f"{stored.name}.plain")
            decrypt_file(stored, plain, size, self.identities, Silent(), name)
            with plain.open("rb") as source:
                while data := source.read(_BLOCK_BYTES):
                    file.write(data)
            plain.unlink()
        stored.unlink()

    def _damaged(self, name: str, error: Exception, seq: int | None) -> IntegrityError:
        why = "it is not there any more" if isinstance(error, NotFoundError) else error.args[0].partition(": ")[2]
        last = self.archive.last_good(self.stream, seq, self.second)
        hint = "Nothing before it can be restored either; `understudy list --archive` shows what can."
        if last is not None:
            hint = f"The last second that does not need it: --at {told(last)}"
        return IntegrityError(f"reading {self.stream.folder}/{name}", f"it is damaged: {why}", hint)


def _gunzip(stored: Path, size: int, file: BinaryIO) -> None:
    left = size
    try:
        with stored.open("rb") as raw, igzip.GzipFile(fileobj=raw, mode="rb") as stream:  # type: ignore[no-untyped-call]
            while data := stream.read(_BLOCK_BYTES):
                left -= len(data)
                if left < 0:
                    break
                file.write(data)
    except _UNREADABLE as error:
        raise IntegrityError(stored.name, f"it cannot be gunzipped ({error})") from error
    if left:
        raise IntegrityError(stored.name, "it does not hold as many bytes as it is said to")


def identities_for(objects: Objects, streams: Sequence[Stream], key: Key, into: Path, progress: Progress) -> list[Any]:
    """Return what opens every one of these streams; nothing where none of them is encrypted.

    Raises:
        RefusedError: a key is missing, or is another one.
    """
    locked = [stream for stream in streams if stream.info.encryption is not None]
    if not locked:
        return []
    doing = f"decrypting {locked[0].folder}"
    if not key.given:
        raise RefusedError(doing, "it is encrypted, and no key is given", _NO_KEY)
    identities = key.identities()
    left = [stream for stream in locked if not _opened_by(objects, stream, identities, into)]
    if left and key.passphrase:
        sealed = [objects.get(f"{one.folder}/{KEY}") for one in left if KEY in one.sizes]
        tasks = [{"sealed": one.hex(), "passphrase": key.passphrase} for one in sealed]
        with stage(progress, "Opening the keys", None, "keys"):
            found = run_all("understudy.backup.tasks.seal:unseal", tasks, progress.advance)
        identities += [library().x25519.Identity.from_str(one["identity"]) for one in found]
        left = [stream for stream in left if not _opened_by(objects, stream, identities, into)]
    if left:
        raise RefusedError(
            f"decrypting {left[0].folder}", "the key is not one of those that it is encrypted for", _NO_KEY
        )
    return identities


def _opened_by(objects: Objects, stream: Stream, identities: Sequence[Any], into: Path) -> bool:
    """Try the smallest object."""
    if not identities:
        return False
    name = min((stream.info.base.path, *map(str, stream.chunks[:_AT_ONCE])), key=stream.sizes.__getitem__)
    place = into / "try"
    objects.fetch(f"{stream.folder}/{name}", place)
    try:
        return opens(place, identities, name)
    finally:
        place.unlink()


# -- the end of a second


def cut(fetched: Fetched, second: int, binary: Binary, progress: Progress) -> None:
    """Leave of the commands those up to the end of a second, with the server's own check tool.

    Raises:
        IntegrityError: the tool refuses the file; `why` is what it said.
    """
    file = fetched.increments
    _drop_torn_mark(file)
    if not file.stat().st_size:
        return
    tool = file.with_name("valkey-check-aof")
    if not tool.exists():
        tool.symlink_to(binary.path)  # the server is that tool when it is called so
    run = partial(_run, fetched, tool, progress)
    if whole := _WHOLE_UP_TO.search(run()):
        at = int(whole[1])
        if not _is_torn(file, at):
            raise IntegrityError(
                f"cutting the commands of {fetched.stream.folder}", f"from byte {at:,} on they are none",
                "Something in it was exchanged or lost. Try another second, or a set: `understudy list`.",
            )  # fmt: skip
        os.truncate(file, at)
    if file.stat().st_size and _NOTHING_YET in run("--truncate-to-timestamp", str(second)):
        os.truncate(file, 0)


def _is_torn(file: Path, at: int) -> bool:
    """Tell whether what stands behind a byte are commands that only lack their end, as a piece may end anywhere."""
    with file.open("rb") as stream:
        stream.seek(at)
        bulks = 0
        while line := stream.readline(_MOST_MARK_BYTES):
            wanted = b"$" if bulks else b"*#"
            if line[:1] not in [wanted[n : n + 1] for n in range(len(wanted))]:
                return False
            if not line.endswith(b"\r\n"):
                return len(line) < _MOST_MARK_BYTES
            if line.startswith(b"#"):
                continue
            if not line[1:-2].isdigit():
                return False
            if not bulks:
                bulks = int(line[1:-2])
                continue
            stream.seek(int(line[1:-2]), os.SEEK_CUR)
            if not b"\r\n".startswith(stream.read(2)):
                return False
            bulks -= 1
    return True


def _drop_torn_mark(file: Path) -> None:
    """Remove the beginning of a `#TS:` line that a piece ends with: the tool mends torn commands, and refuses these."""
    with file.open("r+b") as end:
        at = max(0, end.seek(0, os.SEEK_END) - _MOST_MARK_BYTES)
        end.seek(at)
        tail = end.read()
        line = tail.rfind(b"\r\n") + 2 if b"\r\n" in tail else 0
        if tail[line:].startswith(b"#") and (line or not at):
            end.truncate(at + line)


def _run(fetched: Fetched, tool: Path, progress: Progress, *words: str) -> str:
    with subprocess.Popen(
        [tool, *words, fetched.increments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as child:  # fmt: skip
        try:
            said = _answered(child, progress)
        except BaseException:
            child.kill()
            raise
    text = said.decode(errors="replace")
    if child.returncode and _NOTHING_YET not in text and not _WHOLE_UP_TO.search(text):
        lines = [line for line in text.splitlines() if line.strip()]
        raise IntegrityError(
            f"cutting the commands of {fetched.stream.folder}",
            f"{tool.name} says: {lines[-1][:300] if lines else 'nothing'}",
            "Try another second, or a set: `understudy list`.",
        )
    return text


def _answered(child: subprocess.Popen[bytes], progress: Progress) -> bytes:
    answer: bytes | None = b"y\n"
    while True:
        try:
            return child.communicate(answer, timeout=_LOOK_EVERY_S)[0]
        except subprocess.TimeoutExpired:
            answer = None
            progress.advance(0)
