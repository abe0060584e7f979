"""Task: write the keys of some parts to their owners.

Plan: `target`, `directory`, `parts`, `overwrite`, `recreate_stream_groups`, `dry_run`. Result: the counts of a
`RestoreReport`. Every step is safe to repeat, so that a restore that broke off can simply be run again.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.backup.component import RestoreReport
from understudy.backup.record import Records, decode, read_blocks
from understudy.valkey.discovery import now_ms as server_now_ms
from understudy.valkey.payload import TYPE_NAMES, body
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Command, Reply, ReplyError

# RESTORE as RESP, with places for name, expiry and payload: packing millions of commands one by one costs more
_RESTORE = b"*5\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$6\r\nABSTTL\r\n"
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
        self.report = RestoreReport()

    def write(self, records: Records) -> None:
        """Write a block, which is of bounded size; each run of keys of one database is a step."""
        end = 0
        for db, run in itertools.groupby(records.dbs):
            start, end = end, end + sum(1 for _ in run)
            self._step(self._router(db), records, start, end)

    def _step(self, router: Router, records: Records, start: int, end: int) -> None:
        keys, expiries = records.keys[start:end], records.expire_at_ms[start:end]
        payloads = records.payloads[start:end]
        # what has expired is left out: with REPLACE it would delete what stands there now
        now_ms = time.time_ns() // 1_000_000 + self._ahead_ms(router)
        if min((at for at in expiries if at is not None), default=now_ms + 1) <= now_ms:
            kept = [at for at, expiry in enumerate(expiries) if expiry is None or expiry > now_ms]
            self.report.expired += len(keys) - len(kept)
            keys, expiries = [keys[at] for at in kept], [expiries[at] for at in kept]
            payloads = [payloads[at] for at in kept]
        if keys and not self._plan["dry_run"] and max(map(len, payloads)) > self._most_bytes(router):
            keys, expiries, payloads = self._without_huge(router, keys, expiries, payloads)
        if self._plan["dry_run"]:
            there = (
                0
                if self._overwrite
                else sum(router.execute([(key_slot(key), (b"EXISTS", key)) for key in keys]).values)
            )
            self.report.skipped += there
            self.report.restored += len(keys) - there
            return
        template = self._restore
        replies = router.execute(
            [
                (
                    key_slot(key),
                    template % (len(key), key, len(when := b"%d" % (expiry or 0)), when, len(payload), payload),
                )
                for key, expiry, payload in zip(keys, expiries, payloads, strict=True)
            ]
        )
        if not replies.resent and replies.values.count(b"OK") == len(keys):
            self.report.restored += len(keys)
        else:
            for at, reply in enumerate(replies.values):
                self._count(router, keys[at], payloads[at], reply, at in replies.resent)
        if not self._plan["recreate_stream_groups"]:
            written = zip(keys, payloads, replies.values, strict=True)
            self._drop_groups(
                router,
                [key for key, payload, reply in written if reply == b"OK" and TYPE_NAMES[payload[0]] == "stream"],
            )

    def _most_bytes(self, router: Router) -> int:
        """Return how long an argument the server takes: it hangs up on a longer one."""
        if self._most is None:
            reply = router.on_primaries("CONFIG", "GET", "proto-max-bulk-len")[0]
            told = not isinstance(reply, ReplyError) and len(reply) == 2
            self._most = int(reply[1]) if told else _USUAL_MOST_BYTES
        return self._most

    def _without_huge(
        self, router: Router, keys: list[bytes], expiries: list[int | None], payloads: list[bytes]
    ) -> tuple[list[bytes], list[int | None], list[bytes]]:
        """Name what is too long for the server, and return the rest."""
        most = self._most_bytes(router)
        for key, payload in zip(keys, payloads, strict=True):
            if len(payload) > most:
                self.report.fail(
                    f"{name_of(key)}: {len(payload):,} bytes, and the server's proto-max-bulk-len is {most:,}"
                )
        kept = [at for at, payload in enumerate(payloads) if len(payload) <= most]
        return [keys[at] for at in kept], [expiries[at] for at in kept], [payloads[at] for at in kept]

    def _ahead_ms(self, router: Router) -> int:
        """Return how far the server's clock is ahead of ours: the server decides what has expired."""
        if id(router) not in self._ahead:
            address = router.owner(0) or router.target.seeds[0]
            self._ahead[id(router)] = server_now_ms(router.wire(address)) - time.time_ns() // 1_000_000
        return self._ahead[id(router)]

    def _count(self, router: Router, key: bytes, payload: bytes, reply: Reply, resent: bool) -> None:
        if reply == b"OK":
            self.report.restored += 1
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

    def close(self) -> None:
        """Close every connection."""
        for router in self._routers.values():
            router.close()


def name_of(key: bytes) -> str:
    """Return a key as text that can be read and typed."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and text else repr(key)[1:]
