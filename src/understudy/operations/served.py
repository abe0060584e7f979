"""That `schedule serve` is at work: a lock of the kernel's in BACKUP_DIR, and what stands in its file."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from understudy.errors import RefusedError, UnreachableError
from understudy.operations.crontime import CronTime
from understudy.operations.tier import Tier
from understudy.settings import Settings

NAME = "serve"
_LOOK_EVERY_S = 0.05
_PATIENCE_S = 0.5  # somebody who only looks has the lock for a moment


@dataclass(frozen=True)
class Served:
    """Who serves, or served: `ended` is when it ended by itself, None where it runs or was killed."""

    pid: int
    host: str
    since: str
    times: Mapping[str, str]
    ended: str | None = None
    alive: bool = False

    def __str__(self) -> str:
        return f"`schedule serve` (process {self.pid} on {self.host}, since {self.since})"

    @property
    def end(self) -> str:
        """Return how to end it; a pid says something on its own machine or in its own container only."""
        if self.host == socket.gethostname():
            return f"kill {self.pid}"
        return (
            f"`docker compose stop backup` or `docker stop {self.host}` where that is a container; else on {self.host}"
        )

    @property
    def trouble(self) -> str | None:
        """Return why nothing starts runs any more; None while it is at work."""
        if self.alive:
            return None
        how = f"was ended at {self.ended}" if self.ended else "died"
        return f"{self} {how}: nothing begins runs"


def path_of(settings: Settings) -> Path:
    """Return the file for this BACKUP_DIR and profile."""
    profile = hashlib.sha256(settings.profile.encode(errors="surrogateescape")).hexdigest()[:8]
    return settings.backup_dir / f".{NAME}-{profile}"


def found(settings: Settings) -> Served | None:
    """Return who serves, or was the last to; None where nobody ever did. Raises `UnreachableError`."""
    path = path_of(settings)
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                alive = False
            except BlockingIOError:
                alive = True
            return _read(file.read(65536), alive)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreachableError(f"reading {path}", error.strerror or str(error), "Check BACKUP_DIR.") from error


@contextlib.contextmanager
def serving(settings: Settings, times: Mapping[Tier, CronTime], now: datetime) -> Iterator[None]:
    """Be the one who serves while the block runs.

    Raises:
        RefusedError: somebody else serves this directory and profile.
        UnreachableError: the directory cannot be written to.
    """
    path = path_of(settings)
    me = Served(
        os.getpid(), socket.gethostname(), f"{now.astimezone():%Y-%m-%d %H:%M:%S%z}",
        {str(tier): one.text for tier, one in times.items()},
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, descriptor)
            _take(descriptor, settings)
            _write(descriptor, me)
        except OSError as error:
            raise UnreachableError(
                f"writing {path}", error.strerror or str(error), "Check BACKUP_DIR, its rights and its space."
            ) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                _write(descriptor, replace(me, ended=f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z}"))


def forget(settings: Settings, *, dry_run: bool = False) -> str:
    """Remove what a server left that is at work no more; return in words what that was, nothing where nothing is.

    Raises:
        RefusedError: it is at work.
    """
    last = found(settings)
    if last is None:
        return ""
    if last.alive:
        raise RefusedError("removing the schedule", f"{last} is at work", f"End it: {last.end}")
    if not dry_run:
        path_of(settings).unlink(missing_ok=True)
    return str(last)


def _take(descriptor: int, settings: Settings) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(_LOOK_EVERY_S)
                continue
            raise RefusedError(
                "serving the schedule", f"{found(settings) or 'another one'} does already for {settings.backup_dir}",
                "End that one first, or leave it to it.",
            ) from None  # fmt: skip
        return


def _read(text: str, alive: bool) -> Served:
    try:
        said = json.loads(text)
        times = {str(tier): str(time) for tier, time in said["times"].items()}
        return Served(int(said["pid"]), str(said["host"]), str(said["since"]), times, said["ended"], alive)
    except (ValueError, KeyError, TypeError, AttributeError):  # it begins just now, or its disk was full
        return Served(0, "this machine", "a time that nobody wrote down", {}, None, alive)


def _write(descriptor: int, served: Served) -> None:
    data = asdict(served)
    del data["alive"]
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(data).encode(), 0)
