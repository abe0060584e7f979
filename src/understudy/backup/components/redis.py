"""The redis component: keys and functions of a Valkey or Redis stack, by the engine `scan` or from frozen copies."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from understudy.backup import functions
from understudy.backup.anywhere.fitting import Fitting
from understudy.backup.big import whole
from understudy.backup.big.format import gather
from understudy.backup.component import Comparison, Counted, RestoreOptions, RestoreReport, Taken
from understudy.backup.durable import write_file
from understudy.backup.frozen import summed
from understudy.backup.functions import FUNCTIONS
from understudy.backup.part import Part
from understudy.backup.rdb_check import check_files
from understudy.backup.rdb_expand import is_rdb_only
from understudy.backup.rdb_write import refuse_unfit
from understudy.backup.record import decode, read_blocks
from understudy.backup.replica import engine
from understudy.backup.set import BackupSet, FileEntry
from understudy.backup.verify import verify
from understudy.backup.workers import default_jobs, run_all
from understudy.errors import (
    IncompleteError,
    IntegrityError,
    RefusedError,
    ServerSaidError,
    UnreachableError,
    UsageError,
)
from understudy.pages.figures import count
from understudy.progress import Progress, stage
from understudy.valkey.discovery import info, parse_info, refuse_wrong_mode, server_version
from understudy.valkey.keyspace import databases
from understudy.valkey.proxied import scans_properly
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges, from_ranges
from understudy.valkey.target import Mode, Target
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import ReplyError

_TASKS_BEHIND_A_PROXY = 4


@dataclass(frozen=True)
class ReadOptions:
    """How to read: keys that match a glob, keys a part, and at most so many keys a second (0: no limit).

    `engine` is `scan`, `replica` or `auto`; with replicas, `pause` makes one instant of all shards, and `formats` says
    whether the set holds `jsonl`, `rdb` or both. A value of more than `slice_bytes` is read in slices.
    """

    match: str | None = None
    chunk_keys: int = 100_000
    keys_per_s: float = 0.0
    engine: str = "scan"
    pause: bool = True
    formats: tuple[str, ...] = ("jsonl",)
    slice_bytes: int = 64 << 20


class RedisComponent:
    """Keys and functions behind one target. Connects when first used."""

    name = "redis"
    title = "Redis"

    def __init__(self, target: Target, options: ReadOptions | None = None) -> None:
        self._target = target
        self._options = options or ReadOptions()
        self._fitted: tuple[Path, Fitting] | None = None

    @cached_property
    def router(self) -> Router:
        """Return the connection of this process; workers have their own."""
        return Router(self._target)

    def connect(self) -> None:
        """Connect, unless that is done; a mode that would show only a part of the keys is refused."""
        refuse_unfit(self._options.formats, self._options.engine, self._options.match)
        refuse_wrong_mode(self._target)
        _ = self.router

    def close(self) -> None:
        """Close the connections, if there are any."""
        if self._fitted:
            self._fitted[1].close()
            self._fitted = None
        if "router" in self.__dict__:
            self.router.close()

    def where(self) -> str:
        """Return its address, and what it is."""
        return f"{self.router.target} ({self.router.target.mode})"

    # -- take

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:
        """Read every shard side by side, from the primaries or from copies of them that stand still.

        Raises:
            IncompleteError: a slot is served by nobody, or the source did not come to rest for a cut.
            RefusedError, NotAuthorisedError: copies were asked for, and cannot be made.
        """
        if self._options.engine == "scan":
            return self._scan(work, into, progress)
        plan = vars(self._options)
        return engine.take(self.router, plan, work, into, progress, lambda: self._scan(work, into, progress))

    def _scan(self, work: Path, into: Path, progress: Progress) -> Taken:
        dbs = databases(self.router)
        plans = self._plans(work, dbs)
        with stage(progress, "Reading keys", self.existing(), "keys"):
            results = run_all("understudy.backup.tasks.read_keys:run", plans, progress.advance)
        libraries, warning = functions.read(self.router)
        if warning:
            progress.say(f"Warning: {warning}")
        big, requires = gather(results, work, into)
        files = list(big)
        if libraries:
            data = functions.encode(libraries)
            place = into / FUNCTIONS
            place.parent.mkdir(parents=True, mode=0o700)
            write_file(place, data)
            files.append(FileEntry(FUNCTIONS, len(data), hashlib.sha256(data).hexdigest()))
        return Taken(
            tuple(Part(**part) for result in results for part in result["parts"]),
            tuple(files),
            self._account(results, dbs, len(libraries)) | {"warnings": [warning] if warning else []},
            requires,
        )

    def _plans(self, work: Path, dbs: Sequence[int]) -> list[dict[str, Any]]:
        """Return one independent task a shard."""
        router = self.router
        share = max(1, len(router.topology.shards))
        common = {
            "target": router.reachable_target().as_data(),
            "dbs": dbs,
            "work": str(work),
            "chunk_keys": self._options.chunk_keys,
            "match": self._options.match,
            "slice_bytes": self._options.slice_bytes,
            "keys_per_s": self._options.keys_per_s / share,
        }
        if not self._by_slots:
            return [common | {"slots": None, "stem": "all"}]
        if router.target.mode is Mode.ENTERPRISE:  # which slots make a shard is hidden: any split will do
            jobs = default_jobs(_TASKS_BEHIND_A_PROXY)
            return [
                common
                | {"slots": as_ranges(range(job * SLOTS // jobs, (job + 1) * SLOTS // jobs)), "stem": f"slots{job}"}
                for job in range(jobs)
            ]
        if missing := router.topology.missing_slots:
            raise IncompleteError(
                f"planning the backup of {router.target}", f"{len(missing)} slot(s) are served by nobody",
                "Bring the missing primary back, or its replica up (CLUSTER NODES), then run the backup again.",
                as_ranges(missing),
            )  # fmt: skip
        shards = [shard for shard in router.topology.shards if shard.slots]
        return [
            common | {"slots": as_ranges(shard.slots), "stem": f"shard{number:03d}"}
            for number, shard in enumerate(shards)
        ]

    @cached_property
    def _by_slots(self) -> bool:
        """Tell whether the unit of reading is the slot: in a cluster, and behind a proxy that cannot scan one."""
        mode = self.router.target.mode
        return mode is Mode.OSS_CLUSTER or (mode is Mode.ENTERPRISE and not scans_properly(self.router))

    def _account(self, results: Sequence[Mapping[str, Any]], dbs: Sequence[int], libraries: int) -> dict[str, Any]:
        """Sum up; every slot must be accounted for."""
        router = self.router
        account: dict[str, Any] = {"engine": "scan", "mode": str(router.target.mode), "server": self._server()}
        account |= summed(results, vars(self._options), dbs, libraries)
        if self._by_slots:
            covered = [from_ranges(result["slots"]) for result in results]
            missing = set(range(SLOTS)).difference(*covered)
            if missing or sum(map(len, covered)) != SLOTS:
                raise IncompleteError(
                    "accounting for every slot", f"{len(missing)} slot(s) were not read", items=as_ranges(missing)
                )
            account["slots"] = {"covered": SLOTS, "tasks": [result["slots"] for result in results]}
        return account

    def _server(self) -> dict[str, str]:
        address = self.router.owner(0)
        try:
            name, version = server_version(self.router.wire(address or self.router.target.seeds[0]))
        except (ServerSaidError, UnreachableError):
            return {"name": "unknown", "version": "unknown"}
        return {"name": name, "version": version}

    # -- restore

    def existing(self) -> int | None:
        """Return the keys that stand there now, all databases together; None behind a proxy."""
        if self.router.target.mode is Mode.ENTERPRISE:
            return None
        total = 0
        for reply in self.router.on_primaries("INFO", "keyspace"):
            if isinstance(reply, ReplyError):
                return None
            counts = (value.split(",")[0] for name, value in parse_info(reply).items() if name.startswith("db"))
            total += sum(int(count.partition("=")[2]) for count in counts)  # "keys=3,expires=0,…"
        return total

    def check_target(self, backup: BackupSet, options: RestoreOptions) -> None:  # noqa: ARG002 - the port's shape
        """Refuse databases that the target lacks and payloads that it is too old for, before any key is written."""
        recorded = backup.metadata.components.get(self.name, {})
        others = [db for db in recorded.get("databases", []) if db]
        if others:
            try:
                with contextlib.closing(Router(dataclasses.replace(self.router.target, db=max(others)))) as router:
                    router.wire(router.owner(0) or router.target.seeds[0])
            except UsageError as error:
                raise UsageError(
                    f"restoring {backup.metadata.called} to {self._target}",
                    f"the set holds database {max(others)}, which the target does not have",
                    "Restore it to a standalone server, or to a cluster with cluster-databases set.",
                ) from error
        if self.router.target.mode is Mode.STANDALONE:
            address = self.router.primaries[0]
            if info(self.router.wire(address), "replication").get("role") == "slave":
                raise RefusedError(
                    f"restoring to {address}", "it is a replica: it takes no writes", "Name its primary instead."
                )
        self._fitting(backup).check()

    def foresee(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> None:
        """Look, before anything is written, for what the target cannot hold: an older server, or one without modules.

        Raises:
            RefusedError: there is something, and it was not agreed to; `items` names the keys.
        """
        if options.accept_loss and not options.dry_run:
            return  # what is lost is told as it is lost
        fitting = self._fitting(backup)
        fitting.refuse_losses(fitting.losses(self._plan(backup, options), options, progress), options)

    def _fitting(self, backup: BackupSet) -> Fitting:
        """Return what this target makes of a set; found out once."""
        if self._fitted is None or self._fitted[0] != backup.directory:
            if self._fitted:
                self._fitted[1].close()
            self._fitted = (backup.directory, Fitting(self.router, backup))
        return self._fitted[1]

    def _plan(self, backup: BackupSet, options: RestoreOptions) -> dict[str, Any]:
        return {
            "target": self.router.reachable_target().as_data(),
            "directory": str(backup.directory),
            "overwrite": options.overwrite,
            "recreate_stream_groups": options.recreate_stream_groups,
            "dry_run": options.dry_run,
            "match": options.match,
            "accept_loss": options.accept_loss,
        }

    def _evicted(self) -> int:
        """Return how many keys the primaries have thrown out for want of memory; 0 where they do not tell."""
        replies = [reply for reply in self.router.on_primaries("INFO", "stats") if not isinstance(reply, ReplyError)]
        return sum(int(parse_info(reply).get("evicted_keys", 0)) for reply in replies)

    def restore(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> RestoreReport:
        """Write the keys back, parts side by side, then the functions."""
        fitting = self._fitting(backup)
        common = self._plan(backup, options)
        # neighbouring parts go to one worker: they mostly are of one shard, so that every shard has work at any time
        plans = fitting.plans(common)
        report = RestoreReport()
        evicted_before = self._evicted()
        with stage(progress, "Checking keys" if options.dry_run else "Restoring keys", backup.metadata.keys, "keys"):
            for result in run_all("understudy.backup.tasks.write_keys:run", plans, progress.advance):
                report.add(result)
        whole.restore(backup, self.router.reachable_target(), options, report, progress)
        if not options.dry_run and (evicted := self._evicted() - evicted_before):
            report.fail(f"{evicted} key(s) were evicted meanwhile: the target's maxmemory is too small for the set")
        if options.match is None and _has_functions(backup):
            if options.accept_loss and not options.dry_run and fitting.lacks_functions:
                fitting.lose_functions(report)
            else:
                functions.write(self.router, fitting.libraries, options, report)
        if options.dry_run:
            fitting.foretell(report, fitting.losses(common, options, progress))
        return report

    def sources(self, backup: BackupSet) -> list[str]:
        """Return the folder of keys, and the file of functions."""
        folder = "rdb" if is_rdb_only(backup) else "keys"
        return [f"{folder}/ ({count(backup.metadata.keys, 'key')})"] + [FUNCTIONS] * _has_functions(backup)

    def overwrites(self, backup: BackupSet, options: RestoreOptions) -> list[str]:
        """Keys and functions are replaced only where that was asked for."""
        if not options.overwrite:
            return []
        existing = self.existing()
        if existing == 0:
            if options.match is None and _has_functions(backup) and (stand := len(functions.read(self.router)[0])):
                return [f"{self.title} {self.router.target}: functions of the same names as the {stand:,} there"]
            return []
        if existing is None:
            return [f"{self.title} {self.router.target}: keys that stand there; a proxy hides how many"]
        which = "keys" if options.match is None else f"keys that match {options.match!r}"
        return [f"{self.title} {self.router.target}: {which} among the {existing:,} that stand there"]

    def keeping(self, backup: BackupSet, options: RestoreOptions) -> RedisComponent:  # noqa: ARG002 - the port's shape
        """Return a component that takes every key and function: which of them are replaced, nobody knows before."""
        plain = dataclasses.replace(self._options, match=None, engine="scan", formats=("jsonl",))
        return RedisComponent(self._target, plain)

    def compare(self, backup: BackupSet, progress: Progress) -> Comparison:
        """Compare every key both ways, and the number of keys with what the set recorded."""
        report = verify(backup, self._target, progress, sample=None)
        differences = [f"{kind.replace('_', ' ')}: {name}" for kind, name in report.named]
        recorded = backup.metadata.components[self.name]
        if recorded["keys"] != backup.metadata.keys:
            differences.append(f"the set holds {backup.metadata.keys:,} keys, and it recorded {recorded['keys']:,}")
            differences += [
                f"{entry.path} holds {entry.keys:,} keys, and {keys:,} were recorded"
                for entry, keys in zip(backup.parts(), recorded.get("part_keys", ()), strict=False)
                if entry.keys != keys
            ]
            there = _types(backup)
            differences += [
                f"keys of the type {kind}: {there[kind]:,}, and it recorded {number:,}"
                for kind, number in recorded.get("types", {}).items()
                if there[kind] != number
            ]
        found = report.compared - report.missing
        return Comparison(count(found, "key"), tuple(differences), (Counted("keys", recorded["keys"], found),))

    @staticmethod
    def read_through(backup: BackupSet, progress: Progress) -> None:
        """Read every record, and every RDB file where there is a server to do it."""
        check_files(backup, progress)
        with stage(progress, "Reading records", backup.metadata.keys, "keys"):
            for entry in backup.parts():
                keys = 0
                with (backup.directory / entry.path).open("rb") as file:
                    for block in read_blocks(file, entry.path):
                        found = len(decode(block, entry.path).keys)
                        keys += found
                        progress.advance(found)
                if keys != entry.keys:
                    raise IntegrityError(
                        f"checking {entry.path}", f"it holds {keys} keys, and the metadata says {entry.keys}"
                    )
        whole.read_through(backup, progress)


def _has_functions(backup: BackupSet) -> bool:
    return any(entry.path == FUNCTIONS for entry in backup.metadata.files)


def _types(backup: BackupSet) -> Counter[str]:
    """Return how many keys of each type the set holds."""
    types = whole.kinds(backup)
    for entry in backup.parts():
        with (backup.directory / entry.path).open("rb") as file:
            for block in read_blocks(file, entry.path):
                types.update(decode(block, entry.path).types)
    return types
