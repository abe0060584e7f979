"""What join, status and enter cost with more and more people in the line: on the server, and for a lone request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gateways import Serving, filled, opened, ours, queue_load, with_room
from understudy import lab
from understudy.valkey.wire import Wire
from understudy.waitingroom.room import Room

SIZES = (1_000, 10_000, 100_000)
FULL_SIZE = 1_000_000
NODE_BYTES = 4096  # `stream-node-max-bytes`: a stream of one entry takes so much at once
SMALL_NODE_BYTES = 256
_EVENT = "growth"
_SAMPLE = 500  # calls that the server's time is the mean of
_CALLED = 2_500  # who enter: by those calls, and by as many requests as are made in `_ALONE_S`
_AT_ONCE = 50
_ALONE_S = 0.3


@dataclass
class Size:
    """One length of the line: microseconds of the server for a call, milliseconds for a lone request (p50)."""

    waiting: int
    bytes_each: float
    server_us: dict[str, float] = field(default_factory=dict)
    alone_ms: dict[str, float] = field(default_factory=dict)


def measure(size: int) -> Size:
    """Measure with so many in the line."""
    with lab.standalone() as place, Wire(place.nodes[0].address, place.target()) as wire:
        found, waiting, come = with_room(place.target(), lambda room: _on_server(room, wire, size))
        with ours(place) as gateway:
            found.alone_ms = _alone_ms(gateway, waiting, come)
        return found


def bytes_each(count: int, node_bytes: int) -> float:
    """Return the memory of the server for one person in the line, with `stream-node-max-bytes` at so many."""
    with lab.standalone() as place, Wire(place.nodes[0].address, place.target()) as wire:
        wire.call("CONFIG", "SET", "stream-node-max-bytes", node_bytes)

        async def work(room: Room) -> float:
            await opened(room, _EVENT)
            before = _used_bytes(wire)
            await filled(room, _EVENT, count)
            return (_used_bytes(wire) - before) / count

        return with_room(place.target(), work)


async def _on_server(room: Room, wire: Wire, size: int) -> tuple[Size, list[str], list[str]]:
    """Make the line and measure the server; return some who wait, and some who were called."""
    await opened(room, _EVENT, rate_per_s=0, burst=_CALLED)
    come = await filled(room, _EVENT, _CALLED, "comes")
    await room.configure(_EVENT, {"rate_per_s": 0.001})  # the bucket is full, and stays empty once it was used
    await room.tick(_EVENT)
    before = _used_bytes(wire)
    line = await filled(room, _EVENT, size)
    found = Size(size, (_used_bytes(wire) - before) / size)
    everywhere = line[:: max(1, size // _SAMPLE)][:_SAMPLE]
    found.server_us["status"] = await _server_us(wire, [room.status(one) for one in everywhere])
    found.server_us["join"] = await _server_us(wire, [room.join(_EVENT, f"later-{n}") for n in range(_SAMPLE)])
    found.server_us["enter"] = await _server_us(wire, [room.enter(one) for one in come[:_SAMPLE]])
    return found, everywhere, come[_SAMPLE:]


async def _server_us(wire: Wire, calls: Sequence[Coroutine[Any, Any, object]]) -> float:
    wire.call("CONFIG", "RESETSTAT")
    for at in range(0, len(calls), _AT_ONCE):
        await asyncio.gather(*calls[at : at + _AT_ONCE])
    told = wire.call("INFO", "commandstats").decode().partition("cmdstat_fcall:")[2].split("\r\n")[0]
    stats = dict(pair.split("=") for pair in told.split(","))
    assert int(stats["calls"]) == len(calls)
    return float(stats["usec_per_call"])


def _alone_ms(gateway: Serving, waiting: Sequence[str], come: Sequence[str]) -> dict[str, float]:
    tickets = {"status": waiting, "enter": come, "join": []}
    return {
        operation: queue_load(gateway, operation, _EVENT, some, seconds=_ALONE_S, connections=1).latency_ms["p50"]
        for operation, some in tickets.items()
    }


def _used_bytes(wire: Wire) -> int:
    lines = wire.call("INFO", "memory").decode().splitlines()
    return next(int(one.partition(":")[2]) for one in lines if one.startswith("used_memory:"))
