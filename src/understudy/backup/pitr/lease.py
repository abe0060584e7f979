"""One archiver for an archive: `lock.json` says who, and until when that holds unless it is said again.

Two that write side by side damage nothing, for every stream has a name of its own; they would only cost twice.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from understudy.backup.pitr.objects import Objects
from understudy.errors import NotFoundError, RefusedError
from understudy.lab import guardian

LOCK = "lock.json"
VALID_S = 60.0
RENEW_S = 15.0
_SETTLES_S = 0.3


@dataclass(frozen=True)
class Holder:
    """Who archives: a token of its own, its machine, its process (with its start), and when it last said so."""

    token: str
    host: str
    pid: int
    started: str
    renewed_ms: int

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Holder | None:
        """Read one; None where it is none, as a crash may leave it."""
        try:
            told: dict[str, Any] = orjson.loads(data)
            return cls(
                str(told["token"]), str(told["host"]), int(told["pid"]), str(told["started"]), int(told["renewed_ms"])
            )
        except (KeyError, TypeError, ValueError):
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def is_over(holder: Holder, host: str, now_ms: float) -> bool:
    """Tell whether a lock holds no more: it was not renewed, or its process on this machine is gone."""
    if now_ms - holder.renewed_ms > VALID_S * 1000:
        return True
    boot = _own_start().partition(":")[0]
    here = holder.host == host and holder.started.partition(":")[0] == boot
    return here and guardian.state(guardian.Process(holder.pid, holder.started)) == "dead"


def _own_start() -> str:
    found = guardian.identify(os.getpid())
    return found.started if found else ""


class Lease:
    """The lock of one archive, ours once `take` has returned."""

    def __init__(
        self, objects: Objects, root: str, clock: Callable[[], float] = time.time, host: str | None = None
    ) -> None:
        self._objects, self._path, self._clock = objects, f"{root}/{LOCK}", clock
        self._host, self._token = host or socket.gethostname(), secrets.token_hex(8)

    def take(self) -> None:
        """Take it. Raises `RefusedError` where somebody else has it."""
        if self._objects.create(self._path, self._mine().encode()):
            return
        holder = self._holder()
        if holder and not is_over(holder, self._host, self._clock() * 1000):
            raise self._refusal(holder, "starting the archive")
        self._objects.put(self._path, self._mine().encode())
        time.sleep(_SETTLES_S)  # of two that do this at once, the one whose object stays has it
        self._check("starting the archive")

    def renew(self) -> None:
        """Say again that it is ours. Raises `RefusedError` where somebody else took it meanwhile."""
        self._check("going on with the archive")
        self._objects.put(self._path, self._mine().encode())

    def release(self) -> None:
        """Give it back, if it is ours."""
        holder = self._holder()
        if holder and holder.token == self._token:
            self._objects.delete(self._path)

    def _check(self, doing: str) -> None:
        holder = self._holder()
        if holder and holder.token != self._token:
            raise self._refusal(holder, doing)

    def _holder(self) -> Holder | None:
        try:
            return Holder.decode(self._objects.get(self._path))
        except NotFoundError:
            return None

    def _mine(self) -> Holder:
        return Holder(self._token, self._host, os.getpid(), _own_start(), int(self._clock() * 1000))

    def _refusal(self, holder: Holder, doing: str) -> RefusedError:
        age_s = max(0.0, self._clock() - holder.renewed_ms / 1000)
        return RefusedError(
            f"{doing} in {self._objects.where}", f"{holder} writes to it, and said so {age_s:.0f} s ago",
            f"End that one, or give this archive another name (BACKUP_NAME). If it is dead: again in {VALID_S:.0f} s.",
        )  # fmt: skip
