"""Task: compare the keys of some parts, or a sample of them, with what a server holds now.

Plan: `target`, `directory`, `parts`, `sample` (line numbers by part, or null for all), `scratch` (the address of
a scratch server, or null), `reader` (one that decodes payloads for an older target, or null), `seen` (a file to note
every key's fingerprint in, or null), `match` (a glob, or null). Result: the counts of a `VerifyReport`.

Two payloads of one value may differ: a hash table is dumped in the order of its buckets. Where they differ, both
are restored into the scratch server, which then tells whether they are the same value.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.backup.anywhere.losses import is_module
from understudy.backup.anywhere.same import Likeness, compare
from understudy.backup.record import Records, decode, read_blocks
from understudy.backup.tasks.write_keys import name_of
from understudy.backup.verify_report import VerifyReport
from understudy.valkey.discovery import now_ms as server_now_ms
from understudy.valkey.dump import Dumper
from understudy.valkey.glob import compile_glob
from understudy.valkey.payload import body, built_with_commands, rdb_version
from understudy.valkey.router import Router
from understudy.valkey.target import Target
from understudy.valkey.wire import ReplyError, Wire

TTL_TOLERANCE_MS = 1000
_STEP_KEYS = 512


def run(plan: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Compare everything that the plan names; see the module."""
    comparing = _Comparing(plan)
    match = compile_glob(plan["match"]) if plan.get("match") else None
    for part in plan["parts"]:
        wanted = None if plan["sample"] is None else set(plan["sample"][part])
        for records in _records(Path(plan["directory"]) / part, part, wanted):
            comparing.compare(records if match is None else records.matching(match))
            advance(len(records.keys))
    comparing.close()
    return dataclasses.asdict(comparing.report)


def _records(path: Path, part: str, wanted: set[int] | None) -> Iterator[Records]:
    """Yield whole blocks, or only the wanted lines (numbered from 0)."""
    number = 0
    with path.open("rb") as file:
        for block in read_blocks(file, part):
            if wanted is None:
                yield decode(block, part)
                continue
            lines = block.splitlines(keepends=True)
            chosen = b"".join(line for at, line in enumerate(lines, number) if at in wanted)
            number += len(lines)
            if chosen:
                yield decode(chosen, part)


def fingerprint(db: int, key: bytes) -> int:
    """Return 63 bits that stand for a key of a database."""
    digest = hashlib.blake2b(key, digest_size=8, salt=db.to_bytes(4, "big")).digest()
    return int.from_bytes(digest, "big") >> 1


