"""One EVALSHA for each of many concurrent callers, as a gateway of small requests runs them: which client is how fast?

python -m benchmarks.clients --callers 256
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from understudy import lab
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Target

SCRIPT = "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2]) return redis.call('ZRANK', KEYS[1], ARGV[2])"
KEY = "queue:{bench}"
PER_KEY = 1000  # members, so that the server's own work stays the same
WITHIN_S = 5.0
Once = Callable[[int], Awaitable[Any]]


@asynccontextmanager
async def pool(target: Target, digest: str, callers: int) -> AsyncIterator[Once]:
    """redis-py as its manual shows it: a connection for each command in flight."""
    client = redis.Redis(host=target.seeds[0].host, port=target.seeds[0].port, protocol=2, max_connections=callers)
    try:
        yield lambda number: client.evalsha(digest, 1, KEY, number, f"m{number % PER_KEY}")
    finally:
        await client.aclose()


@asynccontextmanager
async def pipeline(target: Target, digest: str, callers: int) -> AsyncIterator[Once]:
    """redis-py, with what is asked in one turn of the loop put into one pipeline."""
    client = redis.Redis(host=target.seeds[0].host, port=target.seeds[0].port, protocol=2, max_connections=callers)
    loop = asyncio.get_running_loop()
    waiting: list[tuple[int, asyncio.Future[Any]]] = []
    running: set[asyncio.Task[None]] = set()

    async def send() -> None:
        asked = waiting[:]
        waiting.clear()
        together = client.pipeline(transaction=False)
        for number, _ in asked:
            together.evalsha(digest, 1, KEY, number, f"m{number % PER_KEY}")
        for (_, future), reply in zip(asked, await together.execute(), strict=True):
            future.set_result(reply)

    def begin() -> None:
        task = loop.create_task(send())
        running.add(task)
        task.add_done_callback(running.discard)

    def once(number: int) -> Awaitable[Any]:
        if not waiting:
            loop.call_soon(begin)
        future = loop.create_future()
        waiting.append((number, future))
        return future

    try:
        yield once
    finally:
        await client.aclose()


@asynccontextmanager
async def glide_async(target: Target, digest: str, _callers: int) -> AsyncIterator[Once]:
    """GLIDE: its core multiplexes over one connection."""
    import glide  # type: ignore[import-not-found]  # noqa: PLC0415 - not among the extras

    address = glide.NodeAddress(target.seeds[0].host, target.seeds[0].port)
    client = await glide.GlideClient.create(glide.GlideClientConfiguration([address]))
    try:
        yield lambda number: client.custom_command(["EVALSHA", digest, "1", KEY, str(number), f"m{number % PER_KEY}"])
    finally:
        await client.close()


def batched(acknowledged_by: int) -> Any:
    @asynccontextmanager
    async def ours(target: Target, digest: str, _callers: int) -> AsyncIterator[Once]:
        """BatchedClient; with replicas that acknowledge, or without."""
        client = BatchedClient(target)
        await client.start()
        try:
            yield lambda number: client.execute(
                ("EVALSHA", digest, 1, KEY, number, f"m{number % PER_KEY}"),
                KEY,
                within_s=WITHIN_S,
                acknowledged_by=acknowledged_by,
            )
        finally:
            await client.close()

    return ours


CLIENTS: dict[str, Any] = {
    "redis-py, pool": pool,
    "redis-py, pipeline each turn": pipeline,
    "GLIDE": glide_async,
    "batched": batched(0),
    "batched, 1 replica acknowledges": batched(1),
}


async def measure(make: Any, target: Target, digest: str, callers: int, seconds: float) -> dict[str, float]:
    """Return commands a second, our own CPU for each, and how long the slowest one in a hundred took."""
    async with make(target, digest, callers) as once:
        await once(0)
        took_s: list[float] = []
        end_s = time.perf_counter() + seconds

        async def caller(number: int) -> None:
            while (begun_s := time.perf_counter()) < end_s:
                await once(number)
                took_s.append(time.perf_counter() - begun_s)
                number += callers

        cpu_s, begun_s = time.process_time(), time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        each_s = (time.process_time() - cpu_s) / len(took_s)
        rate = len(took_s) / (time.perf_counter() - begun_s)
        return {"per_s": rate, "cpu_us": each_s * 1e6, "p99_ms": sorted(took_s)[int(len(took_s) * 0.99)] * 1e3}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args(words)
    print(f"{asked.seconds:g} s each, one process and its server (with one replica) on the same cores\n")
    print("| client | callers | commands/s | of the pool | CPU each | p99 |")
    print("|---|---:|---:|---:|---:|---:|")
    results = []
    with lab.standalone(replicas=1) as place:
        digest = place.call("node-1", "SCRIPT", "LOAD", SCRIPT)
        for callers in asked.callers:
            base = 0.0
            for name, make in CLIENTS.items():
                try:
                    found = asyncio.run(measure(make, place.target(), digest, callers, asked.seconds))
                except ImportError as error:
                    print(f"| {name} | {callers} | left out: {error} | | | |")
                    continue
                base = base or found["per_s"]
                results.append({"client": name, "callers": callers, **found})
                print(
                    f"| {name} | {callers} | {found['per_s']:,.0f} | **{found['per_s'] / base:.1f}** "
                    f"| {found['cpu_us']:.1f} µs | {found['p99_ms']:.1f} ms |",
                    flush=True,
                )
    folder = Path("bench-results")
    folder.mkdir(exist_ok=True)
    (folder / "clients.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
