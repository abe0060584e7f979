"""What a demo looked at: shards, the set, the machine, as frozen values."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from understudy.backup.set import FileEntry
from understudy.backup.take import TakenSet
from understudy.lab import Lab
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges


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
