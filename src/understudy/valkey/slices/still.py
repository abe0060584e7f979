"""Read a key in slices from a server that goes on working: what was read is one state of it, or is read again.

The key is watched, read, and the watch asked whether anybody has touched it. Where a server or a proxy lets nobody
watch, it is read until two readings are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from understudy.errors import NotAuthorisedError, ServerSaidError, UnreachableError
from understudy.valkey.discovery import now_ms
from understudy.valkey.router import NOT_NOW, Router
from understudy.valkey.slices.commands import Newest
from understudy.valkey.slices.read import KINDS, read
from understudy.valkey.slices.streams import state
from understudy.valkey.slots import key_slot
from understudy.valkey.wire import ReplyError, Wire, error_for, pack

PIECE_BYTES = 4 << 20  # of a value that is moved: several of them are in memory at once
_TRIES_PAUSES_S = (0.0, 0.1, 0.5, 1.0, 2.0)
_LENGTHS = {"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}
_ELSEWHERE = ("MOVED", "ASK", *NOT_NOW)


@dataclass(frozen=True)
class Still:
    """What a key was: its type, when it expires (milliseconds since 1970), and its bytes or elements."""

    kind: str
    expire_at_ms: int | None
    length: int


class RestlessError(Exception):
    """A key that changed each time it was read, or that cannot be read in slices; it says why."""


class _Changed(Exception):  # noqa: N818 - a signal, not an error
    """The key was touched meanwhile."""


def length(wire: Wire, key: bytes, kind: str) -> int:
    """Return the bytes of a string, or the elements of anything else."""
    return int(wire.call(_LENGTHS[kind], key))


def read_still(
    router: Router,
    key: bytes,
    slice_bytes: int,
    begin: Callable[[], None],
    put: Callable[[bytes, int], None],
    newest: Newest | None = None,
) -> Still | None:
    """Read one state of a key; None where there is no such key (any more).

    `begin` is called at each beginning: what was put before is worth nothing then. `put` is given packed commands,
    and how many they are.

    Raises:
        RestlessError: it changed every time; or nobody served it undisturbed for the router's patience.
        NotAuthorisedError: the user may not read it.
        UnreachableError: nobody answered for the router's patience.
    """
    reading = _Reading(router, key, min(slice_bytes, PIECE_BYTES), begin, put, newest)
    tries = 0
    give_up_at = time.monotonic() + router.patience_s
    while True:
        try:
            return reading.once()
        except _Changed as changed:
            tries += not reading.doubted  # the first of two equal readings is no failure
            why = str(changed)
            if tries >= len(_TRIES_PAUSES_S):
                raise RestlessError(why) from changed
            pause_s = 0.0 if reading.doubted else _TRIES_PAUSES_S[tries]
        except (UnreachableError, ServerSaidError) as error:
            why, pause_s = error.why, 0.2
            if isinstance(error, ServerSaidError) and not why.startswith(_ELSEWHERE):
                raise
            if time.monotonic() > give_up_at:
                if isinstance(error, UnreachableError):
                    raise
                raise RestlessError(why) from error
            with contextlib.suppress(UnreachableError):
                router.refresh()
        time.sleep(pause_s)


@dataclass
class _Reading:
    router: Router
    key: bytes
    piece_bytes: int
    begin: Callable[[], None]
    put: Callable[[bytes, int], None]
    newest: Newest | None
    doubted: bool = False  # whether what was read has to be read again to be believed
    _before: tuple[bytes, Still] | None = None

    def once(self) -> Still | None:
        """Read it once; raise what fits where that is no state of it."""
        key = self.key
        address = self.router.owner(key_slot(key))
        if address is None:
            raise UnreachableError(f"reading the key {key[:200]!r}", "nobody serves its slot")
        self.doubted = False
        with Wire(address, self.router.target) as wire:
            watched = self._watch(wire)
            kind = wire.call("TYPE", key).decode()
            if kind == "none":
                return None
            if kind not in KINDS:
                raise RestlessError(f"there are no commands that build a value of type {kind}")
            groups = state(wire, key) if kind == "stream" else 0
            still = Still(kind, expiry(wire, key), length(wire, key, kind))
            digest = self._read(wire, kind)
            if kind == "stream" and groups != state(wire, key):
                raise _Changed("its consumers went on while it was read")
            if watched:
                if wire.pipeline([("MULTI",), ("EXISTS", key), ("EXEC",)])[-1] is None:
                    raise _Changed("it was written to each time while it was read")
                return still
        seen, self._before = self._before, (digest, still)
        if seen == self._before:
            return still
        self.doubted = seen is None
        raise _Changed("no two readings of it were the same")

    def _watch(self, wire: Wire) -> bool:
        reply = wire.pipeline([("WATCH", self.key)])[0]
        if isinstance(reply, ReplyError) and str(reply).startswith(_ELSEWHERE):
            raise error_for(wire.address, ("WATCH",), reply)
        return not isinstance(reply, ReplyError)

    def _read(self, wire: Wire, kind: str) -> bytes:
        digest = hashlib.blake2b()
        self.begin()
        try:
            for batch in read(wire, self.key, kind, slice_bytes=self.piece_bytes, newest=self.newest):
                packed = b"".join(map(pack, batch))
                digest.update(packed)
                self.put(packed, len(batch))
        except ServerSaidError as error:
            if error.why.startswith("WRONGTYPE"):
                raise _Changed("it became another type while it was read") from error
            raise
        except (TypeError, IndexError, KeyError, ValueError) as error:  # half of it was gone: replies of another shape
            raise _Changed("it changed its shape while it was read") from error
        return digest.digest()


def expiry(wire: Wire, key: bytes) -> int | None:
    """Return when a key expires, in milliseconds since 1970 by the server's clock; None: never."""
    reply = wire.pipeline([("PEXPIRETIME", key)])[0]
    if isinstance(reply, ReplyError):
        if str(reply).startswith("NOPERM"):
            raise NotAuthorisedError(
                f"running PEXPIRETIME on {wire.address}", str(reply), "Check the user's ACL rules."
            )
        if str(reply).startswith(_ELSEWHERE):
            raise error_for(wire.address, ("PEXPIRETIME",), reply)
        left = wire.call("PTTL", key)  # Redis before 7.0
        reply = left if left < 0 else left + now_ms(wire)
    return None if reply < 0 else int(reply)