class _Comparing:
    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._target = Target.from_data(plan["target"])
        self._readers: dict[int, tuple[Router, Dumper]] = {}
        scratch = Target.from_data(plan["scratch"]) if plan["scratch"] else None
        self._scratch = Wire(scratch.seeds[0], scratch) if scratch else None
        decoder = Target.from_data(plan["reader"]) if plan.get("reader") else None
        self._decoder = Wire(decoder.seeds[0], decoder) if decoder else None
        self._modules: bool | None = None
        self._ahead_ms: int | None = None
        self._seen = Path(plan["seen"]).open("ab") if plan["seen"] else None  # noqa: SIM115 - closed in `close`
        self.report = VerifyReport()

    def compare(self, records: Records) -> None:
        """Compare a block, in steps of one database each."""
        start = 0
        for at in range(1, len(records.keys) + 1):
            if at == len(records.keys) or at - start >= _STEP_KEYS or records.dbs[at] != records.dbs[start]:
                self._step(records, start, at)
                start = at

    def _step(self, records: Records, start: int, end: int) -> None:
        db = records.dbs[start]
        keys = records.keys[start:end]
        there = {
            key: (payload, expiry)
            for dumped in self._reader(db).read(keys)
            for key, payload, expiry in zip(dumped.keys, dumped.payloads, dumped.expiries_ms, strict=True)
        }
        now_ms = time.time_ns() // 1_000_000 + self._ahead_of_us_ms(db)
        self.report.compared += len(keys)
        for at in range(start, end):
            key, expiry, payload = records.keys[at], records.expire_at_ms[at], records.payloads[at]
            found = there.get(key)
            if found is None:
                if (expiry is not None and expiry <= now_ms + TTL_TOLERANCE_MS) or self._emptied(
                    payload, records.types[at]
                ):
                    self.report.expired += 1
                else:
                    unheld = is_module(payload) and self._no_modules(db)
                    self.report.note("unheld" if unheld else "missing", name_of(key))
                continue
            if abs((expiry or -1) - found[1]) > TTL_TOLERANCE_MS or (expiry is None) != (found[1] < 0):
                self.report.note("ttl_mismatch", name_of(key))
            if body(payload) != body(found[0]) and not self._same(payload, found[0], records.types[at]):
                self._differ(name_of(key), payload, found[0], now_ms)
        if self._seen:
            array("Q", [fingerprint(db, key) for key in keys]).tofile(self._seen)

    def _differ(self, name: str, payload: bytes, found: bytes, now_ms: int) -> None:
        """Note a value that is another; what was built with commands is compared as what it says."""
        likeness: Likeness = "differs"
        if self._decoder and built_with_commands(rdb_version(payload), rdb_version(found)):
            likeness = compare(self._decoder, payload, found, now_ms + TTL_TOLERANCE_MS)
        if likeness == "same":
            return
        self.report.note("value_mismatch" if likeness == "differs" else "unheld", name)

    def _no_modules(self, db: int) -> bool:
        """Tell whether the server has no modules at all, so that it cannot hold their values."""
        if self._modules is None:
            reply = self._readers[db][0].on_primaries("MODULE", "LIST")
            self._modules = any(isinstance(one, ReplyError) or one for one in reply)
        return not self._modules

    def _ahead_of_us_ms(self, db: int) -> int:
        """Return how far the server's clock is ahead of ours: the server decides what has expired."""
        if self._ahead_ms is None:
            self._reader(db)
            router = self._readers[db][0]
            address = router.owner(0) or router.target.seeds[0]
            self._ahead_ms = server_now_ms(router.wire(address)) - time.time_ns() // 1_000_000
        return self._ahead_ms

    def _emptied(self, payload: bytes, kind: str) -> bool:
        """Tell whether a hash has lost its last field to expiry, and itself with it."""
        if kind != "hash" or self._scratch is None:
            return False
        restored, length = self._scratch.pipeline([("RESTORE", "one", 0, payload, "REPLACE"), ("HLEN", "one")])
        if isinstance(restored, ReplyError) or isinstance(length, ReplyError):
            return False
        fields = self._scratch.call("HKEYS", "one")
        return not fields

    def _same(self, one: bytes, other: bytes, kind: str) -> bool:
        """Let the scratch server tell whether two payloads are one value."""
        if self._scratch is None:
            self.report.unsure += 1
            return False
        names = (b"one", b"other")
        replies = self._scratch.pipeline(
            [("RESTORE", name, 0, payload, "REPLACE") for name, payload in zip(names, (one, other), strict=True)]
        )
        if any(isinstance(reply, ReplyError) for reply in replies):
            self.report.unsure += 1
            return False
        first, second = self._scratch.pipeline([("DUMP", name) for name in names])
        if first == second:
            return True
        if kind not in ("hash", "set", "zset"):
            return False  # their order is part of their value, and one server dumps one value in one way
        digest, second_digest = self._scratch.call("DEBUG", "DIGEST-VALUE", *names)
        return bool(digest == second_digest) and (kind != "hash" or self._field_expiries_same(self._scratch, names))

    def _field_expiries_same(self, scratch: Wire, names: tuple[bytes, bytes]) -> bool:
        expiries: list[dict[bytes, int]] = []
        for name in names:
            fields = sorted(scratch.call("HKEYS", name))
            found = scratch.pipeline([("HPEXPIRETIME", name, "FIELDS", len(fields), *fields)])[0]
            if isinstance(found, ReplyError):
                return True  # a scratch server without them read both payloads: there are none
            expiries.append(dict(zip(fields, found, strict=True)))
        return expiries[0] == expiries[1]

    def _reader(self, db: int) -> Dumper:
        if db not in self._readers:
            router = Router(dataclasses.replace(self._target, db=db))
            self._readers[db] = (router, Dumper(router))
        return self._readers[db][1]

    def close(self) -> None:
        """Close files and connections."""
        if self._seen:
            self._seen.close()
        for router, dumper in self._readers.values():
            dumper.close()
            router.close()
        for scratch in (self._scratch, self._decoder):
            if scratch:
                scratch.close()
