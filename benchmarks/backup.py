"""Backup and restore of a million mixed keys over three shards, against the bare minimum, in one run.

make bench                                          this and the others
python -m benchmarks.backup --keys 100000 --rounds 3   this, smaller
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measured import Run, understudy
from benchmarks.raw import drain_s, restore_s
from understudy import lab
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.lab.sample import wipe
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.wire import Command

_STEP = 5000


def mixed(keys: int) -> Iterator[Command]:
    """Strings of 100 bytes, half of the keys; strings that expire, hashes, lists, sets and sorted sets."""
    chance = random.Random(1)
    for n in range(keys):
        key = b"bench:%d" % n
        match n % 10:
            case 5:
                yield ("SET", key, chance.randbytes(50), "EX", 100_000)
            case 6:
                yield ("HSET", key, "name", chance.randbytes(30), "age", 42, "note", "xxxx")
            case 7:
                yield ("RPUSH", key, *range(10))
            case 8:
                yield ("SADD", key, *(f"m{chance.randrange(10_000)}" for _ in range(8)))
            case 9:
                yield ("ZADD", key, 1, "a", 2, "b", 3.5, "c")  # type: ignore[misc]
            case _:
                yield ("SET", key, chance.randbytes(100))


def fill(router: Router, keys: int) -> None:
    step: list[tuple[int | None, Command]] = []
    for command in mixed(keys):
        step.append((key_slot(command[1]), tuple(str(w) if isinstance(w, float) else w for w in command)))  # type: ignore[arg-type]
        if len(step) == _STEP:
            router.execute(step)
            step = []
    router.execute(step)


def measure(keys: int, rounds: int) -> dict[str, object]:
    """Measure one size; baseline and ours take turns."""
    drains: list[float] = []
    raws: list[float] = []
    backups: list[Run] = []
    restores: list[Run] = []
    with tempfile.TemporaryDirectory() as folder, lab.cluster(replicas=0) as cluster:
        target = cluster.target()
        env = {**cluster.env(), "BACKUP_DIR": folder}
        with Router(target) as router:
            fill(router, keys)
            for _ in range(rounds):
                drains.append(drain_s(router.topology, target))
                shutil.rmtree(folder)
                backups.append(understudy("backup", env=env))
            backup = BackupSet.open(Path(LocalRepository(Path(folder)).sets()[0].key))
            for _ in range(rounds):
                wipe(router)
                raws.append(restore_s(router.topology, target, backup))
                wipe(router)
                restores.append(understudy("restore", "latest", env=env))
        size = backup.metadata.size
    return {
        "keys": keys,
        "set_mib": round(size / (1 << 20)),
        "drain_s": statistics.median(drains),
        "backup_s": statistics.median(run.seconds for run in backups),
        "backup_ratio": statistics.median(run.seconds / raw for run, raw in zip(backups, drains, strict=True)),
        "backup_peak_mib": max(run.peak_mib for run in backups),
        "raw_restore_s": statistics.median(raws),
        "restore_s": statistics.median(run.seconds for run in restores),
        "restore_ratio": statistics.median(run.seconds / raw for run, raw in zip(restores, raws, strict=True)),
        "restore_peak_mib": max(run.peak_mib for run in restores),
    }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backup", description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(words)
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; ",
        end="",
    )
    print(f"median of {asked.rounds} rounds; three shards without replicas\n")
    print("| keys | set | raw drain | backup | ratio | peak memory | raw RESTORE | restore | ratio | peak memory |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    results = []
    for keys in asked.keys:
        row = measure(keys, asked.rounds)
        results.append(row)
        backup = "{keys:,} | {set_mib} MiB | {drain_s:.2f} s | {backup_s:.2f} s | **{backup_ratio:.2f}**"
        restore = "{raw_restore_s:.2f} s | {restore_s:.2f} s | **{restore_ratio:.2f}**"
        row_text = f"| {backup} | {{backup_peak_mib:.0f}} MiB | {restore} | {{restore_peak_mib:.0f}} MiB |"
        print(row_text.format(**row), flush=True)
    place = Path("bench-results")
    place.mkdir(exist_ok=True)
    (place / "backup-restore.json").write_text(json.dumps(results, indent=2))
    print(f"\nFigures: {place / 'backup-restore.json'}", file=sys.stderr)


if __name__ == "__main__":
    main()
