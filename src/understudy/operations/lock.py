"""One run at a time: a lock of the kernel's, which is free again whatever happened to whoever held it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

from understudy.errors import RefusedError, UnreachableError

LOCK = ".run.lock"
_LOOK_EVERY_S = 0.1
_PATIENCE_S = 0.5  # somebody who only looks who holds it has it for a moment


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as it wrote there: process, what it does, and since when (ISO 8601)."""

    pid: int
    what: str
    since: str

    def __str__(self) -> str:
        return f"{self.what} (process {self.pid}, since {self.since})"


@contextlib.contextmanager
def held(
    directory: Path, what: str, now: datetime, wait_s: float = 0, say: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Hold the lock of a directory of sets while the block runs; wait for it up to `wait_s`, which is told once.

    Raises:
        RefusedError: somebody else holds it, and still did after the wait.
        UnreachableError: the directory cannot be written to.
    """
    with _opened(directory) as file:
        began = time.monotonic()
        told = False
        while not _taken(file, directory):
            waited_s = time.monotonic() - began
            if waited_s >= max(wait_s, _PATIENCE_S):
                waited = f" (waited {wait_s:.0f} s)" if wait_s else ""
                raise RefusedError(
                    f"starting {what}", f"{_read(file) or 'another run'} is at work in {directory}{waited}",
                    "Wait for it to end, or let this one wait: --wait 2h.",
                )  # fmt: skip
            if not told and wait_s and waited_s >= _PATIENCE_S:
                say(f"{_read(file) or 'Another run'} is at work in {directory}: waiting, up to {wait_s:.0f} s.")
                told = True
            time.sleep(_LOOK_EVERY_S)
        with contextlib.suppress(OSError):  # a full disk: the lock is held, it only does not say by whom
            _write(file, json.dumps({"pid": os.getpid(), "what": what, "since": f"{now:%Y-%m-%dT%H:%M:%S%z}"}))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                _write(file, "")


def holder(directory: Path) -> Holder | None:
    """Return who holds the lock just now. Raises `UnreachableError` where nobody can tell."""
    try:
        with (directory / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        with (directory / LOCK).open() as file:
            return _read(file) or Holder(0, "another run", "a moment ago")
    except OSError as error:
        raise _unusable(directory, error) from error
    return None


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[TextIO]:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from error
    with os.fdopen(descriptor, "r+") as file:
        yield file


def _taken(file: TextIO, directory: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks
        raise _unusable(directory, error) from error
    return True


def _read(file: TextIO) -> Holder | None:
    try:
        file.seek(0)
        said = json.loads(file.read(4096))
        return Holder(int(said["pid"]), str(said["what"]), str(said["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: TextIO, text: str) -> None:
    os.ftruncate(file.fileno(), 0)
    os.pwrite(file.fileno(), text.encode(), 0)


def _unusable(directory: Path, error: OSError) -> UnreachableError:
    return UnreachableError(
        f"taking the lock in {directory}", error.strerror or str(error), "Check BACKUP_DIR, its rights and its space."
    )
