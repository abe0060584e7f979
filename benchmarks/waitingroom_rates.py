"""Joins, status and enter a second: the gateway, a plain service, and the gateway's HTTP with nothing behind it."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.gateways import Serving, called, filled, opened, queue_load, with_room
from benchmarks.http_load import CONNECTIONS, Load
from understudy.lab.live import Lab
from understudy.valkey.router import Router
from understudy.waitingroom.room import Room

OPERATIONS = ("join", "status", "enter")
_WAITING = 5_000  # in the line where status is asked for
_MOST_ENTER_PER_S = 12_000  # as many tickets are made: none is used twice
_OPEN_CONNECTIONS = 256
_SETTLING_S = 0.5
_numbers = itertools.count()


@dataclass
class Rates:
    """One service on one layout: answers a second of each operation, and its processor time for one."""

    layout: str
    service: str
    per_s: dict[str, float] = field(default_factory=dict)
    cpu_us: dict[str, float] = field(default_factory=dict)


def compared(
    place: Lab,
    layout: str,
    services: Sequence[tuple[str, Serving]],
    seconds: float,
    rounds: int,
    operations: Sequence[str] = OPERATIONS,
) -> list[Rates]:
    """Load services in turns, as fast as they answer; return the median of each."""
    found = [Rates(layout, name) for name, _ in services]
    for operation in operations:
        seen: dict[str, list[Load]] = {name: [] for name, _ in services}
        for _ in range(rounds):
            for name, serving in services:
                seen[name].append(measured(place, serving, operation, seconds))
        for one in found:
            one.per_s[operation] = statistics.median(load.per_s for load in seen[one.service])
            one.cpu_us[operation] = statistics.median(load.server_cpu_us for load in seen[one.service])
    return found


def measured(place: Lab, serving: Serving, operation: str, seconds: float, rate: float = 0.0) -> Load:
    """Load a service with one operation on an event of its own, in an empty server."""
    event = f"bench-{next(_numbers)}"
    with Router(place.target()) as router:
        router.on_primaries("FLUSHALL")
    tickets = with_room(place.target(), lambda room: _prepared(room, event, operation, seconds))
    connections = _OPEN_CONNECTIONS if rate else CONNECTIONS
    return queue_load(serving, operation, event, tickets, seconds=seconds, rate=rate, connections=connections)


async def _prepared(room: Room, event: str, operation: str, seconds: float) -> list[str]:
    match operation:
        case "join":
            await opened(room, event)
            return []
        case "status":
            await opened(room, event)
            return await filled(room, event, _WAITING)
        case _:
            return await called(room, event, int(_MOST_ENTER_PER_S * (seconds + _SETTLING_S)))
