"""The ten tests of the requirement document by their names, with its figures, keys and results, on every layout."""

# ruff: noqa: N802  the names are the document's

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rooms import WITHIN_S, came_in, gateways, opened
from understudy.lab import Lab
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Target
from understudy.waitingroom import keys
from understudy.waitingroom.functions import Functions
from understudy.waitingroom.library import library
from understudy.waitingroom.room import Room

STREAM_ID = re.compile(rb"^\d{13}-\d+$")
SEATS = [f"A-{number}" for number in range(1, 101)]


@pytest.fixture(params=["standalone", "sentinel", "cluster", "enterprise"])
def target(request: pytest.FixtureRequest) -> Target:
    """Each layout in turn."""
    running: Lab = request.getfixturevalue(f"valkey_{request.param}")
    return running.target()


class Executor:
    """The operations as the document's executor calls them: raw replies."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.client: BatchedClient = room.client
        self._functions = Functions(room.client, library())

    async def __call__(self, operation: str, named: list[str], *arguments: str) -> Any:
        deadline = str(self.client.now_ms(named[0]) + 20_000)
        return await self._functions.call(operation, named, (deadline, *arguments), within_s=WITHIN_S, replicas=0)

    async def enqueue(self, event: str, user: str, ticket: str, dedupe: str) -> Any:
        """Join with a dedupe key."""
        ticket_id = keys.ticket_id(ticket)
        named = [*keys.line(event), f"stream:event:{{{event}}}", keys.user(event, user), keys.ticket(event, ticket_id)]
        return await self("join", [*named, f"dedupe:{{{event}}}:{dedupe}"], ticket_id, user, ticket, "")

    async def on_seat(self, operation: str, event: str, holder: str, seat: str, request: str) -> Any:
        """Hold or release one seat."""
        named = [*keys.room(event), keys.answer(event, operation, holder, request), keys.hold(event, seat)]
        return await self(operation, named, holder, "digest", seat)

    async def read(self, *command: str) -> Any:
        """Run a command on its first key."""
        return await self.client.execute(command, command[1], within_s=WITHIN_S)


@asynccontextmanager
async def executor(target: Target) -> AsyncIterator[Executor]:
    async with gateways(target) as (room,):
        yield Executor(room)


class TestLuaExecutor:
    def test_EnqueueAtomic(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "test")
                first = await run.enqueue("test", "user-123", "test.1", "enqueue-test")
                assert first[0] == 1
                assert STREAM_ID.match(first[1])
                assert await run.enqueue("test", "user-456", "test.2", "enqueue-test") == [0, b"DUPLICATE"]
                assert await run.read("XLEN", "stream:event:{test}") == 1
                assert await run.read("XLEN", "stream:event:{test}:user:user-123") == 1
                assert 290 < await run.read("TTL", "dedupe:{test}:enqueue-test") <= 300  # five minutes

        asyncio.run(scenario())

    def test_EnqueueAtomic_Concurrent(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "test")
                answers = await asyncio.gather(
                    *(run.enqueue("test", f"user-{n}", f"test.{n}", "concurrent-test") for n in range(100))
                )
                assert Counter(answer[0] for answer in answers) == {1: 1, 0: 99}
                assert [answer for answer in answers if not answer[0]] == [[0, b"DUPLICATE"]] * 99
                assert await run.read("EXISTS", "dedupe:{test}:concurrent-test") == 1
                assert await run.read("XLEN", "stream:event:{test}") == 1

        asyncio.run(scenario())

    def test_HoldSeatAtomic(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "concert", SEATS)
                ann = (await came_in(run.room, "concert", "ann")).token_id
                bob = (await came_in(run.room, "concert", "bob")).token_id
                held = await run.on_seat("hold", "concert", ann, "A-12", "first")
                assert held[:2] == [1, b"99"]
                assert await run.on_seat("hold", "concert", bob, "A-12", "second") == [0, b"SEAT_UNAVAILABLE", b"A-12"]
                assert await run.read("HGET", "seat:status:{concert}", "A-12") == b"HELD"
                assert await run.read("GET", "hold:seat:{concert}:A-12") == ann.encode()
                assert 100 < await run.read("TTL", "hold:seat:{concert}:A-12") <= 120
                assert await run.read("GET", "inventory:{concert}") == b"99"

        asyncio.run(scenario())

    def test_ReleaseSeatAtomic(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "concert", SEATS)
                ann = (await came_in(run.room, "concert", "ann")).token_id
                assert (await run.on_seat("hold", "concert", ann, "A-12", "first"))[:2] == [1, b"99"]
                assert await run.on_seat("release", "concert", ann, "A-12", "second") == [1, b"100"]
                assert await run.read("HGET", "seat:status:{concert}", "A-12") == b"AVAILABLE"
                assert await run.read("EXISTS", "hold:seat:{concert}:A-12") == 0
                assert await run.read("GET", "inventory:{concert}") == b"100"

        asyncio.run(scenario())

    def test_SoldOut(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "concert", SEATS)
                ann = (await came_in(run.room, "concert", "ann")).token_id
                await run.read("SET", "inventory:{concert}", "0")
                assert await run.on_seat("hold", "concert", ann, "A-12", "first") == [0, b"SOLD_OUT"]
                assert await run.read("GET", "inventory:{concert}") == b"0"

        asyncio.run(scenario())


class TestStreamQueue:
    def test_PerUserFIFO(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "test", tickets_per_user=5)
                joined = [await run.room.join("test", "user-123") for _ in range(5)]
                assert [one.user_position for one in joined] == [1, 2, 3, 4, 5]
                assert [one.position for one in joined] == [1, 2, 3, 4, 5]
                ids = [tuple(map(int, one.stream_id.split("-"))) for one in joined]
                assert ids == sorted(set(ids))
                entries = await run.read("XRANGE", "stream:event:{test}:user:user-123", "-", "+")
                assert [entry[0].decode() for entry in entries] == [one.stream_id for one in joined]

        asyncio.run(scenario())

    def test_MultiUser(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "test", tickets_per_user=3)
                users = ["user-A", "user-B", "user-C"]
                joined = await asyncio.gather(*(run.room.join("test", user) for _ in range(3) for user in users))
                assert await run.read("XLEN", "stream:event:{test}") == 9
                for user in users:
                    entries = await run.read("XRANGE", f"stream:event:{{test}}:user:{user}", "-", "+")
                    mine = sorted((one for one in joined if one.user_id == user), key=lambda one: one.user_position)
                    assert [one.user_position for one in mine] == [1, 2, 3]
                    assert [entry[0].decode() for entry in entries] == [one.stream_id for one in mine]

        asyncio.run(scenario())

    def test_Dequeue(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "test")
                joined = [await run.room.join("test", f"user-{n}") for n in range(3)]
                (message,) = await run.room.dequeue("test", "worker")
                assert (message.stream_id, message.user_id) == (joined[0].stream_id, "user-0")
                assert await run.read("XLEN", "stream:event:{test}") == 3  # until it is done
                assert await run.room.ack("test", "worker", [message.stream_id]) == 1
                assert await run.read("XLEN", "stream:event:{test}") == 2
                assert (await run.room.event("test")).counts.waiting == 2

        asyncio.run(scenario())

    def test_Cleanup(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "test")
                now = run.client.now_ms("event:{test}")
                await run.read("XADD", "stream:event:{test}", f"{now - 600_000}-0", "user_id", "user-old")
                joined = await run.room.join("test", "user-new")
                assert await run.room.cleanup("test", 300) == 1  # the one of ten minutes ago, and only that
                entries = await run.read("XRANGE", "stream:event:{test}", "-", "+")
                assert [entry[0].decode() for entry in entries] == [joined.stream_id]
                assert (await run.room.status(joined.ticket)).position == 1
                await asyncio.sleep(0.005)
                assert await run.room.cleanup("test", 0.001) == 1
                assert (await run.room.status(joined.ticket)).state == "aged"
                assert await run.read("XLEN", "stream:event:{test}") == 0

        asyncio.run(scenario())

    def test_GlobalPosition(self, target: Target) -> None:
        async def scenario() -> None:
            async with executor(target) as run:
                await opened(run.room, "test", rate_per_s=0)
                joined = [await run.room.join("test", f"user-{n}") for n in range(5)]
                assert [one.position for one in joined] == [1, 2, 3, 4, 5]
                assert (await run.room.status(joined[4].ticket)).position == 5
                await run.room.leave(joined[1].ticket)  # whoever is behind moves up
                places = await run.room.places("test", [one.ticket for one in joined])
                assert [one.position for one in places if one] == [1, 0, 2, 3, 4]

        asyncio.run(scenario())
