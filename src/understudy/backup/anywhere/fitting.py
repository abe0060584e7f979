"""A set and a target of other versions: whether its keys can be brought there, with what losses, and by whom."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from understudy.backup.anywhere.fit import Holder, Owners, Readers, holders
from understudy.backup.anywhere.losses import FUNCTION, WHOLE_KEY, Losses, how_many, in_words, line
from understudy.backup.big.format import big_keys, indices, lost_of
from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.backup.functions import FUNCTIONS, Library
from understudy.backup.functions import decode as decode_functions
from understudy.backup.record import Records, decode, read_blocks
from understudy.backup.set import BackupSet
from understudy.backup.tasks.write_keys import name_of
from understudy.backup.workers import run_all, shares
from understudy.errors import RefusedError
from understudy.progress import Progress, stage
from understudy.valkey.glob import compile_glob
from understudy.valkey.payload import rdb_version
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.wire import ReplyError

_MAY_LOSE = frozenset(("hash", "stream", "module", "unknown"))
_MODULES = frozenset(("module", "unknown"))


class Fitting:
    """What was found out of one target for one set. `close` ends the scratch server, where one was needed."""

    def __init__(self, router: Router, backup: BackupSet) -> None:
        self._router, self._backup = router, backup
        self._readers = Readers()
        firsts = [_first(backup.directory, entry.path) for entry in backup.parts() if entry.keys]
        self._samples = {rdb_version(one.payloads[0]): one.payloads[0] for one in reversed(firsts)}
        self._ranked = any(one.idle_s or one.freq for one in firsts)
        self._holders: dict[str, Holder] = holders(router, self._samples)
        self._refused = any(holder.refuses for holder in self._holders.values())
        self._readable = False  # what the target refuses, by a scratch server: until that was tried, nobody builds keys
        self._losses: Losses | None = None

    def check(self) -> None:
        """Make sure that every key can be brought there, at all.

        Raises:
            IntegrityError: neither the target nor a scratch server reads its payload.
        """
        if self._refused:
            self._readers.check(self._samples, self._holders)
            self._readable = True

    def plans(self, common: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return one plan for each worker; each has a database of the scratch server to itself."""
        split = shares(self._backup.parts())
        data = {address: holder.as_data() for address, holder in self._holders.items()}
        return [
            {
                **common,
                "parts": [entry.path for entry in share],
                "holders": data if self._readable else {},
                "scratch": self._readers.target(number).as_data() if self._readable else None,
            }
            for number, share in enumerate(split)
        ]

    def losses(self, common: Mapping[str, Any], options: RestoreOptions, progress: Progress) -> Losses:
        """Look through the set, once, for what the target cannot hold; nothing is written."""
        if self._losses is None:
            found = Losses()
            types = self._backup.metadata.components.get("redis", {}).get("types")
            kinds = _MAY_LOSE if types is None else _MAY_LOSE.intersection(types)
            if kinds & _MODULES or (self._readable and (kinds or self._ranked)):
                with stage(progress, "Looking for what would be lost", self._backup.metadata.keys, "keys"):
                    for result in run_all(
                        "understudy.backup.tasks.foresee_losses:run", self.plans(common), progress.advance
                    ):
                        found.add(result)
            self._look_at_big(options, found)
            if options.match is None and self.lacks_functions:
                _lose(self.libraries, found)
            self._losses = found
        return self._losses

    def _look_at_big(self, options: RestoreOptions, found: Losses) -> None:
        """Look at the keys that the set holds as commands: any server takes those, as far as it understands them."""
        if not indices(self._backup):
            return
        owners = Owners({})
        pattern = compile_glob(options.match) if options.match is not None else None
        with contextlib.ExitStack() as stack:
            routers = {self._router.target.db: self._router}
            for big in big_keys(self._backup):
                if pattern and not pattern.fullmatch(big.key):
                    continue
                if big.db not in routers:
                    target = dataclasses.replace(self._router.target, db=big.db)
                    routers[big.db] = stack.enter_context(Router(target))
                router, slot = routers[big.db], key_slot(big.key)
                lost = lost_of(self._backup.directory, big, owners.of(router, big.key).abilities)
                if lost and (options.overwrite or router.execute([(slot, ("EXISTS", big.key))]).values[0] != 1):
                    found.note(name_of(big.key), big.db, big.kind, lost)

    @cached_property
    def libraries(self) -> list[Library]:
        """Return the set's function libraries."""
        if not any(entry.path == FUNCTIONS for entry in self._backup.metadata.files):
            return []
        return decode_functions((self._backup.directory / FUNCTIONS).read_bytes(), FUNCTIONS)

    @cached_property
    def lacks_functions(self) -> bool:
        """Tell whether the set has functions, and the target (or the proxy before it) none."""
        if not self.libraries:
            return False
        replies = self._router.on_primaries("FUNCTION", "LIST")
        return any(isinstance(reply, ReplyError) and "unknown command" in str(reply).lower() for reply in replies)

    def lose_functions(self, report: RestoreReport) -> None:
        """Tell that the set's functions stay behind."""
        found = Losses()
        _lose(self.libraries, found)
        found.into(report)

    @staticmethod
    def foretell(report: RestoreReport, found: Losses) -> None:
        """Tell what a restore would lose; keys of which nothing can be restored are not counted as restored."""
        found.into(report)
        report.restored -= found.kinds[WHOLE_KEY]
        report.functions -= found.kinds[FUNCTION]

    def refuse_losses(self, found: Losses, options: RestoreOptions) -> None:
        """Raise `RefusedError` where something would be lost, unless that was agreed to or is only asked about."""
        if found.lost and not options.accept_loss and not options.dry_run:
            raise RefusedError(
                f"restoring {self._backup.metadata.called} to {self._described()}",
                f"{how_many(found.lost, found.kinds)} would lose what it cannot hold ({in_words(found.kinds)})",
                "--accept-loss restores them without it. Nothing was written.",
                [line(loss) for loss in found.named], found.lost,
            )  # fmt: skip

    def _described(self) -> str:
        servers = sorted({holder.server for holder in self._holders.values() if holder.server})
        return f"{' and '.join(servers)} at {self._router.target}" if servers else str(self._router.target)

    def close(self) -> None:
        """End the scratch server, if one was started."""
        self._readers.close()


def _lose(libraries: Sequence[Library], found: Losses) -> None:
    for name, _ in libraries:
        found.note(name, None, "function library", {FUNCTION})


def _first(directory: Path, path: str) -> Records:
    """Return the first key of a part."""
    with (directory / path).open("rb") as file:
        block = next(read_blocks(file, path))
    return decode(block[: block.index(b"\n") + 1] if b"\n" in block else block, path)
