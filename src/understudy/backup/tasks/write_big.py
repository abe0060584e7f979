"""Task: write big keys of a set to their owners, each in slices under a temporary name.

Plan: `target`, `directory`, `keys` (their lines in the index), `overwrite`, `recreate_stream_groups`, `dry_run`.
Result: the counts of a `RestoreReport`. A key is written whole or not at all, and every key may be
written again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.backup.anywhere.losses import Losses
from understudy.backup.big.format import BigKey, batches, lost_of
from understudy.backup.component import RestoreReport
from understudy.backup.tasks.write_keys import name_of
from understudy.errors import ServerSaidError
from understudy.valkey.abilities import Abilities
from understudy.valkey.discovery import now_ms as server_now_ms
from understudy.valkey.discovery import server_version
from understudy.valkey.router import Router
from understudy.valkey.slices import Newest, takes, write
from understudy.valkey.slices.commands import adapted
from understudy.valkey.slices.still import PIECE_BYTES
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Command, ReplyError


def run(plan: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Write everything that the plan names; see the module."""
    with contextlib.ExitStack() as stack:
        writing = _Writing(plan, stack, advance)
        for row in plan["keys"]:
            writing.write(BigKey.from_data(row, "a big key's line"))
            advance(1)
    return dataclasses.asdict(writing.report)


class _Writing:
    def __init__(self, plan: Mapping[str, Any], stack: contextlib.ExitStack, advance: Callable[[int], None]) -> None:
        self._plan, self._stack, self._advance = plan, stack, advance
        self._target = Target.from_data(plan["target"])
        self._directory = Path(plan["directory"])
        self._routers: dict[int, Router] = {}
        self.report = RestoreReport()

    def write(self, big: BigKey) -> None:
        """Write one key, and count what became of it."""
        router = self._router(big.db)
        slot = key_slot(big.key)
        wire = router.wire(router.owner(slot) or router.target.seeds[0])
        if big.expire_at_ms is not None and big.expire_at_ms <= server_now_ms(wire):
            self.report.expired += 1
            return
        newest = self._newest(router, slot)
        if self._plan["dry_run"]:
            there = not self._plan["overwrite"] and router.execute([(slot, ("EXISTS", big.key))]).values[0]
            self.report.skipped += bool(there)
            self.report.restored += not there
            return
        if big.kind == "string" and big.length > (most := self._most_bytes(router)):
            self.report.fail(
                f"{name_of(big.key)}: {big.length:,} bytes, and the server's proto-max-bulk-len is {most:,}"
            )
            return
        written = write(
            router, big.key, lambda: self._batches(big, newest), expire_at_ms=big.expire_at_ms,
            overwrite=self._plan["overwrite"], advance=lambda _: self._advance(0),
        )  # fmt: skip
        if written.outcome == "failed":
            self.report.fail(f"{name_of(big.key)}: {written.why}")
        else:
            if written.outcome == "written":
                self.report.restored += 1
                self._note_losses(big, newest)
            self.report.skipped += written.outcome == "exists"
            self.report.expired += written.outcome == "expired"

    def _note_losses(self, big: BigKey, newest: Newest | None) -> None:
        """Tell what the target had no place for; that was agreed to before anything was written."""
        able = Abilities(takes(newest, "field expiry"), takes(newest, "stream counters"))
        if lost := lost_of(self._directory, big, able):
            found = Losses()
            found.note(name_of(big.key), big.db, big.kind, lost)
            found.into(self.report)

    def _whole(self, big: BigKey) -> Iterator[list[Command]]:
        return batches(self._directory, big, PIECE_BYTES)

    def _batches(self, big: BigKey, newest: Newest | None) -> Iterator[list[Command]]:
        """Yield its commands as the target takes them."""
        groups: list[bytes] = []
        for batch in self._whole(big):
            fitting = [adapted(command, newest) for command in batch]
            if big.kind == "stream" and not self._plan["recreate_stream_groups"]:
                made = (command for command in batch if command[0] == b"XGROUP")
                groups += [bytes(command[3]) for command in made if command[1] == b"CREATE"]  # type: ignore[arg-type]
            yield [command for command in fitting if command is not None]
        if groups:  # the stream stays, though it may be empty
            yield [(b"XGROUP", b"DESTROY", big.key, group) for group in groups]

    def _newest(self, router: Router, slot: int) -> Newest | None:
        """Return who takes the commands; None where a proxy hides it."""
        try:
            name, version = server_version(router.wire(router.owner(slot) or router.target.seeds[0]))
        except ServerSaidError:
            return None
        return name, tuple(int(part) for part in version.split(".") if part.isdecimal())

    def _most_bytes(self, router: Router) -> int:
        reply = router.on_primaries("CONFIG", "GET", "proto-max-bulk-len")[0]
        told = not isinstance(reply, ReplyError) and len(reply) == 2
        return int(reply[1]) if told else 512 << 20

    def _router(self, db: int) -> Router:
        if db not in self._routers:
            self._routers[db] = self._stack.enter_context(Router(dataclasses.replace(self._target, db=db)))
        return self._routers[db]
