"""How late a drill's own operations begin, with no fault, against a loop that does nothing but wait for the same times.

make bench                                     this and the others
python -m benchmarks.drill --rate 5000         this alone
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

from understudy import lab
from understudy.drill.operation import Outcome, Part
from understudy.drill.run import run
from understudy.drill.scenario import Leg, Workload
from understudy.progress import Silent

LIMIT_MS = 5.0
_SETTLING_US = 1_000_000  # connections are opened in the first second


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def waiting_only(rate: float, seconds: float) -> float:
    """Return the p99 lateness of one thread that waits for the times and does nothing, in milliseconds."""
    late: list[float] = []

    def wait() -> None:
        zero = time.monotonic_ns()
        for number in range(int(rate * seconds)):
            due = zero + int(number * 1e9 / rate)
            if (left := due - time.monotonic_ns()) > 0:
                time.sleep(left / 1e9)
            late.append((time.monotonic_ns() - due) / 1e6)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    return p99(late)


def drill(layout: str, client: str, rate: float, seconds: float) -> dict[str, float]:
    leg = Leg(
        layout=layout, clients=(client,), judge=(client,), workload=Workload(rate=rate, before_s=1, after_s=seconds)
    )  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder, getattr(lab, layout)() as place:
        before = os.times()
        history = run(leg, Path(folder), Silent(), 1, place)
        after = os.times()
    busy = [one for one in history.operations if one.part is Part.BUSY and one.due_us > _SETTLING_US]
    cpu = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return {
        "operations": len(busy),
        "not_ok": sum(one.outcome is not Outcome.OK for one in busy),
        "drift_p99_ms": p99([(one.begun_us - one.due_us) / 1e3 for one in busy]),
        "latency_p99_ms": p99([(one.ended_us - one.due_us) / 1e3 for one in busy]),
        "cpu_us_per_operation": 1e6 * cpu / len(busy),
    }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, nargs="+", default=[500.0, 5000.0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(words)
    print(f"No fault; the median of {asked.rounds} rounds of {asked.seconds:g} s, servers on the same cores\n")
    print(
        "| layout | client | due/s | waiting only, p99 | began late, p99 | of 5 ms | latency p99 | not ok | CPU each |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    results = []
    for layout in ("standalone", "cluster"):
        for rate in asked.rate:
            floor = statistics.median(waiting_only(rate, 2) for _ in range(asked.rounds))
            rounds = [drill(layout, "defaults", rate, asked.seconds) for _ in range(asked.rounds)]
            row = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
            results.append({"layout": layout, "rate": rate, "waiting_only_p99_ms": floor, **row})
            print(
                f"| {layout} | defaults | {rate:,.0f} | {floor:.2f} ms | {row['drift_p99_ms']:.2f} ms "
                f"| **{row['drift_p99_ms'] / LIMIT_MS:.2f}** | {row['latency_p99_ms']:.2f} ms | {row['not_ok']:.0f} "
                f"| {row['cpu_us_per_operation']:.0f} µs |",
                flush=True,
            )
    place = Path("bench-results")
    place.mkdir(exist_ok=True)
    (place / "drill.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
