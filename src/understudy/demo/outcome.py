"""What a demo did and found, as frozen values: for the report, for `--json` and for the verdict."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from understudy.backup.component import RestoreReport
from understudy.backup.set import FileEntry
from understudy.backup.take import TakenSet
from understudy.backup.verify_report import VerifyReport
from understudy.demo.verdict import Digests, Verdict
from understudy.lab import Lab
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges

NEXT = ("understudy up cluster", "understudy backup", "understudy restore latest --dry-run")


@dataclass(frozen=True)
class Step:
    """One step of the story: what it is called, seconds it took, what it did, the rate where one makes sense.

    `good` is false where it found something that speaks against the restore.
    """

    name: str
    title: str
    took_s: float
    figure: str
    rate: str = ""
    good: bool = True


@dataclass(frozen=True)
class ShardSeen:
    """One shard of the cluster before the loss: addresses with node names, slots as ranges, keys."""

    primary: str
    replicas: tuple[str, ...]
    slots: tuple[str, ...]
    slot_count: int
    keys: int

    @classmethod
    def of_cluster(cls, cluster: Lab, router: Router) -> Iterator[ShardSeen]:
        """Look at each shard of a running lab."""
        names = {node.address: f"{node.name} ({node.address})" for node in cluster.nodes}
        for shard in router.topology.shards:
            if shard.primary:
                yield cls(
                    primary=names[shard.primary.address],
                    replicas=tuple(names[node.address] for node in shard.replicas),
                    slots=tuple(as_ranges(shard.slots)),
                    slot_count=len(shard.slots),
                    keys=int(router.wire(shard.primary.address).call("DBSIZE")),
                )


@dataclass(frozen=True)
class SetSeen:
    """The set that the demo took; sizes in bytes. `directory` and `archive` are names in the demo's directory."""

    id: str
    directory: str
    archive: str
    archive_size: int
    archive_sha256: str
    size: int
    keys: int
    functions: int
    files: tuple[FileEntry, ...]

    @classmethod
    def of(cls, taken: TakenSet) -> SetSeen:
        """Look at a set that was taken."""
        metadata = taken.backup.metadata
        with taken.archive.open("rb") as file:
            archive_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(
            id=str(metadata.id),
            directory=taken.backup.directory.name,
            archive=taken.archive.name,
            archive_size=taken.archive.stat().st_size,
            archive_sha256=archive_sha256,
            size=metadata.size,
            keys=metadata.keys,
            functions=int(metadata.components["redis"]["functions"]),
            files=metadata.files,
        )


@dataclass(frozen=True)
class Machine:
    """What the demo ran on; `cores` are those that this process may use."""

    server: str
    python: str
    system: str
    cores: int

    @classmethod
    def here(cls, server: str) -> Machine:
        """Look at the machine that we run on."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(server, platform.python_version(), f"{platform.system()} {platform.machine()}", cores)


@dataclass(frozen=True)
class Outcome:
    """The whole story."""

    verdict: Verdict
    finished_at: str
    machine: Machine
    steps: tuple[Step, ...]
    shards: tuple[ShardSeen, ...]
    keys: int
    types: Mapping[str, int]
    kinds: Mapping[str, int]
    expiring: int
    functions: int
    backup: SetSeen
    keys_after_wipe: int
    restored: RestoreReport
    verified: VerifyReport
    digests: Digests

    @property
    def took_s(self) -> float:
        """Return the seconds of all steps together."""
        return sum(step.took_s for step in self.steps)

    def step(self, name: str) -> Step:
        """Return one step. Raises `KeyError` where the story has none of that name."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def as_data(self) -> dict[str, Any]:
        """Return the outcome as `--json` prints it."""
        data = dataclasses.asdict(self)
        data["verdict"], data["sentence"], data["reasons"] = (
            self.verdict.word,
            self.verdict.sentence,
            list(self.verdict.reasons),
        )
        data["verified"]["clean"] = self.verified.clean
        data["took_s"] = self.took_s
        data["next"] = list(NEXT)
        return data
