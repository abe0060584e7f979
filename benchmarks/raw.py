"""The baselines: what a bare pipelined client over hiredis needs, one process a shard, bytes thrown away or at hand."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from understudy.backup.record import decode, read_blocks
from understudy.backup.set import BackupSet
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Target
from understudy.valkey.topology import Topology
from understudy.valkey.wire import Wire, pack

_STEP = 1000
_SPAWN = multiprocessing.get_context("spawn")
Item = tuple[bytes, int, bytes]


def drain_s(topology: Topology, target: Target) -> float:
    """Seconds to SCAN, DUMP and PEXPIRETIME everything on every primary, and to keep nothing."""
    shards = [
        (str(shard.primary.address.host), shard.primary.address.port) for shard in topology.shards if shard.primary
    ]
    return _race(_drain, [(place, target.as_data()) for place in shards])


def restore_s(topology: Topology, target: Target, backup: BackupSet) -> float:
    """Seconds to RESTORE every key of a set whose payloads already lie in memory, sorted by owner."""
    tasks = [
        (
            (shard.primary.address.host, shard.primary.address.port),
            target.as_data(),
            str(backup.directory),
            sorted(shard.slots),
        )
        for shard in topology.shards
        if shard.primary
    ]
    return _race(_restore, tasks)


def _race(work: Callable[..., None], tasks: list[tuple[Any, ...]]) -> float:
    """Start one process a task, let all of them get ready, and time them from the word go to the last one's end."""
    pipes: list[Connection] = []
    processes = []
    for task in tasks:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=work, args=(theirs, *task))
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    begun = time.perf_counter()
    for pipe in pipes:
        pipe.send("go")
    for pipe in pipes:
        pipe.recv()
    spent_s = time.perf_counter() - begun
    for process in processes:
        process.join()
    return spent_s


def _wire(place: tuple[str, int], data: dict[str, Any]) -> Wire:
    return Wire(Address(*place), Target.from_data(data))


def _drain(pipe: Connection, place: tuple[str, int], data: dict[str, Any]) -> None:
    wire = _wire(place, data)
    pipe.send("ready")
    pipe.recv()
    cursor = b"0"
    while True:
        cursor, names = wire.call("SCAN", cursor, "COUNT", _STEP)
        wire.send(b"".join([pack(command) for name in names for command in ((b"DUMP", name), (b"PEXPIRETIME", name))]))
        for _ in range(2 * len(names)):
            wire.read()
        if cursor == b"0":
            break
    pipe.send("done")


def _restore(pipe: Connection, place: tuple[str, int], data: dict[str, Any], directory: str, slots: list[int]) -> None:
    wire = _wire(place, data)
    items = _items(Path(directory), frozenset(slots))
    pipe.send("ready")
    pipe.recv()
    for start in range(0, len(items), _STEP):
        step = items[start : start + _STEP]
        wire.send(b"".join([pack((b"RESTORE", key, expiry, payload, b"ABSTTL")) for key, expiry, payload in step]))
        for _ in step:
            wire.read()
    pipe.send("done")


def _items(directory: Path, slots: frozenset[int]) -> list[Item]:
    items: list[Item] = []
    for entry in BackupSet.open(directory).parts():
        with (directory / entry.path).open("rb") as file:
            for block in read_blocks(file, entry.path):
                records = decode(block, entry.path)
                items += [
                    (key, expiry or 0, payload)
                    for key, expiry, payload in zip(records.keys, records.expire_at_ms, records.payloads, strict=True)
                    if key_slot(key) in slots
                ]
    return items
