"""A million keys of a cluster, by scan, by replica and by `redis-cli --cluster backup`: how long, and who notices.

The three take turns in one run, on the same servers, while clients read and write at a fixed rate. Needs redis-cli
(Debian's redis-tools); without it the other two are measured all the same.

make bench                                          this and the others
python -m benchmarks.cut --keys 100000 --rounds 1   this, smaller
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.backup import fill
from benchmarks.foreground import Foreground, percentile, running
from benchmarks.measured import understudy
from understudy import lab
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.lab import Lab
from understudy.valkey.router import Router

_QUIET_S = 3.0
_OURS = {
    "scan": ("--engine", "scan"),
    "replica": ("--engine", "replica"),
    "replica, RDB": ("--engine", "replica", "--format", "rdb"),
}
_THEIRS = "redis-cli --cluster backup"


def _ours(words: tuple[str, ...], env: Mapping[str, str]) -> Callable[[Path], float | None]:
    def run(folder: Path) -> float | None:
        understudy("backup", *words, "--out-dir", str(folder), env=env)
        backup = BackupSet.open(Path(LocalRepository(folder).sets()[0].key))
        cut = backup.metadata.components["redis"].get("cut", {})
        return cut.get("paused_ms")  # type: ignore[no-any-return]

    return run


def _theirs(cluster: Lab) -> Callable[[Path], float | None]:
    def run(folder: Path) -> float | None:
        address = cluster.target().seeds[0]
        folder.mkdir(exist_ok=True)
        subprocess.run(
            ["redis-cli", "--cluster", "backup", str(address), str(folder)], check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=600,
        )  # fmt: skip
        return None

    return run


def measure(keys: int, rounds: int, rate: int) -> list[dict[str, object]]:
    """Return a row for each tool: seconds, pause, foreground latency; the first row is nobody at work."""
    with tempfile.TemporaryDirectory() as place, lab.cluster(replicas=0) as cluster:
        with Router(cluster.target()) as router:
            fill(router, keys)
        tools: dict[str, Callable[[Path], float | None]] = {
            name: _ours(words, cluster.env()) for name, words in _OURS.items()
        }
        if shutil.which("redis-cli"):
            tools[_THEIRS] = _theirs(cluster)
        spans: dict[str, list[tuple[float, float]]] = {"nobody": []}
        pauses: dict[str, list[float]] = {}
        sizes: dict[str, int] = {}
        with running(cluster.target(), rate) as foreground:
            time.sleep(1)
            for number in range(rounds):
                spans["nobody"].append((time.monotonic(), time.monotonic() + _QUIET_S))
                time.sleep(_QUIET_S)
                for name, tool in tools.items():
                    folder = Path(place) / f"{number}-{name.replace(' ', '-').replace(',', '')}"
                    start = time.monotonic()
                    paused = tool(folder)
                    spans.setdefault(name, []).append((start, time.monotonic()))
                    pauses.setdefault(name, []).extend([] if paused is None else [paused])
                    sizes[name] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                    shutil.rmtree(folder)
                    time.sleep(1)
    return [_row(name, found, pauses.get(name, []), sizes.get(name), foreground) for name, found in spans.items()]


def _row(
    name: str, spans: list[tuple[float, float]], pauses: list[float], size: int | None, foreground: Foreground
) -> dict[str, object]:
    latencies = sorted(one for span in spans for one in foreground.between(*span))
    return {
        "tool": name,
        "seconds": None if name == "nobody" else statistics.median(end - start for start, end in spans),
        "mib": size and round(size / (1 << 20)),
        "paused_ms": statistics.median(pauses) if pauses else None,
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        "p999_ms": percentile(latencies, 99.9),
        "max_ms": latencies[-1] * 1000,
    }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cut", description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=600, help="operations of the foreground a second")
    asked = parser.parse_args(words)
    rows = measure(asked.keys, asked.rounds, asked.rate)
    theirs = next((row["seconds"] for row in rows if row["tool"] == _THEIRS), None)
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; {asked.keys:,} keys on three shards; "
        f"median of {asked.rounds} rounds; foreground {asked.rate}/s\n"
    )
    print(f"| tool | seconds | to {_THEIRS} | on disk | writes paused | foreground p50 | p99 | p99.9 | max |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        seconds, paused = row["seconds"], row["paused_ms"]
        ratio = f"**{seconds / theirs:.2f}**" if isinstance(seconds, float) and isinstance(theirs, float) else "–"
        took = f"{seconds:.2f}" if isinstance(seconds, float) else "–"
        held = f"{paused:.1f} ms" if isinstance(paused, float) else "–"
        late = " | ".join(f"{row[name]:.2f} ms" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms"))
        print(f"| {row['tool']} | {took} | {ratio} | {row['mib'] or '–'} MiB | {held} | {late} |")
    place = Path("bench-results")
    place.mkdir(exist_ok=True)
    (place / "cut.json").write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
