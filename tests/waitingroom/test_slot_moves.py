"""An event's slot moves to another primary, key by key, while people use it: nothing is lost, nothing half-done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from rooms import came_in, code_of, gateways, opened
from understudy import lab
from understudy.errors import ServerSaidError, UnreachableError
from understudy.lab import Lab
from understudy.lab.reshard import move_slot
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.topology import Node
from understudy.valkey.wire import Wire
from understudy.waitingroom import keys
from understudy.waitingroom.library import Library, library, texts
from understudy.waitingroom.room import Room

SLOT = key_slot(b"event:{sale}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """A cluster of this module's own: its slots do not stay where they were."""
    with lab.cluster(replicas=0) as running:
        yield running


@pytest.fixture
def router(cluster: Lab) -> Iterator[Router]:
    """Connections to its nodes, which are empty of keys; a move that broke off is given up."""
    cluster.flush()
    for node in cluster.nodes:
        cluster.call(node, "CLUSTER", "SETSLOT", SLOT, "STABLE")
    with Router(cluster.target()) as router:
        yield router


class Move:
    """A move of the slot by hand, some keys at a time."""

    def __init__(self, router: Router) -> None:
        shards = router.topology.shards
        source = router.topology.by_slot()[SLOT].primary
        assert source
        self.source: Node = source
        self.goal: Node = next(shard.primary for shard in shards if shard.primary and shard.primary != source)
        self.here: Wire = router.wire(self.source.address)
        self.there: Wire = router.wire(self.goal.address)
        self.router = router
        self.there.call("CLUSTER", "SETSLOT", SLOT, "IMPORTING", self.source.node_id)
        self.here.call("CLUSTER", "SETSLOT", SLOT, "MIGRATING", self.goal.node_id)

    def keys(self, *names: str) -> None:
        self.here.call("MIGRATE", *self.goal.address, "", 0, 5000, "KEYS", *names)

    def finish(self) -> None:
        if names := self.here.call("CLUSTER", "GETKEYSINSLOT", SLOT, 10_000):
            self.keys(*names)
        for node in (self.goal, self.source):
            self.router.wire(node.address).call("CLUSTER", "SETSLOT", SLOT, "NODE", self.goal.node_id)

    def contents(self) -> dict[bytes, Any]:
        """Every key of the slot, wherever it is, with its value."""
        found = {}
        for wire in (self.here, self.there):
            for name in wire.call("CLUSTER", "GETKEYSINSLOT", SLOT, 10_000):
                found[name] = wire.pipeline([("ASKING",), ("DUMP", name)])[1]
        return found


def test_while_a_slot_moves_nothing_is_done_by_half(cluster: Lab, router: Router) -> None:
    play_half_moved(cluster, router, library())


@pytest.mark.soak
def test_without_a_look_at_the_slot_it_would_be(cluster: Lab, router: Router) -> None:
    code = texts()
    old = "type(redis.pcall('EXISTS', event .. ':here', event .. ':there')) ~= 'number'"
    assert old in code["shared"]
    with pytest.raises((AssertionError, ServerSaidError)):
        play_half_moved(cluster, router, Library({**code, "shared": code["shared"].replace(old, "false")}))


