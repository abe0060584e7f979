"""Build a key from commands under a temporary name at its owner, then give it its own: nobody sees half a key.

The temporary name is of the key's slot, and expires by itself while it is built, so that what an interruption left
goes away. Whenever it is in doubt whether a command was carried out, the key is begun anew under another name.
"""

from __future__ import annotations

import contextlib
import secrets
from binascii import crc_hqx
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from typing import Literal

from understudy.errors import UnreachableError
from understudy.valkey.router import Router
from understudy.valkey.slices.commands import key_place, named
from understudy.valkey.slots import key_slot, name_in_slot
from understudy.valkey.target import Mode
from understudy.valkey.wire import Command, Reply, ReplyError, pack

PREFIX = b"understudy:building:"
BUILDING_MS = 600_000  # between two batches: a batch of half a gigabyte, and a failover, take less
_MOST_TRIES = 5
_FINISH = files("understudy.valkey.slices").joinpath("finish.lua").read_bytes()
_SIZES = {"RPUSH": "LLEN", "SADD": "SCARD", "ZADD": "ZCARD", "XADD": "XLEN"}
Outcome = Literal["written", "exists", "expired", "failed"]
_OUTCOMES: dict[bytes, Outcome] = {b"written": "written", b"exists": "exists", b"expired": "expired"}
Batches = Callable[[], Iterable[Sequence[Command]]]


@dataclass(frozen=True)
class Written:
    """What became of a key; `why` says it where it failed."""

    outcome: Outcome
    why: str = ""


class _Doubt(Exception):  # noqa: N818 - a signal, not an error
    """A command may have been carried out or not."""


