"""Task: compare big keys of a set with what a server holds now, with bounded memory.

Plan: `target`, `directory`, `keys` (their lines in the index), `seen` (a file to note every key's fingerprint in, or
null). Result: the counts of a `VerifyReport`.

Where elements have an order, both are read side by side. A set or a hash has the same elements when it has as many as
the set recorded, and every one of those is in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from understudy.backup.big.format import BigKey, commands
from understudy.backup.tasks.compare_keys import TTL_TOLERANCE_MS, fingerprint
from understudy.backup.tasks.write_keys import name_of
from understudy.backup.verify_report import VerifyReport
from understudy.errors import ServerSaidError, UnreachableError
from understudy.valkey.discovery import now_ms as server_now_ms
from understudy.valkey.discovery import server_version
from understudy.valkey.router import NOT_NOW, Router
from understudy.valkey.slices import Newest, read
from understudy.valkey.slices.commands import adapted
from understudy.valkey.slices.still import PIECE_BYTES, expiry, length
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Command, ReplyError, Wire, error_for

_TRIES_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_ELSEWHERE = ("MOVED", "ASK", *NOT_NOW)


def run(plan: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Compare everything that the plan names; see the module."""
    report = VerifyReport()
    with contextlib.ExitStack() as stack:
        routers: dict[int, Router] = {}
        target = Target.from_data(plan["target"])
        seen = stack.enter_context(Path(plan["seen"]).open("ab")) if plan["seen"] else None
        for row in plan["keys"]:
            big = BigKey.from_data(row, "a big key's line")
            if big.db not in routers:
                routers[big.db] = stack.enter_context(Router(dataclasses.replace(target, db=big.db)))
            found = _compared(routers[big.db], Path(plan["directory"]), big, advance)
            report.compared += 1
            for kind in found:
                if kind == "expired":
                    report.expired += 1
                else:
                    report.note(kind, name_of(big.key))
            if seen:
                array("Q", [fingerprint(big.db, big.key)]).tofile(seen)
            advance(1)
    return dataclasses.asdict(report)


def _compared(router: Router, directory: Path, big: BigKey, advance: Callable[[int], None]) -> list[str]:
    """Compare a key at its owner, whoever that is by now; return what differs."""
    for pause_s in (*_TRIES_PAUSES_S, None):
        wire = router.wire(router.owner(key_slot(big.key)) or router.target.seeds[0])
        try:
            return list(_differences(wire, directory, big, advance))
        except (UnreachableError, ServerSaidError) as error:
            router.drop(wire.address)  # half an answer may be on its way
            lasting = isinstance(error, ServerSaidError) and not error.why.startswith(_ELSEWHERE)
            if lasting or pause_s is None:
                raise
            time.sleep(pause_s)
            with contextlib.suppress(UnreachableError):
                router.refresh()
    return []


def _differences(wire: Wire, directory: Path, big: BigKey, advance: Callable[[int], None]) -> Iterator[str]:
    kind = wire.call("TYPE", big.key).decode()
    now_ms = server_now_ms(wire)
    if kind == "none":
        over = big.expire_at_ms is not None and big.expire_at_ms <= now_ms + TTL_TOLERANCE_MS
        yield "expired" if over or _all_fields_expired(directory, big, now_ms) else "missing"
        return
    there = expiry(wire, big.key)
    if (there is None) != (big.expire_at_ms is None) or abs((there or 0) - (big.expire_at_ms or 0)) > TTL_TOLERANCE_MS:
        yield "ttl_mismatch"
    if kind != big.kind or not _same(wire, directory, big, now_ms, advance):
        yield "value_mismatch"


def _all_fields_expired(directory: Path, big: BigKey, now_ms: int) -> bool:
    """Tell whether a hash has lost its last field to expiry, and itself with it."""
    if big.kind != "hash":
        return False
    over = sum(
        int(command[4]) for command in commands(directory, big)
        if command[0] == b"HPEXPIREAT" and int(command[2]) <= now_ms + TTL_TOLERANCE_MS
    )  # fmt: skip
    return over >= big.length


