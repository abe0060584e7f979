"""Task: find the keys of some parts of which the target cannot hold everything; nothing is written.

Plan: that of `write_keys`, with `scratch` a database of its own. Result: a `Losses`, as data. What the first byte of a
payload tells is not decoded: only streams are, and modules' values are offered to the target.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.backup.anywhere.fit import Owners
from understudy.backup.anywhere.losses import WHOLE_KEY, Losses, is_module, told_by_payload, told_by_stream
from understudy.backup.anywhere.values import Value, read_values
from understudy.backup.record import Records, decode, read_blocks
from understudy.backup.tasks.write_keys import name_of
from understudy.valkey.discovery import now_ms as server_now_ms
from understudy.valkey.glob import compile_glob
from understudy.valkey.payload import all_fields_expired
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot, name_in_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import ReplyError, Wire

_STREAMS_AT_ONCE = 64


def run(plan: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Look at everything that the plan names; see the module."""
    looking = _Looking(plan)
    try:
        for part in plan["parts"]:
            with (Path(plan["directory"]) / part).open("rb") as file:
                for block in read_blocks(file, part):
                    records = decode(block, part)
                    looking.look(records)
                    advance(len(records.keys))
    finally:
        looking.close()
    return looking.losses.as_data()


class _Looking:
    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._target = Target.from_data(plan["target"])
        self._overwrite, self._groups = bool(plan["overwrite"]), bool(plan["recreate_stream_groups"])
        self._match = compile_glob(plan["match"]) if plan.get("match") else None
        self._owners = Owners(plan["holders"])
        scratch = Target.from_data(plan["scratch"]) if plan["scratch"] else None
        self._scratch = Wire(scratch.seeds[0], scratch) if scratch else None
        self._routers: dict[int, Router] = {}
        self._now_ms = 0
        self.losses = Losses()

    def look(self, records: Records) -> None:
        """Look at a block; each run of keys of one database is a step."""
        if self._match:
            records = records.matching(self._match)
        end = 0
        for db, run_of in itertools.groupby(records.dbs):
            start, end = end, end + sum(1 for _ in run_of)
            self._step(self._router(db), records.part(start, end))

    def _step(self, router: Router, records: Records) -> None:
        idle, freq = records.idle_s or (), records.freq or ()
        found: dict[int, set[str]] = {}
        streams: list[int] = []
        modules: list[int] = []
        for at, (key, payload) in enumerate(zip(records.keys, records.payloads, strict=True)):
            if is_module(payload):
                modules.append(at)
                continue
            if not self._owners.refuse(router, key, payload):
                continue
            able = self._owners.of(router, key).abilities
            if lost := told_by_payload(payload, able, idle[at] if idle else None, freq[at] if freq else None):
                found[at] = lost
            if records.types[at] == "stream":
                streams.append(at)
        for start in range(0, len(streams), _STREAMS_AT_ONCE):
            self._decode(router, records, streams[start : start + _STREAMS_AT_ONCE], found)
        if modules:
            self._offer(router, records, modules, found)
        self._note(router, records, found)

    def _decode(self, router: Router, records: Records, streams: Sequence[int], found: dict[int, set[str]]) -> None:
        assert self._scratch  # noqa: S101 - there is one where anything is refused
        values = read_values(self._scratch, [records.payloads[at] for at in streams], entries=1)
        for at, value in zip(streams, values, strict=True):
            able = self._owners.of(router, records.keys[at]).abilities
            if isinstance(value, Value) and (lost := told_by_stream(value, able, self._groups)):
                found.setdefault(at, set()).update(lost)

    def _offer(self, router: Router, records: Records, modules: Sequence[int], found: dict[int, set[str]]) -> None:
        """Offer modules' values with an expiry long past: no key is made."""
        slots = [key_slot(records.keys[at]) for at in modules]
        replies = router.execute(
            [
                (slot, ("RESTORE", name_in_slot()[slot], 1, records.payloads[at], "ABSTTL"))
                for at, slot in zip(modules, slots, strict=True)
            ]
        ).values
        found.update({at: {WHOLE_KEY} for at, reply in zip(modules, replies, strict=True) if _is_error(reply)})

    def _note(self, router: Router, records: Records, found: Mapping[int, set[str]]) -> None:
        """Count what is going to be written: neither what has expired, nor what stands there and is kept."""
        keys = [at for at in found if (when := records.expire_at_ms[at]) is None or when > self._now_ms]
        keys = [at for at in keys if not all_fields_expired(records.payloads[at], self._now_ms)]
        there: Sequence[Any] = [0] * len(keys)
        if keys and not self._overwrite:
            there = router.execute([(key_slot(records.keys[at]), ("EXISTS", records.keys[at])) for at in keys]).values
        for at, exists in zip(keys, there, strict=True):
            if exists != 1:
                self.losses.note(name_of(records.keys[at]), router.target.db, records.types[at], found[at])

    def _router(self, db: int) -> Router:
        if db not in self._routers:
            router = self._routers[db] = Router(dataclasses.replace(self._target, db=db))
            self._now_ms = server_now_ms(router.wire(router.owner(0) or router.target.seeds[0]))
        return self._routers[db]

    def close(self) -> None:
        """Close every connection."""
        for router in self._routers.values():
            router.close()
        if self._scratch:
            self._scratch.close()


def _is_error(reply: object) -> bool:
    return isinstance(reply, ReplyError)
