"""Task: write the keys of some parts to their owners.

Plan: `target`, `directory`, `parts`, `overwrite`, `recreate_stream_groups`, `dry_run`, `match` (a glob, or
null). Result: the counts of a `RestoreReport`. Every step is safe to repeat, so that a restore that broke off can
simply be run again.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.backup.anywhere.losses import is_module
from understudy.backup.anywhere.rebuild import Entry, Rebuilder
from understudy.backup.component import RestoreReport
from understudy.backup.record import Records, decode, read_blocks
from understudy.valkey.discovery import now_ms as server_now_ms
from understudy.valkey.glob import compile_glob
from understudy.valkey.payload import TYPE_NAMES, all_fields_expired, body
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Command, Reply, ReplyError

# RESTORE as RESP, with places for name, expiry and payload: packing millions of commands one by one costs more
_RESTORE = b"*5\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$6\r\nABSTTL\r\n"
_RANKED = {b"*5": b"*7", b"*6": b"*8"}  # two words more: how long the key was idle, or how often it was used
_USUAL_MOST_BYTES = 512 << 20
_RESTORE_REPLACE = b"*6" + _RESTORE[2:] + b"$7\r\nREPLACE\r\n"


def run(plan: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Write everything that the plan names; see the module."""
    writing = _Writing(plan)
    try:
        for part in plan["parts"]:
            with (Path(plan["directory"]) / part).open("rb") as file:
                for block in read_blocks(file, part):
                    records = decode(block, part)
                    writing.write(records)
                    advance(len(records.keys))
        writing.told()
    finally:
        writing.close()
    return dataclasses.asdict(writing.report)