def play_half_moved(cluster: Lab, router: Router, code: Library) -> None:
    async def whole() -> None:
        async with gateways(cluster.target(), code=code) as (room,):
            await opened(room, "sale", ["A", "B", "C"], rate_per_s=0.001, burst=9, tickets_per_user=2)
            people = [await came_in(room, "sale") for _ in range(3)]
            await room.hold("sale", people[0].token_id, ["A"])
            await room.configure("sale", {"max_inside": 4})
            line = [await room.join("sale", "ann" if n < 2 else "") for n in range(4)]
            ids = [keys.ticket_id(one.ticket) for one in line]
            await room.tick("sale")  # one is called: each of the event's keys is there
            assert await _states(room, line) == ["admitted", "waiting", "waiting", "waiting"]
            await room.configure("sale", {"max_inside": 0})

            hasty = Room(room.client, deadline_s=0.4, code=code)
            move = Move(router)
            stages: list[list[str]] = [
                [],
                [keys.ticket("sale", ids[1])],  # somebody else's, which no operation declares
                [*keys.room("sale"), *(keys.ticket("sale", one) for one in (ids[0], ids[2])), keys.user("sale", "ann")],
            ]
            for names in stages:
                if names:
                    move.keys(*names)
                before = move.contents()
                operations = [
                    hasty.tick("sale"), hasty.enter(line[2].ticket), hasty.leave(line[0].ticket),
                    hasty.hold("sale", people[1].token_id, ["B"]), hasty.release("sale", people[0].token_id, ["A"]),
                    hasty.dequeue("sale", "w"), hasty.cleanup("sale", 0), hasty.join("sale"), hasty.delete("sale"),
                ]  # fmt: skip
                refused = await asyncio.gather(*operations, return_exceptions=True)
                assert [type(one) for one in refused] == [UnreachableError] * len(operations)
                assert move.contents() == before
            move.finish()
            assert await _states(room, line) == ["admitted", "waiting", "waiting", "waiting"]
            await room.tick("sale")
            assert await _states(room, line) == ["admitted"] * 4
            assert (await room.release("sale", people[0].token_id, ["A"])).remaining == 3
            assert await code_of(room.enter(line[1].ticket)) == ""

    asyncio.run(whole())


async def _states(room: Room, line: list[Any]) -> list[str]:
    return [place.state for place in await room.places("sale", [one.ticket for one in line]) if place]


def test_a_sale_goes_on_while_its_slot_moves_to_and_fro(cluster: Lab, router: Router) -> None:
    async def whole() -> None:
        async with gateways(cluster.target(), 3) as rooms:
            seats = [f"S{n}" for n in range(60)]
            await opened(rooms[0], "sale", seats, rate_per_s=400, burst=20, hold_ttl_s=60)
            over = asyncio.Event()
            bought: dict[str, str] = {}
            tickets: list[str] = []

            async def person(number: int) -> None:
                room = rooms[number % 3]
                ticket = (await room.join("sale", f"u{number}")).ticket
                tickets.append(ticket)
                if number % 5 == 4:
                    await room.leave(ticket)
                    return
                while await code_of(room.enter(ticket)):
                    await asyncio.sleep(0.01)
                holder = keys.ticket_id(ticket)
                for at in range(number, number + 8):
                    seat = seats[at * 7 % 60]
                    if not await code_of(room.hold("sale", holder, [seat])):
                        await room.confirm("sale", holder, [seat])
                        assert bought.setdefault(seat, holder) == holder
                        break
                if number % 3 == 0:
                    await room.leave(ticket)

            async def ticks(room: Room) -> None:
                while not over.is_set():
                    await room.tick("sale")
                    await asyncio.sleep(0.02)

            def moves() -> None:
                for step in (1, 3, 25, 1):
                    router.refresh()
                    owner = router.topology.by_slot()[SLOT].primary
                    goal = next(one.primary for one in router.topology.shards if one.primary and one.primary != owner)
                    move_slot(router, SLOT, goal, step)

            ticking = [asyncio.create_task(ticks(room)) for room in rooms[:2]]
            moving = asyncio.create_task(asyncio.to_thread(moves))
            for wave in range(5):
                await asyncio.gather(*(person(n) for n in range(wave * 40, wave * 40 + 40)))
            await moving
            over.set()
            await asyncio.gather(*ticking)

            seen = await rooms[2].seats("sale")
            assert {seat for seat, state in seen.seats.items() if state == "SOLD"} == set(bought)
            assert seen.remaining == 60 - len(bought)
            stands = (await rooms[0].tick("sale")).counts
            assert (stands.joined, stands.entered, stands.left) == (
                200,
                160,
                40 + sum(n % 5 != 4 for n in range(0, 200, 3)),
            )
            assert (stands.waiting, stands.admitted, stands.stream_length) == (0, 0, 0)
            places = [one for at in (0, 100) for one in await rooms[1].places("sale", tickets[at : at + 100])]
            states = [place.state for place in places if place]
            assert len(states) == 200
            assert states.count("inside") == stands.inside
            await rooms[0].act("sale", "close")
            await rooms[0].delete("sale")

    asyncio.run(whole())
