"""The waiting room over HTTP: how many a second, how late, how it grows, and what an open stream costs.

make bench                                   this and the others
python -m benchmarks.waitingroom --full      this alone, with a million in the line
python -m benchmarks.waitingroom --only rates latency growth streams
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import waitingroom_growth as growth
from benchmarks import waitingroom_streams as streams
from benchmarks.gateways import ceiling, ours, plain
from benchmarks.waitingroom_rates import OPERATIONS, Rates, compared, measured
from understudy import lab

PARTS = ("rates", "latency", "growth", "streams")
OURS, PLAIN, CEILING = "gateway", "FastAPI + redis-py", "ceiling"
_OF_PEAK = 0.7
_LATENCY_S = 3.0
_MEMORY_OF = 20_000


def rates(seconds: float, rounds: int) -> list[Rates]:
    """Compare the services on a standalone server and on a cluster."""
    with lab.standalone() as place, ExitStack() as serving:
        services = [
            (OURS, serving.enter_context(ours(place))),
            (PLAIN, serving.enter_context(plain(place))),
            (CEILING, serving.enter_context(ceiling())),
        ]
        found = compared(place, "standalone", services, seconds, rounds)
        quiet = [(f"{PLAIN}, no access log", serving.enter_context(plain(place, "--no-access-log")))]
        found += compared(place, "standalone", quiet, seconds, rounds, ("join",))
    with lab.cluster() as place, ExitStack() as serving:
        services = [
            (OURS, serving.enter_context(ours(place))),
            (f"{OURS} --replicas 1", serving.enter_context(ours(place, "--replicas", "1"))),
            (PLAIN, serving.enter_context(plain(place))),
        ]
        found += compared(place, "cluster", services, seconds, 1)
    return found


def latency(peak_per_s: dict[str, float], seconds: float) -> list[dict[str, Any]]:
    """Measure latency from when a request was due, at a part of the peak."""
    with lab.standalone() as place, ours(place) as gateway:
        found = []
        for operation in ("join", "status"):
            rate = _OF_PEAK * peak_per_s[operation]
            seen = measured(place, gateway, operation, seconds, rate)
            found.append({"operation": operation, "due_per_s": rate, **asdict(seen)})
        return found


def _show_rates(found: Sequence[Rates]) -> None:
    by_name = {(one.layout, one.service): one for one in found}
    print("| layout | service |" + "".join(f" {one}/s | of plain | of ceiling | CPU each |" for one in OPERATIONS))
    print("|---|---|" + "---:|---:|---:|---:|" * len(OPERATIONS))
    for one in found:
        row = f"| {one.layout} | {one.service} |"
        for operation in one.per_s:
            basis = by_name[one.layout, PLAIN].per_s[operation]
            most = by_name["standalone", CEILING].per_s[operation]
            rate = one.per_s[operation]
            row += f" {rate:,.0f} | {rate / basis:.2f} | {rate / most:.2f} | {one.cpu_us[operation]:.0f} µs |"
        print(row + " | | | |" * (len(OPERATIONS) - len(one.per_s)), flush=True)


def _show_latency(found: Sequence[dict[str, Any]]) -> None:
    print(f"\nOpen model at {_OF_PEAK:.0%} of the peak, from when a request was due\n")
    print("| operation | due/s | answered/s | p50 | p99 | p99.9 | generator late, at most |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for one in found:
        at = one["latency_ms"]
        print(
            f"| {one['operation']} | {one['due_per_s']:,.0f} | {one['per_s']:,.0f} | {at['p50']:.1f} ms "
            f"| {at['p99']:.1f} ms | {at['p99.9']:.1f} ms | {one['most_late_ms']:.1f} ms |",
            flush=True,
        )


def _show_growth(sizes: Sequence[int]) -> list[dict[str, Any]]:
    print("\nWith so many in the line: the server's time for a call; a lone request over HTTP, p50\n")
    names = ("join", "status", "enter")
    print("| waiting |" + "".join(f" {one}, server | {one}, alone |" for one in names) + " server memory each |")
    print("|---:|" + "---:|---:|" * len(names) + "---:|")
    found = []
    for size in sizes:
        one = growth.measure(size)
        found.append(asdict(one))
        cells = "".join(f" {one.server_us[name]:.0f} µs | {one.alone_ms[name]:.2f} ms |" for name in names)
        print(f"| {size:,} |{cells} {one.bytes_each:,.0f} B |", flush=True)
    for node_bytes in (growth.NODE_BYTES, growth.SMALL_NODE_BYTES):
        each = growth.bytes_each(_MEMORY_OF, node_bytes)
        found.append({"stream_node_max_bytes": node_bytes, "bytes_each": each})
        print(f"\n`stream-node-max-bytes {node_bytes}`: {each:,.0f} bytes each", flush=True)
    return found


def _show_streams() -> dict[str, Any]:
    one = streams.measure()
    print(f"\n{one.streams:,} open streams on one gateway\n")
    print("| memory each | CPU each, quiet | CPU for a push | change to push, p50 | p99 |")
    print("|---:|---:|---:|---:|---:|")
    print(
        f"| {one.bytes_each / 1024:.1f} KiB | {one.quiet_us_per_s:.0f} µs/s | {one.push_us:.0f} µs "
        f"| {one.delay_ms['p50']:.0f} ms | {one.delay_ms['p99']:.0f} ms |",
        flush=True,
    )
    return asdict(one)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waitingroom", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="also with a million in the line: 5 GB, two minutes")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args(words)
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; ",
        end="",
    )
    print(f"median of {asked.rounds} rounds of {asked.seconds:g} s\n")
    results: dict[str, Any] = {}
    if "rates" in asked.only or "latency" in asked.only:
        found = rates(asked.seconds, asked.rounds)
        _show_rates(found)
        results["rates"] = [asdict(one) for one in found]
        if "latency" in asked.only:
            results["latency"] = latency(found[0].per_s, _LATENCY_S)
            _show_latency(results["latency"])
    if "growth" in asked.only:
        results["growth"] = _show_growth([*growth.SIZES, *([growth.FULL_SIZE] if asked.full else [])])
    if "streams" in asked.only:
        results["streams"] = _show_streams()
    place = Path("bench-results")
    place.mkdir(exist_ok=True)
    (place / "waitingroom.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