def write(
    router: Router,
    key: bytes,
    batches: Batches,
    *,
    expire_at_ms: int | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Written:
    """Build a key and give it its name and expiry, in place of what stands there where `overwrite` says so.

    `batches` gives its commands from the beginning, each time it is called; the key that stands in them is replaced.
    They must not be of a key that exists for others. What the server refuses is no error but the outcome `failed`.
    `advance` is told the commands of each batch that is done, and takes them back where the key is begun anew.

    Raises:
        UnreachableError: nobody served the key's slot for the router's patience.
    """
    slot = key_slot(key)
    if not overwrite and router.execute([(slot, ("EXISTS", key))]).values[0] == 1:
        return Written("exists")
    for _ in range(_MOST_TRIES):
        building = _Building(router, slot, _temporary(slot), advance)
        source = batches()
        try:
            why = building.build(source)
            if why:
                return Written("failed", why)
            return building.finish(key, expire_at_ms, overwrite)
        except _Doubt:
            advance(-building.done)
        finally:
            if isinstance(source, Generator):
                source.close()  # it may be reading from a server: that answer must not be left half read
            building.clear()
    return Written("failed", f"the server was disturbed {_MOST_TRIES} times while it was written")


def _temporary(slot: int) -> bytes:
    """Return a name of a slot that nobody has.

    CRC16 of a prefix and two bytes is that of two other bytes alone: the two, changed by the prefix's own CRC16.
    """
    unused = name_in_slot()[slot]
    prefix = PREFIX + secrets.token_hex(8).encode() + b":"
    number = int.from_bytes(unused[-2:], "big") ^ crc_hqx(unused[:-2], 0) ^ crc_hqx(prefix, 0)
    return prefix + number.to_bytes(2, "big")


@dataclass
class _Building:
    router: Router
    slot: int
    name: bytes
    advance: Callable[[int], None]
    done: int = 0  # commands
    length: int = 0  # of a string or a list: as long as it must be by now
    added: int = 0  # elements that were new
    size_command: str | None = None
    counted: bool = True  # whether the final size must be `added`
    begun: bool = False
    renamed: bool = False

    def build(self, batches: Iterable[Sequence[Command]]) -> str:
        """Run all batches; return why the server refuses one, if it does."""
        for batch in self._runs(batches):
            commands = [pack(command) for command in named(batch, self.name)]
            astray = self.router.target.mode is Mode.ENTERPRISE and key_place(batch[0]) > 1
            if not astray:
                expire = pack(("PEXPIRE", self.name, BUILDING_MS))
                # where we die while a first batch is sent, what arrived of it is to expire as well
                commands = [*commands[:1], expire, *commands[1:], expire]
            self.begun = True
            replies = self.router.execute([(self.slot, command) for command in commands])
            if replies.resent:
                raise _Doubt
            answers = replies.values[:1] + replies.values[1 if astray else 2 :]
            for command, reply in zip(batch, answers, strict=False):
                if isinstance(reply, ReplyError):
                    return str(reply)
                self._look(command, reply)
            if not astray and answers[-1] != 1 and self.counted:
                raise _Doubt  # it is not there any more
            self.done += len(batch)
            self.advance(len(batch))
        if self.counted and self.size_command:
            size = self.router.execute([(self.slot, (self.size_command, self.name))]).values[0]
            if isinstance(size, ReplyError):
                return str(size)
            if size != self.added:
                raise _Doubt  # a failover has lost some of it
        return ""

    def _runs(self, batches: Iterable[Sequence[Command]]) -> Iterator[Sequence[Command]]:
        """Yield what may be sent at once: all of a batch, unless a proxy would change the order.

        A proxy takes the second word for the key: XGROUP goes astray, is redirected, and arrives after its followers.
        """
        for batch in batches:
            if self.router.target.mode is not Mode.ENTERPRISE:
                yield batch
                continue
            for astray, run in groupby(batch, lambda command: key_place(command) > 1):
                together = list(run)
                yield from ([command] for command in together) if astray else [together]

    def _look(self, command: Command, reply: Reply) -> None:
        """Compare a reply with what it must be; a write that a failover lost shows."""
        word = command[0].decode() if isinstance(command[0], bytes) else str(command[0])
        if word in ("SET", "APPEND"):
            self.length += len(command[2]) if isinstance(command[2], bytes) else 0
            if word == "APPEND" and reply != self.length:
                raise _Doubt
        elif word == "RPUSH":
            self.length += len(command) - 2
            if reply != self.length:
                raise _Doubt
        elif word in ("SADD", "ZADD"):
            self.size_command = _SIZES[word]
            self.added += reply
        elif word == "HSET":
            self.size_command = "HLEN" if self.counted else None
            self.added += reply
        elif word == "HPEXPIREAT":
            self.counted = False  # fields go while it is built
        elif word == "XADD":
            self.size_command = "XLEN"
            self.added += 1
        elif word in ("XDEL", "XTRIM", "ZREM"):
            self.added -= reply

    def finish(self, key: bytes, expire_at_ms: int | None, overwrite: bool) -> Written:
        """Give the value its name."""
        command = pack(("EVAL", _FINISH, 2, self.name, key, expire_at_ms or 0, int(overwrite)))
        replies = self.router.execute([(self.slot, command)])
        reply = replies.values[0]
        if isinstance(reply, ReplyError):
            if str(reply).startswith("NOPERM") or "unknown command" in str(reply) or "unsupported" in str(reply):
                return self._finish_plainly(key, expire_at_ms, overwrite)
            return Written("failed", str(reply))
        if reply == b"gone":
            if not replies.resent:
                if not self.counted or not self.begun:
                    return Written("expired")  # every field of it has
                raise _Doubt
            there = self.router.execute([(self.slot, ("EXISTS", key))]).values[0]
            if there != 1:
                raise _Doubt
            reply = b"written"  # the first try got through, only its answer was lost
        return Written(_OUTCOMES[reply])

    def _finish_plainly(self, key: bytes, expire_at_ms: int | None, overwrite: bool) -> Written:
        """Do the same where scripts are refused; killed between the two, it leaves the temporary key."""
        expiry: Command = ("PEXPIREAT", self.name, expire_at_ms) if expire_at_ms else ("PERSIST", self.name)
        replies = self.router.execute(
            [(self.slot, expiry), (self.slot, ("RENAME" if overwrite else "RENAMENX", self.name, key))]
        )
        if replies.resent:
            raise _Doubt
        reply = replies.values[1]
        if reply in (b"OK", 1):
            return Written("written")
        if reply == 0:
            return Written("exists")
        if "no such key" in str(reply):
            return Written("expired")
        return Written("failed", str(reply))

    def clear(self) -> None:
        """Remove what is left under the temporary name; where that fails, it expires."""
        if self.begun:
            with contextlib.suppress(UnreachableError):
                self.router.execute([(self.slot, ("UNLINK", self.name))])
