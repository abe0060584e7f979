"""Waiting rooms for tests: over a real client, or over one connection with a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from understudy.errors import ServerSaidError
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import Command, Reply, ReplyError, Wire
from understudy.waitingroom.library import Library, texts
from understudy.waitingroom.room import Room
from understudy.waitingroom.values import Entered, Event, EventSettings, RefusalError

WITHIN_S = 20.0  # for one operation, on a machine with other work


@asynccontextmanager
async def gateways(target: Target, count: int = 1, **options: Any) -> AsyncIterator[list[Room]]:
    """So many rooms, each with connections of its own, as gateways on several machines have them."""
    clients = [BatchedClient(target) for _ in range(count)]
    try:
        for client in clients:
            await client.start()
        yield [Room(client, deadline_s=WITHIN_S, **options) for client in clients]
    finally:
        await asyncio.gather(*(client.close() for client in clients))


async def code_of(operation: Coroutine[Any, Any, Any]) -> str:
    """Return "" for an operation that was done, else the code of its refusal."""
    try:
        await operation
    except RefusalError as error:
        return error.code
    return ""


def clocked(event: str, changed: Mapping[str, tuple[str, str]] | None = None) -> Library:
    """The library with a clock that stands in `clock:{E}`, for one event; some texts with one place replaced."""
    code = texts()
    for name, (old, new) in (changed or {}).items():
        assert code[name].count(old) == 1, f"{name}: {old}"
        code[name] = code[name].replace(old, new)
    start = code["shared"].index("local function now_ms()")
    end = code["shared"].index("\nend\n", start)
    clock = f"local function now_ms()\n  return tonumber(redis.call('GET', 'clock:{{{event}}}'))"
    code["shared"] = code["shared"][:start] + clock + code["shared"][end:]
    return Library(code)


class OneWire:
    """A client over one connection that never waits, so that no event loop is needed: see `done`.

    With `again` every command is sent twice, as when the first answer is lost, and the second answer counts.
    """

    mode = Mode.STANDALONE

    def __init__(self, wire: Wire, clock_key: str) -> None:
        self.wire = wire
        self.again = False
        self._clock_key = clock_key

    async def execute(self, command: Command, key: str | None, *, within_s: float, acknowledged_by: int = 0) -> Reply:
        reply = self.wire.pipeline([command] * (2 if self.again else 1))[-1]
        if isinstance(reply, ReplyError):
            raise ServerSaidError(f"running {command[0]!s}", str(reply))
        return reply

    def now_ms(self, key: str) -> int:
        return int(self.wire.call("GET", self._clock_key))


def done(operation: Coroutine[Any, Any, Any]) -> Any:
    """Run an operation over `OneWire` to its end."""
    try:
        operation.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


async def opened(room: Room, event: str, seats: list[str] | None = None, **changes: Any) -> Event:
    """Make an event and open it; without other settings people are called as fast as they come."""
    settings = {"rate_per_s": 1000.0, "burst": 1000, **changes}
    await room.create(event, EventSettings(**settings), seats or [])
    return await room.act(event, "open")


async def came_in(room: Room, event: str, user: str = "") -> Entered:
    """Join and enter."""
    joined = await room.join(event, user)
    return await room.enter(joined.ticket)
