"""What clients notice meanwhile: reads and writes that are due at fixed times, each timed from when it was due.

A process of its own; it takes its target on standard input, and answers with every operation when that ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import orjson

from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot, name_in_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire


@dataclass
class Foreground:
    """Operations as (when it was due on the monotonic clock, latency in seconds); filled when the block ends."""

    operations: list[tuple[float, float]] = field(default_factory=list)

    def between(self, start: float, end: float) -> list[float]:
        """Return the latencies, in order of size, of what was due in a stretch of time."""
        return sorted(latency for due, latency in self.operations if start <= due < end)


def percentile(latencies: Sequence[float], of_hundred: float) -> float:
    """Return so much of the latencies' order, in milliseconds."""
    return latencies[min(len(latencies) - 1, int(len(latencies) * of_hundred / 100))] * 1000


@contextlib.contextmanager
def running(target: Target, rate: int) -> Iterator[Foreground]:
    """Run `rate` operations a second, half of them writes, spread over the shards, until the block ends."""
    found = Foreground()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.foreground"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    process.stdin.write(orjson.dumps({"target": target.as_data(), "rate": rate}) + b"\n")
    process.stdin.flush()
    try:
        yield found
        said, _ = process.communicate(timeout=60)
        found.operations = [(due, latency) for due, latency in orjson.loads(said)]
    finally:
        process.kill()
        process.wait()


def _main() -> None:
    told = orjson.loads(sys.stdin.buffer.readline())
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), over.set()), daemon=True).start()
    target = Target.from_data(told["target"])
    done: list[tuple[float, float]] = []
    with Router(target) as router:
        shards = [(min(shard.slots), shard.primary.address) for shard in router.topology.shards if shard.primary]
    first = time.monotonic()

    def work(number: int, slot: int, wire: Wire) -> None:
        key = name_in_slot()[slot]
        assert key_slot(key) == slot
        for n in count():
            due = first + (n * len(shards) + number) / told["rate"]
            if over.wait(max(0.0, due - time.monotonic())):
                return
            wire.pipeline([("SET", key, n) if n % 2 else ("GET", key)])
            done.append((due, time.monotonic() - due))

    threads = [
        threading.Thread(target=work, args=(number, slot, Wire(address, target)), daemon=True)
        for number, (slot, address) in enumerate(shards)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.buffer.write(orjson.dumps(done))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _main()
