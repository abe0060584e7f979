"""Who did what to the sets, when, and how it ended: one JSON line each in `audit.jsonl`, chained by hash.

A line's `hash` is the SHA-256 of the line without it, and `previous` is the hash of the line before: whoever edits,
removes or moves a line has to rewrite all that follow. `audit.head` holds number and hash of the last line, so that a
tail that was cut off shows as well. It is written after its line: a crash between the two leaves a head that is one
line behind, which is no damage; a head that is ahead of the lines is. A line that a power cut tore is left as it is,
and the next line names it by its hash (`found`).

Nobody holds a key here: who may write to the directory may begin both files anew. Copy them elsewhere against that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from understudy.backup.durable import sync, write_file
from understudy.errors import IntegrityError, UnderstudyError, UnreachableError
from understudy.operations.deeds import START, Entry

LINES = "audit.jsonl"
HEAD = "audit.head"
MOST_DETAIL = 2000  # characters; with it every line is far shorter than what is read of the tail
_TAIL_BYTES = 64 << 10
_TORN, _HEADLESS = "torn:", "headless"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass
class Record:
    """What the doer tells about one deed while it goes on; it stands in the `ended` line."""

    set: str | None = None
    tier: str | None = None
    components: tuple[str, ...] = ()
    detail: str | None = None
    run: str = ""


def _to_stderr(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")


class Audit:
    """The audit log of the sets in a directory; `profile` stands in what is recorded.

    `clock` and `warn` (for what cannot be written) are for callers.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        warn: Callable[[str], None] = _to_stderr,
        profile: str | None = None,
    ) -> None:
        self.directory, self._clock, self._warn, self._profile = directory, clock, warn, _clean(profile)
        self.path, self._head = directory / LINES, directory / HEAD

    @contextlib.contextmanager
    def recorded(
        self,
        action: str,
        *,
        set: str | None = None,  # noqa: A002 - what it is
        tier: str | None = None,
        components: tuple[str, ...] = (),
        make: bool = True,
    ) -> Iterator[Record]:
        """Write that something began, and when the block is left, how it ended; an error goes through unchanged.

        A log that cannot be written stops nothing: that is a warning, once. Without `make` no directory is made: where
        there is none both lines are written at the end, if there is one then.
        """
        record = Record(set, tier, components, run=secrets.token_hex(8))
        began, at = time.monotonic(), self._clock()
        waits = not make and not self.directory.is_dir()
        written = None if waits else self._write(at, action, "began", record)
        outcome, detail = "ok", None
        try:
            yield record
        except BaseException as error:
            if getattr(error, "exit_code", getattr(error, "code", 1)) not in {0, None}:
                outcome, detail = "failed", _told(error)
                if action == "check" and not isinstance(error, IntegrityError):
                    detail = f"{record.set} was not checked: {detail}"
                    record.set = None  # for nothing is known about it
            raise
        finally:
            if waits and self.directory.is_dir():
                written = self._write(at, action, "began", record)
            if written is not None:
                seconds = round(time.monotonic() - began, 3)
                detail = detail or record.detail
                self._write(
                    self._clock(), action, "ended", record, outcome, seconds, detail, quiet=not written
                )  # fmt: skip

    def _write(
        self,
        at: datetime,
        action: str,
        phase: str,
        record: Record,
        outcome: str | None = None,
        seconds: float | None = None,
        detail: str | None = None,
        *,
        quiet: bool = False,
    ) -> bool:
        try:
            self.append(Entry(
                0, at.astimezone(UTC).isoformat(timespec="milliseconds"), _actor(), action, phase, record.run,
                record.set, record.tier, self._profile, tuple(record.components), outcome, seconds, _clean(detail),
            ))  # fmt: skip
        except UnderstudyError as error:
            if not quiet:
                self._warn(f"Warning: {action} is not in the audit log. {error}. {error.hint}")
            return False
        return True

    def append(self, entry: Entry) -> Entry:
        """Write one line, durably, behind the last; number, hashes and what was found there are put in.

        Raises:
            UnreachableError: it cannot be written; the log is as it was.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked() as file:
                last, rest, end = _tail(file)
                head = self._read_head()
                number, previous = head if isinstance(head, tuple) and head[0] >= last[0] else last
                found = []
                if rest and number == last[0]:  # a crash: nobody was told that it was written
                    found.append(f"{_TORN}{hashlib.sha256(rest).hexdigest()}")
                if head is None and not file.seek(0, os.SEEK_END):
                    write_file(self._head, _head_line(0, START))  # first of all: a log without a head lost it
                elif not isinstance(head, tuple):
                    found.append(_HEADLESS)
                entry = replace(entry, number=number + 1, previous=previous, found=tuple(found)).sealed()
                before = file.seek(0, os.SEEK_END)
                try:
                    _add(file, end + entry.encode() + b"\n")
                    write_file(self._head, _head_line(entry.number, entry.hash))
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(file.fileno(), before)  # a full disk takes half a line: take it back
                    raise
        except OSError as error:
            raise UnreachableError(
                f"writing to {self.path}", error.strerror or str(error), "Check the directory's rights and its space."
            ) from error
        return entry

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        while True:
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if new:
                    sync(self.directory)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), self.path.stat()):  # not moved away meanwhile
                        yield file
                        return

    def entries(self) -> list[Entry]:
        """Return every line that can be read, in order. Raises `UnreachableError` where the file cannot be read."""
        return [entry for line in self._lines()[0] if (entry := Entry.decode(line))]

    def _lines(self) -> tuple[list[bytes], tuple[int, str] | str | None]:
        """Return the lines and the head as they belong together."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                data, head = file.read(), self._read_head()
        except FileNotFoundError:
            data, head = b"", self._read_head()
            if head is not None and self.path.exists():  # somebody begins it this moment
                return self._lines()
        except OSError as error:
            raise UnreachableError(f"reading {self.path}", error.strerror or str(error), "Check its rights.") from error
        return (data.removesuffix(b"\n").split(b"\n") if data else []), head

    def _read_head(self) -> tuple[int, str] | str | None:
        """Return number and hash of the last line; None where the file is not there, a sentence where it is damaged."""
        try:
            data = self._head.read_bytes()
            document = orjson.loads(data)
            number, digest = document["number"], document["hash"]
            if type(number) is int and isinstance(digest, str) and data == _head_line(number, digest):
                return number, digest
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            pass
        return f"{HEAD} is damaged"

    def broken(self) -> str | None:
        """Return what was done to the log, with the first line that shows it; None where it is whole.

        Raises:
            UnreachableError: a file cannot be read.
        """
        lines, head = self._lines()
        number, previous = 0, START
        unreadable: list[bytes] = []
        seen = {number: previous}
        for place, line in enumerate(lines, 1):
            entry = Entry.decode(line)
            if entry is None:
                unreadable.append(line)
                continue
            torn = next((one.removeprefix(_TORN) for one in entry.found if one.startswith(_TORN)), None)
            if unreadable and hashlib.sha256(b"\n".join(unreadable)).hexdigest() != torn:
                return f"line {place - len(unreadable)} is not as it was written"
            if torn is not None and not unreadable:
                return f"a torn line before line {place} is no longer there"
            if entry.number != number + 1:
                return f"line {place} is entry {entry.number}, and entry {number + 1} belongs there"
            if entry.previous != previous:
                return f"line {place} does not follow from the line before it"
            if _HEADLESS in entry.found:
                return f"{HEAD} was gone when line {place} was written: lines before it may have been cut off"
            number, previous, unreadable = entry.number, entry.hash, []
            seen[number] = previous
        if head is None:
            return f"{HEAD} is gone, so nobody knows whether the end was cut off" if lines else None
        if isinstance(head, str):
            return head
        if head[0] > number:
            return (
                f"the end was cut off or damaged: entry {head[0]} was written, and the last that is whole is {number}"
            )
        return None if seen[head[0]] == head[1] else f"entry {head[0]} is not the one that was written"