class _Writing:
    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = plan
        self._target = Target.from_data(plan["target"])
        self._routers: dict[int, Router] = {}
        self._ahead: dict[int, int] = {}
        self._most: int | None = None
        self._overwrite = bool(plan["overwrite"])
        self._restore = _RESTORE_REPLACE if self._overwrite else _RESTORE
        self._match = compile_glob(plan["match"]) if plan.get("match") else None
        self.report = RestoreReport()
        self._rebuilder = Rebuilder(plan, self.report, name_of, self._drop_groups)

    def write(self, records: Records) -> None:
        """Write a block, which is of bounded size; each run of keys of one database is a step."""
        if self._match:
            records = records.matching(self._match)
        end = 0
        for db, run in itertools.groupby(records.dbs):
            start, end = end, end + sum(1 for _ in run)
            self._step(self._router(db), records.part(start, end))

    def _step(self, router: Router, records: Records) -> None:
        # what has expired is left out: with REPLACE it would delete what stands there now
        now_ms = time.time_ns() // 1_000_000 + self._ahead_ms(router)
        if min((at for at in records.expire_at_ms if at is not None), default=now_ms + 1) <= now_ms:
            kept = [at for at, expiry in enumerate(records.expire_at_ms) if expiry is None or expiry > now_ms]
            self.report.expired += len(records.keys) - len(kept)
            records = records.only(kept)
        if empty := {at for at, payload in enumerate(records.payloads) if all_fields_expired(payload, now_ms)}:
            self.report.expired += len(empty)
            records = records.only([at for at in range(len(records.keys)) if at not in empty])
        if records.keys and not self._plan["dry_run"] and max(map(len, records.payloads)) > self._most_bytes(router):
            records = self._without_huge(router, records)
        if self._plan["dry_run"]:
            keys = records.keys
            there = (
                0
                if self._overwrite
                else sum(router.execute([(key_slot(key), (b"EXISTS", key)) for key in keys]).values)
            )
            self.report.skipped += there
            self.report.restored += len(keys) - there
            return
        refused = self._rebuilder.refused(router, records.keys, records.payloads)
        if refused:
            others = set(refused)
            self._rebuild(router, records.only(refused), now_ms)
            records = records.only([at for at in range(len(records.keys)) if at not in others])
        if records.keys:
            self._offer(router, records, now_ms)

    def _offer(self, router: Router, records: Records, now_ms: int) -> None:
        """Send payloads; what a server refuses that was none of the target's before is built anew."""
        keys, payloads = records.keys, records.payloads
        replies = router.execute(self._commands(records))
        if not replies.resent and replies.values.count(b"OK") == len(keys):
            self.report.restored += len(keys)
        else:
            refused = [at for at, reply in enumerate(replies.values) if self._rebuilder.takes(reply)]
            for at, reply in enumerate(replies.values):
                if at not in refused:
                    self._count(router, keys[at], payloads[at], reply, at in replies.resent)
            if refused:
                self._rebuild(router, records.only(refused), now_ms)
        if not self._plan["recreate_stream_groups"]:
            written = zip(keys, payloads, replies.values, strict=True)
            self._drop_groups(
                router,
                [key for key, payload, reply in written if reply == b"OK" and TYPE_NAMES[payload[0]] == "stream"],
            )

    def _rebuild(self, router: Router, records: Records, now_ms: int) -> None:
        nothing: list[int | None] = [None] * len(records.keys)
        columns = (records.keys, records.expire_at_ms, records.payloads, records.idle_s or nothing)
        entries = [Entry(*row) for row in zip(*columns, records.freq or nothing, strict=True)]
        self._rebuilder.write(router, entries, now_ms)

    def _commands(self, records: Records) -> list[tuple[int | None, Command | bytes]]:
        template = self._restore
        commands: list[tuple[int | None, Command | bytes]] = [
            (
                key_slot(key),
                template % (len(key), key, len(when := b"%d" % (expiry or 0)), when, len(payload), payload),
            )
            for key, expiry, payload in zip(records.keys, records.expire_at_ms, records.payloads, strict=True)
        ]
        for word, ranks in ((b"IDLETIME", records.idle_s), (b"FREQ", records.freq)):
            for at, rank in enumerate(ranks or ()):
                slot, command = commands[at]
                if rank is not None and isinstance(command, bytes) and command[:2] in _RANKED:
                    commands[at] = (slot, _ranked(command, word, rank))
        return commands

    def _most_bytes(self, router: Router) -> int:
        """Return how long an argument the server takes: it hangs up on a longer one."""
        if self._most is None:
            reply = router.on_primaries("CONFIG", "GET", "proto-max-bulk-len")[0]
            told = not isinstance(reply, ReplyError) and len(reply) == 2
            self._most = int(reply[1]) if told else _USUAL_MOST_BYTES
        return self._most

    def _without_huge(self, router: Router, records: Records) -> Records:
        """Name what is too long for the server, and return the rest."""
        most = self._most_bytes(router)
        for key, payload in zip(records.keys, records.payloads, strict=True):
            if len(payload) > most:
                self.report.fail(
                    f"{name_of(key)}: {len(payload):,} bytes, and the server's proto-max-bulk-len is {most:,}"
                )
        return records.only([at for at, payload in enumerate(records.payloads) if len(payload) <= most])

    def _ahead_ms(self, router: Router) -> int:
        """Return how far the server's clock is ahead of ours: the server decides what has expired."""
        if id(router) not in self._ahead:
            address = router.owner(0) or router.target.seeds[0]
            self._ahead[id(router)] = server_now_ms(router.wire(address)) - time.time_ns() // 1_000_000
        return self._ahead[id(router)]

    def _count(self, router: Router, key: bytes, payload: bytes, reply: Reply, resent: bool) -> None:
        if reply == b"OK":
            self.report.restored += 1
        elif is_module(payload) and not str(reply).startswith("BUSYKEY"):
            self._rebuilder.lost_whole(router, Entry(key, None, payload), str(reply))
        elif not str(reply).startswith("BUSYKEY"):
            self.report.fail(f"{name_of(key)}: {reply}")
        elif resent and self._is_ours(router, key, payload):
            self.report.restored += 1  # the first try got through, only its answer was lost
        else:
            self.report.skipped += 1

    def _is_ours(self, router: Router, key: bytes, payload: bytes) -> bool:
        there = router.execute([(key_slot(key), (b"DUMP", key))]).values[0]
        return isinstance(there, bytes) and body(there) == body(payload)

    def _drop_groups(self, router: Router, streams: Sequence[bytes]) -> None:
        answers = router.execute([(key_slot(key), (b"XINFO", b"GROUPS", key)) for key in streams]).values
        commands: list[tuple[int | None, Command]] = [
            (key_slot(key), (b"XGROUP", b"DESTROY", key, dict(zip(group[::2], group[1::2], strict=True))[b"name"]))
            for key, groups in zip(streams, answers, strict=True)
            if not isinstance(groups, ReplyError)
            for group in groups
        ]
        for reply in router.execute(commands).values if commands else ():
            if isinstance(reply, ReplyError):
                self.report.fail(f"a stream's consumer group stays: {reply}")

    def _router(self, db: int) -> Router:
        if db not in self._routers:
            self._routers[db] = Router(dataclasses.replace(self._target, db=db))
        return self._routers[db]

    def told(self) -> None:
        """Put what was lost into the report."""
        self._rebuilder.losses.into(self.report)

    def close(self) -> None:
        """Close every connection."""
        self._rebuilder.close()
        for router in self._routers.values():
            router.close()


def _ranked(command: bytes, word: bytes, rank: int) -> bytes:
    """Return a RESTORE with two words more."""
    number = b"%d" % rank
    return _RANKED[command[:2]] + command[2:] + b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(word), word, len(number), number)


def name_of(key: bytes) -> str:
    """Return a key as text that can be read and typed."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and text else repr(key)[1:]
