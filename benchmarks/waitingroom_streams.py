"""Open streams of places: what each costs the gateway, and how long a change takes to whoever listens."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import urlsplit

from benchmarks.gateways import Serving, filled, opened, ours
from benchmarks.http_load import percentiles
from benchmarks.measured import cpu_s, private_bytes
from understudy import lab
from understudy.http.many import raise_file_limit
from understudy.valkey.batched import BatchedClient
from understudy.waitingroom.room import Room

STREAMS = 2_000
CHANGES = 5
_AT_ONCE = 100
_QUIET_S = 3.0
_WITHIN_S = 20.0
_EVENT = "streams"
_PATH = "/api/v1/queue/updates"


@dataclass(frozen=True)
class Streams:
    """What so many streams cost, and delays from a change (somebody leaves) to the push to everyone behind."""

    streams: int
    bytes_each: float
    quiet_us_per_s: float  # processor time of the gateway for one stream that is told nothing
    push_us: float  # and for one push
    delay_ms: dict[str, float]


class _Stream(asyncio.Protocol):
    """One listener; `places` counts what it was told, `told_s` is when it was told last."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.places = 0
        self.told_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if told := data.count(b"event: place"):
            self.places += told
            self.told_s = time.perf_counter()


def measure(count: int = STREAMS, changes: int = CHANGES) -> Streams:
    """Open so many streams on a gateway, and change everybody's place so often."""
    raise_file_limit()
    with lab.standalone() as place, ours(place) as gateway:

        async def work() -> Streams:
            client = BatchedClient(place.target())
            await client.start()
            try:
                return await _measured(Room(client), gateway, count, changes)
            finally:
                await client.close()

        return asyncio.run(work())


async def _measured(room: Room, gateway: Serving, count: int, changes: int) -> Streams:
    await opened(room, _EVENT, rate_per_s=0)
    leaving = await filled(room, _EVENT, changes, "leaves")
    tickets = await filled(room, _EVENT, count)
    empty_bytes = private_bytes(gateway.pid)
    streams = await _open(gateway, tickets)
    await _told(streams, 1)
    each = (private_bytes(gateway.pid) - empty_bytes) / count
    begun, cpu = time.perf_counter(), cpu_s(gateway.pid)
    await asyncio.sleep(_QUIET_S)
    quiet = (cpu_s(gateway.pid) - cpu) / (time.perf_counter() - begun)
    begun, cpu = time.perf_counter(), cpu_s(gateway.pid)
    delays = []
    for nth, ticket in enumerate(leaving, start=2):
        await asyncio.sleep(random.uniform(0, 1))  # not in step with the gateway
        left_s = time.perf_counter()
        await room.leave(ticket)
        await _told(streams, nth)
        delays += [one.told_s - left_s for one in streams]
    pushing = cpu_s(gateway.pid) - cpu - quiet * (time.perf_counter() - begun)
    for one in streams:
        one.transport.abort()
    return Streams(count, each, 1e6 * quiet / count, 1e6 * pushing / (changes * count), percentiles(delays))


async def _open(gateway: Serving, tickets: list[str]) -> list[_Stream]:
    loop = asyncio.get_running_loop()
    host, _, port = urlsplit(gateway.url).netloc.partition(":")
    streams: list[_Stream] = []
    for at in range(0, len(tickets), _AT_ONCE):
        opening = []
        for ticket in tickets[at : at + _AT_ONCE]:
            request = f"GET {_PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ticket}\r\n\r\n"
            opening.append(loop.create_connection(partial(_Stream, request.encode()), host, int(port)))
        streams += [stream for _, stream in await asyncio.gather(*opening)]
    return streams


async def _told(streams: list[_Stream], places: int) -> None:
    """Wait until everybody was told so many places."""
    async with asyncio.timeout(_WITHIN_S):
        while any(one.places < places for one in streams):
            await asyncio.sleep(0.02)