def _same(wire: Wire, directory: Path, big: BigKey, now_ms: int, advance: Callable[[int], None]) -> bool:
    kept = _alive(commands(directory, big), advance)
    found = length(wire, big.key, big.kind)
    if big.kind == "hash":
        return found <= big.length and _Fields(wire, big, now_ms).same(kept, found)
    if found != big.length:
        return False
    if big.kind == "set":
        return all(all(wire.call("SMISMEMBER", big.key, *command[2:])) for command in kept)
    newest = _version(wire)
    there = (command for batch in read(wire, big.key, big.kind, slice_bytes=PIECE_BYTES) for command in batch)
    if big.kind == "string":
        return _digest(kept) == _digest(there)
    if big.kind == "stream":
        pairs = zip_longest(_adapted(kept, newest), _adapted(there, newest))
    elif big.kind == "zset":
        pairs = zip_longest(_scored(kept), _scored(there))
    else:
        pairs = zip_longest(_elements(kept), _elements(there))
    return all(ours == theirs for ours, theirs in pairs)


def _alive(kept: Iterable[list[bytes]], advance: Callable[[int], None]) -> Iterator[list[bytes]]:
    """Pass commands on, and show now and then that the work goes on."""
    for command in kept:
        advance(0)
        yield command


def _digest(kept: Iterable[Command]) -> bytes:
    digest = hashlib.sha256()
    for command in kept:
        digest.update(command[2])  # type: ignore[arg-type]
    return digest.digest()


def _adapted(kept: Iterable[Command], newest: Newest) -> Iterator[tuple[Any, ...]]:
    for command in kept:
        if (fitting := adapted(command, newest)) is not None:
            yield tuple(fitting)


def _elements(kept: Iterable[Command]) -> Iterator[Any]:
    for command in kept:
        yield from command[2:]


def _scored(kept: Iterable[Command]) -> Iterator[tuple[float, Any]]:
    for command in kept:
        for at in range(2, len(command), 2):
            yield float(command[at]), command[at + 1]


def _version(wire: Wire) -> Newest:
    name, version = server_version(wire)
    return name, tuple(int(part) for part in version.split(".") if part.isdecimal())


class _Fields:
    """Compares a hash field by field. A field that has expired meanwhile may be gone."""

    def __init__(self, wire: Wire, big: BigKey, now_ms: int) -> None:
        self._wire, self._key, self._length = wire, big.key, big.length
        self._now_ms = now_ms
        self._theirs: dict[bytes, int] = {}  # fields that expire there, and of which no expiry was read here yet
        self._gone: set[bytes] = set()  # fields that are not there, whose expiry must still explain it
        self._over = 0
        self._expire = True

    def same(self, kept: Iterable[list[bytes]], found: int) -> bool:
        """Tell whether the hash that is there has these fields, values and expiries, and `found` fields in all."""
        for command in kept:
            if command[0] == b"HSET" and not self._values(command[2::2], command[3::2]):
                return False
            if command[0] == b"HPEXPIREAT" and not self._expiries(int(command[2]), command[5:]):
                return False
        return not self._theirs and not self._gone and found >= self._length - self._over

    def _values(self, fields: list[bytes], values: list[bytes]) -> bool:
        there = self._wire.call("HMGET", self._key, *fields)
        for field, ours, theirs in zip(fields, values, there, strict=True):
            if theirs is None:
                self._gone.add(field)
            elif theirs != ours:
                return False
        if self._expire:
            reply = self._wire.pipeline([("HPEXPIRETIME", self._key, "FIELDS", len(fields), *fields)])[0]
            if isinstance(reply, ReplyError):
                if "unknown command" not in str(reply) and "unsupported command" not in str(reply):
                    raise error_for(self._wire.address, ("HPEXPIRETIME",), reply)
                self._expire = False
            else:
                self._theirs |= {field: at for field, at in zip(fields, reply or (), strict=False) if at >= 0}
        return True

    def _expiries(self, expire_at_ms: int, fields: list[bytes]) -> bool:
        for field in fields:
            if expire_at_ms <= self._now_ms + TTL_TOLERANCE_MS:
                self._over += 1
                self._gone.discard(field)
                self._theirs.pop(field, None)
            elif self._expire and self._theirs.pop(field, None) != expire_at_ms:
                return False
        return True
