"""Task: read the keys of some slots, or of one server's databases, into parts.

Plan: `target`, `slots` (ranges, or null outside a cluster), `dbs`, `work`, `stem`, `chunk_keys`, `match`,
`keys_per_s`; where they are given, `only`: of a server's keys those of these slots, `ranks`: whether to read how long
or how often keys were used, where the server keeps that, `compress`: whether an archive will want the parts,
`gives_way`: whether to work only when others leave the processor, and `slice_bytes`: the most that a key may take of
the server's memory to be read in one piece.
Result: `parts`, `keys`, `gone`, `types`, `rdb_versions`, `slots`, `big` (a line for each key that was read in slices).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.backup.big.take import BigKeys
from understudy.backup.part import PartWriter
from understudy.backup.record import MOST_LINE_BYTES, encode
from understudy.errors import IncompleteError, NotAuthorisedError, ServerSaidError, UnreachableError
from understudy.valkey import proxied
from understudy.valkey.discovery import info
from understudy.valkey.dump import Dumped, Dumper, Pace, Ranks
from understudy.valkey.dump_slots import read_slots
from understudy.valkey.glob import compile_glob
from understudy.valkey.keyspace import list_slots, scan
from understudy.valkey.payload import TYPE_NAMES, rdb_version
from understudy.valkey.router import NOT_NOW, PATIENCE_S, Router
from understudy.valkey.slots import as_ranges, from_ranges, key_slot
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import Wire

_GIVES_WAY = 10  # niceness
_MOST_TRIES = 5
_PAUSE_S = 0.25
_MOST_PAYLOAD_BYTES = MOST_LINE_BYTES // 4 * 3 - (1 << 20)  # base64 makes four bytes of three


class _Changed(Exception):  # noqa: N818 - a signal, not an error
    """The server behind the endpoint is not the one that we began with."""


def run(plan: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Read everything that the plan names; see the module."""
    target = Target.from_data(plan["target"])
    if plan.get("gives_way"):  # a copy is read: what it was copied from may share this machine, and comes first
        os.nice(_GIVES_WAY)
    if plan["slots"] is not None:
        return _Reading(plan, target, advance, 0).of_slots(from_ranges(plan["slots"]))
    attempt = 0
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        # SCAN's cursor is worth nothing on another server: after a failover we start over, in files of their own
        reading = _Reading(plan, target, advance, attempt)
        try:
            return reading.of_server()
        except (UnreachableError, ServerSaidError, _Changed) as error:
            if isinstance(error, ServerSaidError) and not error.why.startswith(NOT_NOW):
                raise
            why = str(error)
            if reading.begun:  # what never began only waits for the failover to end
                attempt += 1
                give_up_at = time.monotonic() + PATIENCE_S
            reading.discard()
        if attempt >= _MOST_TRIES or time.monotonic() > give_up_at:
            raise IncompleteError(
                f"reading every key of {target}", f"it changed {attempt} times while we read; the last time: {why}",
                "Let the failover end, then run the backup again.",
            )  # fmt: skip
        time.sleep(_PAUSE_S)


