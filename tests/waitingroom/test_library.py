"""How the code gets to the servers: functions, their versions, and scripts where functions are refused."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rooms import came_in, clocked, code_of, gateways, opened
from understudy.errors import NotAuthorisedError
from understudy.lab import Lab, LabNode
from understudy.valkey.discovery import discover
from understudy.waitingroom import keys
from understudy.waitingroom.library import LIBRARIES, READS, Library, library, texts
from understudy.waitingroom.room import Room

DAY_MS = 24 * 3600 * 1000


def libraries(running: Lab, node: str | LabNode = "node-1") -> list[str]:
    return sorted(row[row.index("library_name") + 1] for row in running.call(node, "FUNCTION", "LIST"))


def calls(running: Lab, command: str) -> int:
    rows = str(running.call("node-1", "INFO", "commandstats")).splitlines()
    found = [row for row in rows if row.startswith(f"cmdstat_{command}:")]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


async def works(room: Room, event: str) -> None:
    """Everything that is there, once."""
    await opened(room, event, ["A"])
    one = await came_in(room, event)
    await room.hold(event, one.token_id, ["A"])
    assert (await room.tick(event)).counts.held == 1
    await room.act(event, "close")
    await room.delete(event)


@asynccontextmanager
async def as_user(running: Lab, *rules: str) -> AsyncIterator[Room]:
    """A gateway that may do everything but what the rules take away."""
    running.call("node-1", "ACL", "SETUSER", "gateway", "reset", "on", ">secret", "~*", "&*", "+@all", *rules)
    target = dataclasses.replace(running.target(), username="gateway", password="secret")
    try:
        async with gateways(target) as (room,):
            yield room
    finally:
        running.call("node-1", "ACL", "DELUSER", "gateway")


def test_functions_that_were_flushed_are_loaded_again(valkey_standalone: Lab) -> None:
    async def whole() -> None:
        async with gateways(valkey_standalone.target()) as (room,):
            await works(room, "sale")
            valkey_standalone.call("node-1", "FUNCTION", "FLUSH")
            await asyncio.gather(*(works(room, f"sale-{n}") for n in range(20)))

    asyncio.run(whole())
    assert libraries(valkey_standalone) == [library().name]


def test_gateways_that_load_at_once_do_not_disturb_each_other(valkey_standalone: Lab) -> None:
    async def whole() -> None:
        async with gateways(valkey_standalone.target(), 6) as rooms:
            await asyncio.gather(*(works(room, f"sale-{n}") for n, room in enumerate(rooms)))

    asyncio.run(whole())
    assert libraries(valkey_standalone) == [library().name]


def test_a_gateway_of_another_version_works_beside_this_one(valkey_standalone: Lab) -> None:
    other = Library({**texts(), "tick": texts()["tick"] + "-- a later version\n"})

    async def whole() -> None:
        target = valkey_standalone.target()
        async with gateways(target) as (new,), gateways(target, code=other) as (old,):
            await opened(new, "sale", ["A"])
            one = await came_in(old, "sale")
            await new.hold("sale", one.token_id, ["A"])
            assert (await old.tick("sale")).counts.held == 1

    asyncio.run(whole())
    assert libraries(valkey_standalone) == sorted([library().name, other.name])


def test_a_version_is_deleted_when_nobody_has_used_it_for_a_day(valkey_standalone: Lab) -> None:
    old = Library({**texts(), "tick": texts()["tick"] + "-- a version before\n"})
    theirs = "#!lua name=somebody_elses\nredis.register_function('theirs', function() end)"
    valkey_standalone.call("node-1", "FUNCTION", "LOAD", theirs)

    async def whole() -> None:
        async with (
            gateways(valkey_standalone.target()) as (new,),
            gateways(valkey_standalone.target(), code=old) as (before,),
        ):
            await works(before, "sale")
            assert await new.forget_unused_code() == []  # it was never seen before
            for age, gone in ((DAY_MS - 60_000, []), (DAY_MS + 60_000, [old.name])):
                stamp = new.client.now_ms(keys.LIBRARIES) - age
                await new.client.execute(("ZADD", keys.LIBRARIES, stamp, old.name), keys.LIBRARIES, within_s=5)
                assert await new.forget_unused_code() == gone
            await works(before, "sale")  # it was used after all: it comes back
            assert await before.forget_unused_code() == []
            assert await new.forget_unused_code() == []

    asyncio.run(whole())
    assert libraries(valkey_standalone) == sorted([library().name, old.name, "somebody_elses"])


@pytest.mark.parametrize("rules", [("-fcall",), ("-function",), ("-fcall", "-function", "-script")])
def test_where_functions_are_not_allowed_scripts_are_used(rules: tuple[str, ...], valkey_standalone: Lab) -> None:
    async def whole() -> None:
        async with as_user(valkey_standalone, *rules) as room:
            await works(room, "sale")
            before = calls(valkey_standalone, "evalsha")
            valkey_standalone.call("node-1", "SCRIPT", "FLUSH")
            await works(room, "sale")
            assert calls(valkey_standalone, "evalsha") > before
            assert await room.forget_unused_code() == []

    asyncio.run(whole())


def test_what_a_user_may_not_touch_is_said_as_it_is(valkey_standalone: Lab) -> None:
    async def whole() -> None:
        async with as_user(valkey_standalone, "resetkeys", "~other:*") as room:
            with pytest.raises(NotAuthorisedError, match="NOPERM"):
                await room.tick("sale")

    asyncio.run(whole())


def test_every_primary_has_the_functions_also_one_that_came_without(valkey_cluster: Lab) -> None:
    primaries = [shard.primary for shard in discover(valkey_cluster.target()).shards]
    nodes = [str(one.address.port) for one in primaries if one]
    events = [f"sale-{n}" for n in range(12)]  # on all three

    async def whole() -> None:
        async with gateways(valkey_cluster.target()) as (room,):
            await asyncio.gather(*(works(room, event) for event in events))
            assert [libraries(valkey_cluster, node) for node in nodes] == [[library().name]] * 3
            valkey_cluster.call(nodes[1], "FUNCTION", "FLUSH")
            await asyncio.gather(*(works(room, event) for event in events))
            valkey_cluster.call(nodes[2], "FUNCTION", "FLUSH")
            await room.forget_unused_code()
            assert [libraries(valkey_cluster, node) for node in nodes] == [[library().name]] * 3

    asyncio.run(whole())


def test_a_new_primary_goes_on_where_the_old_one_was(valkey_sentinel: Lab) -> None:
    async def whole() -> None:
        async with gateways(valkey_sentinel.target(), replicas=1) as (room,):
            await opened(room, "sale", ["A"], rate_per_s=0.001, burst=1)
            one = await came_in(room, "sale")
            line = [await room.join("sale") for _ in range(5)]
            await room.hold("sale", one.token_id, ["A"])
            primary = discover(valkey_sentinel.target()).shards[0].primary
            assert primary
            valkey_sentinel.kill(str(primary.address.port))
            assert (await room.confirm("sale", one.token_id, ["A"])).remaining == 0
            places = await room.places("sale", [ticket.ticket for ticket in line])
            assert [place.position for place in places if place] == [1, 2, 3, 4, 5]
            stands = (await room.tick("sale")).counts
            assert (stands.sold, stands.inside, stands.called) == (1, 1, 1)

    asyncio.run(whole())


def test_reads_write_nothing_and_every_operation_is_there(valkey_standalone: Lab) -> None:
    valkey_standalone.call("node-1", "FUNCTION", "LOAD", library().source)
    (row,) = valkey_standalone.call("node-1", "FUNCTION", "LIST")
    facts: dict[str, Any] = dict(zip(row[::2], row[1::2], strict=True))
    functions = [dict(zip(one[::2], one[1::2], strict=True)) for one in facts["functions"]]
    flags = {one["name"]: one["flags"] for one in functions}
    assert set(flags) == set(library().functions.values())
    assert {name for name, ones in flags.items() if "no-writes" in ones} == {
        library().functions[name] for name in READS
    }


def test_a_name_says_which_code_it_is() -> None:
    assert library().name.startswith(LIBRARIES.rstrip("*"))
    assert clocked("sale").name != library().name
    assert Library(texts()).name == library().name


def test_an_operation_on_nothing_is_refused(valkey_standalone: Lab) -> None:
    async def whole() -> None:
        async with gateways(valkey_standalone.target()) as (room,):
            ticket = f"none.{'x' * 22}"
            for operation, code in (
                (room.join("none"), "NO_EVENT"), (room.status(ticket), "NO_EVENT"),
                (room.heartbeat(ticket), "NO_EVENT"), (room.enter(ticket), "NO_EVENT"),
                (room.leave(ticket), "NO_TICKET"), (room.seats("none"), "NO_EVENT"),
                (room.hold("none", "me", ["A"]), "NO_EVENT"), (room.release("none", "me", ["A"]), "NO_EVENT"),
                (room.confirm("none", "me", ["A"]), "NO_EVENT"), (room.event("none"), "NO_EVENT"),
                (room.tick("none"), "NO_EVENT"), (room.act("none", "open"), "NO_EVENT"),
                (room.configure("none", {"burst": 1}), "NO_EVENT"), (room.dequeue("none", "w"), "NO_EVENT"),
                (room.ack("none", "w", ["1-1"]), "NO_EVENT"), (room.cleanup("none", 1), "NO_EVENT"),
                (room.delete("none"), "NO_EVENT"), (room.status("nonsense"), "NO_TICKET"),
            ):  # fmt: skip
                assert await code_of(operation) == code, operation
            assert await room.client.execute(("DBSIZE",), None, within_s=5) == 0

    asyncio.run(whole())