def _head_line(number: int, digest: str) -> bytes:
    return orjson.dumps({"number": number, "hash": digest}) + b"\n"


def _add(file: BinaryIO, data: bytes) -> None:
    while data:
        data = data[os.write(file.fileno(), data) :]
    os.fsync(file.fileno())


def _tail(file: BinaryIO) -> tuple[tuple[int, str], bytes, bytes]:
    """Return number and hash of the last line that is whole, what lies behind it, and the line end that is missing.

    Only as much of the end is read as that takes.
    """
    size = file.seek(0, os.SEEK_END)
    length = min(size, _TAIL_BYTES)
    while True:
        file.seek(size - length)
        data = b""
        while len(data) < length and (more := file.read(length - len(data))):
            data += more
        end = b"" if not data or data.endswith(b"\n") else b"\n"
        lines = data.removesuffix(b"\n").split(b"\n") if data else []
        for behind, line in enumerate(reversed(lines)):
            if entry := Entry.decode(line):
                return (entry.number, entry.hash), b"\n".join(lines[len(lines) - behind :]), end
        if length == size:
            return (0, START), b"\n".join(lines), end
        length = min(size, 4 * length)


def _actor() -> str:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    by = os.environ.get("SUDO_USER")
    return f"{user}@{socket.gethostname()}" + (f" (sudo by {by})" if by else "")


def _told(error: BaseException) -> str:
    if isinstance(error, UnderstudyError):
        return "; ".join([str(error), *error.items[:10]])
    return "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else f"{type(error).__name__}: {error}"


def _clean(detail: str | None) -> str | None:
    """Return a text without credentials of URLs, without what UTF-8 cannot say, and not too long."""
    if detail is None:
        return None
    text = _CREDENTIALS.sub("***@", detail).encode(errors="replace").decode()
    return text if len(text) <= MOST_DETAIL else text[: MOST_DETAIL - 1] + "…"