class _Reading:
    def __init__(self, plan: Mapping[str, Any], target: Target, advance: Callable[[int], None], attempt: int) -> None:
        self._plan, self._target, self._advance = plan, target, advance
        self._work = Path(plan["work"])
        self._writer = PartWriter(
            self._work, f"{plan['stem']}-try{attempt}", plan["chunk_keys"], plan.get("compress", True)
        )
        self._pace = Pace(plan["keys_per_s"])
        self._only = from_ranges(plan["only"]) if plan.get("only") is not None else None
        self._slice_bytes = plan.get("slice_bytes", 0)
        self._big = BigKeys(self._work, f"{plan['stem']}-try{attempt}-big", self._slice_bytes)
        self._types: Counter[int] = Counter()
        self._versions: set[int] = set()
        self._keys = 0
        self._gone = 0
        self.begun = False

    def of_slots(self, slots: set[int]) -> dict[str, Any]:
        """Read slots from whoever owns them, however they move meanwhile."""
        match = compile_glob(self._plan["match"]) if self._plan["match"] else None
        quick = match is None and self._target.mode is Mode.OSS_CLUSTER
        for db in self._plan["dbs"]:
            with Router(dataclasses.replace(self._target, db=db)) as router, self._dumper(router) as dumper:
                left: list[int] = [] if quick else sorted(slots)
                if quick:
                    self._write(read_slots(router, dumper, slots, left), db)
                    self._read_big(router, dumper, db)
                listing = proxied.list_slots if router.target.mode is Mode.ENTERPRISE else list_slots
                for batch in listing(router, left, match):
                    self._write(dumper.read(*batch), db)
                    self._read_big(router, dumper, db)
                self._gone += dumper.gone
        return self._result(as_ranges(slots))

    def of_server(self) -> dict[str, Any]:
        """Read the databases of the one primary behind the target, which must stay the same one."""
        for db in self._plan["dbs"]:
            with Router(dataclasses.replace(self._target, db=db)) as router, self._dumper(router) as dumper:
                before = _identity(router)
                address = router.owner(None)
                if address is None:
                    raise _Changed("there is no primary")
                self.begun = True
                for names, owner in scan(router, address, self._plan["match"]):
                    ours = [name for name in names if self._only is None or key_slot(name) in self._only]
                    self._write(dumper.read(ours, owner), db)
                    self._read_big(router, dumper, db)
                router.refresh()
                if _identity(router) != before:
                    raise _Changed("another server took over")
                self._gone += dumper.gone
        return self._result(None)

    def _dumper(self, router: Router) -> Dumper:
        ranks = _kept_ranks(router) if self._plan.get("ranks") else None
        return Dumper(router, self._pace, ranks, self._slice_bytes)

    def _write(self, steps: Iterator[Dumped], db: int) -> None:
        for step in steps:
            self._refuse_huge(step)
            self._writer.write(encode(step, db))
            self._types.update([payload[0] for payload in step.payloads])
            self._versions.add(rdb_version(step.payloads[0]))
            self._keys += len(step.keys)
            self._advance(len(step.keys))

    def _read_big(self, router: Router, dumper: Dumper, db: int) -> None:
        """Read what was too big for one DUMP; one that did not stand still is dumped nevertheless, if it can be."""
        for key in dumper.take_big():
            before = len(self._big.rows)
            if whole := self._big.read(router, dumper, key, db):
                self._write(iter([whole]), db)
            read = len(self._big.rows) - before
            self._keys += read
            self._advance(read)

    def _refuse_huge(self, step: Dumped) -> None:
        """A line that no reader takes must not be written."""
        for key, payload in zip(step.keys, step.payloads, strict=True):
            if len(payload) > _MOST_PAYLOAD_BYTES:
                raise IncompleteError(
                    f"reading the key {key[:200]!r}", f"its {len(payload):,} bytes are too many for a line of a set",
                    "Leave it out with --match, or split the value.",
                )  # fmt: skip

    def _refuse_restless(self) -> None:
        """Nothing is published that lacks keys."""
        if self._big.restless:
            raise IncompleteError(
                f"reading {len(self._big.restless)} big key(s) of {self._target}",
                "they changed each time while they were read in slices, and are too big for one DUMP",
                "Stop their writers for the backup, use --engine replica, or leave them out with --match.",
                self._big.restless,
            )

    def _result(self, slots: list[str] | None) -> dict[str, Any]:
        self._refuse_restless()
        types = Counter(self._big.types)
        for byte, count in self._types.items():
            types[TYPE_NAMES[byte]] += count
        return {
            "parts": [part.as_data() for part in self._writer.finish()],
            "keys": self._keys,
            "gone": self._gone,
            "types": types,
            "rdb_versions": sorted(self._versions),
            "slots": slots,
            "big": self._big.rows,
        }

    def discard(self) -> None:
        """Take back what was written and reported."""
        self._advance(-self._keys)
        self._big.discard()
        for part in self._writer.finish():
            (self._work / part.file).unlink()
            (self._work / part.member).unlink(missing_ok=True)


def _kept_ranks(router: Router) -> Ranks | None:
    """Return what a server keeps of the use of its keys: that depends on its eviction policy."""
    policy = info(router.wire(router.target.seeds[0]), "memory").get("maxmemory_policy", "")
    return "IDLETIME" if policy.endswith("lru") else "FREQ" if policy.endswith("lfu") else None


def _identity(router: Router) -> tuple[str, ...]:
    """Return what changes when another server, or another life of the same server, answers."""
    if router.target.mode is Mode.ENTERPRISE:
        return ("behind a proxy",)  # it hides who serves us; a broken connection is all that we can notice
    address = router.owner(None)
    if address is None:
        return ()
    wire = router.wire(address)
    replication = info(wire, "replication")
    if replication.get("role") == "slave" and (
        replication.get("master_link_status") != "up" or replication.get("master_sync_in_progress") != "0"
    ):
        if router.target.mode is Mode.SENTINEL:
            raise _Changed("the sentinels name a server that has not taken over yet")
        raise IncompleteError(
            f"reading every key of {address}", "it is a replica that is not in sync with its primary",
            "Wait until master_link_status is up (INFO replication), or back up the primary.",
        )  # fmt: skip
    return (str(address), info(wire).get("run_id", ""), replication.get("role", ""), *_moves(wire))


def _moves(wire: Wire) -> list[str]:
    """Return how often keys were moved between databases: a key that moves meanwhile could be missed, or read twice."""
    with contextlib.suppress(ServerSaidError, NotAuthorisedError):
        statistics = info(wire, "commandstats")
        return [statistics.get(f"cmdstat_{name}", "").partition(",")[0] for name in ("swapdb", "move")]
    return []
