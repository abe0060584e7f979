"""Many people, several gateways, and what goes wrong: the operations over real connections to one server."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from rooms import came_in, code_of, gateways, opened
from understudy.errors import ServerSaidError, UnreachableError
from understudy.lab import Lab
from understudy.valkey.target import Mode
from understudy.waitingroom import keys
from understudy.waitingroom.room import SLICE, Room
from understudy.waitingroom.values import EventSettings, Joined, RefusalError

Scenario = Callable[..., Coroutine[Any, Any, None]]


@pytest.fixture
def play(valkey_standalone: Lab) -> Callable[..., None]:
    """Runs a scenario with so many gateways to one server."""

    def run(scenario: Scenario, gateways_: int = 1) -> None:
        async def whole() -> None:
            async with gateways(valkey_standalone.target(), gateways_) as rooms:
                await scenario(*rooms)

        asyncio.run(whole())

    return run


async def eventually(holds: Callable[[], Awaitable[Any]], within_s: float = 10.0) -> Any:
    end = time.monotonic() + within_s
    while not (found := await holds()):
        assert time.monotonic() < end, f"not within {within_s} s"
        await asyncio.sleep(0.01)
    return found


async def joined_by(room: Room, event: str, count: int) -> list[Joined]:
    return list(await asyncio.gather(*(room.join(event) for _ in range(count))))


async def positions(room: Room, event: str, tickets: list[Joined]) -> list[int]:
    return [one.position for one in await room.places(event, [one.ticket for one in tickets]) if one]


def test_a_hundred_holds_of_one_seat_have_one_winner(play: Callable[..., None]) -> None:
    async def scenario(*rooms: Room) -> None:
        await opened(rooms[0], "sale", ["A", "B"])
        people = await asyncio.gather(*(came_in(rooms[0], "sale") for _ in range(100)))
        codes = await asyncio.gather(
            *(code_of(rooms[n % 4].hold("sale", one.token_id, ["A"])) for n, one in enumerate(people))
        )
        assert Counter(codes) == {"": 1, "SEAT_UNAVAILABLE": 99}
        stands = (await rooms[0].event("sale")).counts
        assert (stands.held, stands.remaining) == (1, 1)

    play(scenario, 4)


def test_two_hundred_buyers_of_pairs_buy_fifty_seats_at_most(play: Callable[..., None]) -> None:
    async def scenario(*rooms: Room) -> None:
        seats = [f"S{n}" for n in range(50)]
        await opened(rooms[0], "sale", seats)
        people = await asyncio.gather(*(came_in(rooms[0], "sale") for _ in range(200)))
        chance = random.Random(4)
        bought: list[str] = []

        async def buy(room: Room, holder: str, wanted: list[list[str]]) -> None:
            for pair in wanted:
                if await code_of(room.hold("sale", holder, pair)):
                    continue
                if pair[0] < "S3":  # some think better of it
                    await room.release("sale", holder, pair)
                    continue
                await room.confirm("sale", holder, pair)
                bought.extend(pair)
                return

        plans = [[chance.sample(seats, 2) for _ in range(20)] for _ in people]
        plans = [[sorted(pair) for pair in plan] for plan in plans]
        await asyncio.gather(
            *(buy(rooms[n % 4], one.token_id, plan) for n, (one, plan) in enumerate(zip(people, plans, strict=True)))
        )
        sold = await rooms[1].seats("sale")
        assert len(bought) == len(set(bought)) > 20
        assert {name for name, state in sold.seats.items() if state == "SOLD"} == set(bought)
        assert sold.remaining == 50 - len(bought) == sum(state == "AVAILABLE" for state in sold.seats.values())
        assert (await rooms[2].event("sale")).counts.sold == len(bought)

    play(scenario, 4)


def test_a_hold_that_is_over_comes_back_with_the_next_tick_or_hold(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        assert await room.client.execute(("CONFIG", "GET", "notify-keyspace-events"), None, within_s=5) == [
            b"notify-keyspace-events",
            b"",
        ]
        await opened(room, "sale", ["A", "B"], hold_ttl_s=0.1)
        ann, bob = [(await came_in(room, "sale")).token_id for _ in range(2)]
        held = await room.hold("sale", ann, ["A", "B"])
        assert (await room.tick("sale")).counts.remaining == 0 or room.client.now_ms("event:{sale}") >= held.expires_ms
        await eventually(lambda: _remaining(room, 2))
        assert await code_of(room.confirm("sale", ann, ["A"])) == "NOT_HOLDER"
        await room.hold("sale", ann, ["A", "B"])
        await asyncio.sleep(0.12)  # the hold's own time
        assert (await room.hold("sale", bob, ["B"])).remaining == 1
        assert await code_of(room.release("sale", ann, ["A"])) == "NOT_HOLDER"

    play(scenario)


async def _remaining(room: Room, count: int) -> bool:
    return (await room.tick("sale")).counts.remaining == count


def test_fifty_clicks_enter_once(play: Callable[..., None]) -> None:
    async def scenario(*rooms: Room) -> None:
        await opened(rooms[0], "sale")
        ticket = (await rooms[0].join("sale")).ticket
        entries = await asyncio.gather(*(rooms[n % 3].enter(ticket) for n in range(50)))
        assert len(set(entries)) == 1
        assert (await rooms[0].event("sale")).counts.entered == 1

    play(scenario, 3)


def test_the_front_of_the_line_does_not_go_around_the_rate(play: Callable[..., None]) -> None:
    async def scenario(*rooms: Room) -> None:
        await opened(rooms[0], "sale", rate_per_s=0.001, burst=2)
        line = [await rooms[n % 2].join("sale") for n in range(12)]
        codes = await asyncio.gather(*(code_of(rooms[n % 2].enter(one.ticket)) for n, one in enumerate(line)))
        assert codes == [""] * 2 + ["NOT_ADMITTED"] * 10
        for room in rooms:
            assert (await room.tick("sale")).counts.called == 2

    play(scenario, 2)


def test_those_behind_move_up_when_somebody_enters_leaves_or_times_out(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", rate_per_s=0, abandon_after_s=0)
        line = [await room.join("sale", f"u{n}") for n in range(6)]
        assert await positions(room, "sale", line) == [1, 2, 3, 4, 5, 6]
        await room.leave(line[2].ticket)
        assert await positions(room, "sale", line) == [1, 2, 0, 3, 4, 5]
        await room.configure("sale", {"rate_per_s": 0.001, "burst": 1, "entry_ttl_s": 0.05})
        assert (await room.tick("sale")).counts.admitted == 1
        assert await positions(room, "sale", line) == [0, 1, 0, 2, 3, 4]
        await eventually(lambda: _expired(room))
        await room.configure("sale", {"abandon_after_s": 1})

        async def abandoned() -> bool:
            await room.heartbeats("sale", [line[n].ticket for n in (1, 3, 5)])
            return (await room.tick("sale")).counts.abandoned == 1

        await eventually(abandoned)
        assert await positions(room, "sale", line) == [0, 1, 0, 2, 0, 3]
        (await room.dequeue("sale", "w"))[0]
        assert await positions(room, "sale", line) == [0, 0, 0, 1, 0, 2]
        states = [one.state for one in await room.places("sale", [one.ticket for one in line]) if one]
        assert states == ["expired", "serving", "left", "waiting", "abandoned", "waiting"]

    play(scenario)


async def _expired(room: Room) -> bool:
    return (await room.tick("sale")).counts.expired == 1


def test_the_order_is_strict_within_a_millisecond(play: Callable[..., None]) -> None:
    async def scenario(*rooms: Room) -> None:
        await opened(rooms[0], "sale", burst=0, rate_per_s=100)
        joined = await asyncio.gather(*(rooms[n % 3].join("sale") for n in range(600)))
        line = sorted(joined, key=lambda one: one.position)
        assert [one.position for one in line] == list(range(1, 601))
        ids = [tuple(map(int, one.stream_id.split("-"))) for one in line]
        assert ids == sorted(set(ids))
        assert len({ms for ms, _ in ids}) < 600  # some came in one millisecond
        for number in range(3):
            called = (await rooms[number].tick("sale")).counts.called
            places = [one for at in range(0, 600, 200) for one in await _places(rooms[0], line[at : at + 200])]
            assert [place.position for place in places] == [0] * called + list(range(1, 601 - called))

    play(scenario, 3)


async def _places(room: Room, line: list[Joined]) -> list[Any]:
    return await room.places("sale", [one.ticket for one in line])


async def _calls(room: Room) -> Counter[str]:
    text = (await room.client.execute(("INFO", "commandstats"), None, within_s=5)).decode()
    rows = [line.partition(":") for line in text.splitlines() if line.startswith("cmdstat_")]
    calls = {name[8:]: int(facts.split(",")[0][6:]) for name, _, facts in rows}
    return Counter({name: n for name, n in calls.items() if not name.startswith(("info", "ping", "time", "client"))})


def test_what_a_person_does_costs_as_many_commands_in_a_long_line_as_in_a_short_one(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", ["A", "B", "C", "D"], rate_per_s=0.001, burst=2, max_waiting=0)
        for _ in range(2):
            await came_in(room, "sale")
        await room.tick("sale")

        async def cost() -> Counter[str]:
            before = await _calls(room)
            one = await room.join("sale")
            await room.status(one.ticket)
            await room.heartbeat(one.ticket)
            assert await code_of(room.enter(one.ticket)) == "NOT_ADMITTED"
            await room.tick("sale")
            await room.leave(one.ticket)
            return await _calls(room) - before

        short = await cost()
        for _ in range(5):
            await joined_by(room, "sale", 2000)
        assert await cost() == short
        assert sum(short.values()) < 120

    play(scenario)


def test_an_event_of_the_same_name_is_another_event(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        tickets = []
        for _ in range(2):
            await opened(room, "sale", ["A"])
            one = await room.join("sale", "ann", idempotency_key="key", digest="d")
            assert not one.replayed
            assert (await room.join("sale", "ann", idempotency_key="key", digest="d")).ticket == one.ticket
            await room.join("sale", "bob", dedupe_key="once")
            assert await code_of(room.join("sale", "cho", dedupe_key="once")) == "DUPLICATE"
            holder = (await room.enter(one.ticket)).token_id
            await room.hold("sale", holder, ["A"], "key")
            tickets.append(one.ticket)
            await room.act("sale", "close")
            await room.delete("sale")
            assert await room.events() == []
            assert await code_of(room.delete("sale")) == "NO_EVENT"
        assert tickets[0] != tickets[1]
        await opened(room, "sale", ["A"])
        assert await code_of(room.enter(tickets[0])) == "TICKET_GONE"

    play(scenario)


def test_a_key_of_a_join_is_no_key_of_a_hold(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", ["A"])
        ann = (await came_in(room, "sale", "ann")).token_id
        await room.join("sale", "eve", dedupe_key=f"hold:{ann}:key")
        assert (await room.hold("sale", ann, ["A"], "key")).remaining == 0
        replayed = await room.hold("sale", ann, ["A"], "key")
        assert (replayed.remaining, replayed.replayed) == (0, True)
        assert await code_of(room.hold("sale", ann, ["B"], "key")) == "IDEMPOTENCY_CONFLICT"

    play(scenario)


def test_a_deleted_event_leaves_no_keys_but_those_that_expire(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", [f"S{n}" for n in range(1500)], max_inside=SLICE * 2 + 20)
        await joined_by(room, "sale", SLICE * 3)
        stands = await room.tick("sale")
        assert (stands.counts.admitted, stands.counts.waiting) == (SLICE * 2 + 20, SLICE - 20)
        await room.configure("sale", {"max_inside": 0})
        await room.tick("sale")
        people = [await came_in(room, "sale") for _ in range(3)]
        for number, one in enumerate(people):
            await room.hold("sale", one.token_id, [f"S{number}"])
        await room.confirm("sale", people[0].token_id, ["S0"])
        await joined_by(room, "sale", 5)
        await room.dequeue("sale", "w", 2)
        assert await code_of(room.delete("sale")) == "WRONG_STATE"
        await room.act("sale", "close")
        await room.delete("sale")
        left = [name.decode() for name in await room.client.execute(("KEYS", "*"), None, within_s=5)]
        assert {name.partition(":")[0] for name in left} <= {"ticket", "answer"}
        ttls = await asyncio.gather(*(room.client.execute(("PTTL", name), name, within_s=5) for name in left))
        assert min(ttls) > 0
        assert max(ttls) <= 300_000

    play(scenario)


def test_what_two_gateways_make_at_once_is_one_of_both(play: Callable[..., None]) -> None:
    async def scenario(first: Room, second: Room) -> None:
        # the first dies, or sleeps, when it has made the event and half of its seats
        fields, wanted = EventSettings(), [f"S{n}" for n in range(1500)]
        slow = asyncio.create_task(first.create("sale", fields, wanted))
        while not await second.client.execute(("EXISTS", "event:{sale}"), "event:{sale}", within_s=5):
            await asyncio.sleep(0)
        made = await code_of(second.create("sale", fields, ["A", "B"]))
        other = await code_of(_awaited(slow))
        assert sorted([made, other]) == ["", "EVENT_EXISTS"]
        seats = await first.seats("sale")
        stands = await second.event("sale")
        assert (len(seats.seats), stands.state) == (2 if not made else 1500, "created")
        assert stands.counts.seats_total == stands.counts.remaining == seats.remaining == seats.total

    play(scenario, 2)


async def _awaited(task: asyncio.Task[Any]) -> None:
    await task


def test_what_a_dead_gateway_left_half_made_is_made_anew_or_whole(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        class DiedError(Exception): ...

        execute = room.client.execute

        async def dies(command: Any, *args: Any, **kwargs: Any) -> Any:
            if "_seats" in str(command[1]) and command[command.index("event:{sale}") + 4] is not None:
                count[0] += 1
                if count[0] == 2:
                    raise DiedError
            return await execute(command, *args, **kwargs)

        for again in (["A", "B"], [f"S{n}" for n in range(1500)]):
            count = [0]
            room.client.execute = dies  # type: ignore[method-assign]
            with pytest.raises(DiedError):
                await room.create("sale", EventSettings(), [f"S{n}" for n in range(1500)])
            room.client.execute = execute  # type: ignore[method-assign]
            half = await room.event("sale")
            assert (half.state, half.counts.seats_total) == ("creating", 1000)
            assert await code_of(room.join("sale")) == "EVENT_NOT_OPEN"
            assert await code_of(room.act("sale", "open")) == "WRONG_STATE"
            whole = await room.create("sale", EventSettings(rate_per_s=3), again)
            assert (whole.state, whole.counts.seats_total, whole.counts.remaining) == (
                "created",
                len(again),
                len(again),
            )
            await room.act("sale", "close")
            await room.delete("sale")

    play(scenario)


def test_what_is_late_is_not_done(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", ["A"])
        one = await came_in(room, "sale")
        waiting = await room.join("sale")
        told = room.client.now_ms
        late = Room(room.client, deadline_s=0.1)
        room.client.now_ms = lambda key: told(key) - 60_000  # type: ignore[method-assign]
        for operation in (
            late.join("sale"), late.enter(waiting.ticket), late.leave(waiting.ticket), late.dequeue("sale", "w"),
            late.hold("sale", one.token_id, ["A"]), late.act("sale", "close"), late.cleanup("sale", 0),
            late.configure("sale", {"burst": 7}),
        ):  # fmt: skip
            with pytest.raises(UnreachableError):
                await operation
        room.client.now_ms = told  # type: ignore[method-assign]
        stands = await room.event("sale")
        assert (stands.state, stands.settings.burst, stands.counts.waiting) == ("open", 1000, 1)
        assert (stands.counts.joined, stands.counts.held, stands.counts.pending) == (2, 0, 0)

    play(scenario)


@pytest.mark.parametrize("ahead_ms", [-60_000, 60_000])
def test_behind_a_proxy_the_clock_of_a_gateway_may_be_wrong(valkey_standalone: Lab, ahead_ms: int) -> None:
    """A proxy tells no time: that of the server is learnt from its answers."""

    async def whole() -> None:
        target = dataclasses.replace(valkey_standalone.target(), mode=Mode.ENTERPRISE)
        async with gateways(target) as (wrong,):
            told = wrong.client.now_ms
            wrong.client.now_ms = lambda key: told(key) + ahead_ms  # type: ignore[method-assign]
            room = Room(wrong.client, deadline_s=5.0)
            await opened(room, "sale", ["A"])
            one = await came_in(room, "sale")
            held = await room.hold("sale", one.token_id, ["A"])
            assert 110_000 < held.expires_ms - held.now_ms < 121_000
            assert abs(room.now_ms("sale") - (await room.event("sale")).now_ms) < 5000

    asyncio.run(whole())


def test_a_dead_workers_tickets_go_to_another_and_users_stay_in_order(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", tickets_per_user=3)
        line = [await room.join("sale", user) for user in ("ann", "ann", "bob", "ann", "bob")]
        ids = [one.stream_id for one in line]
        assert [one.stream_id for one in await room.dequeue("sale", "dead", 5)] == [ids[0], ids[2]]
        assert await room.dequeue("sale", "alive", 5) == []
        again = await room.dequeue("sale", "alive", 5, visibility_s=0)
        assert [(one.stream_id, one.deliveries) for one in again] == [(ids[0], 2), (ids[2], 2)]
        assert await room.ack("sale", "dead", ids) == 0
        assert await room.ack("sale", "alive", [*ids, "nonsense", "99999999999999999999-1"]) == 2
        assert [one.stream_id for one in await room.dequeue("sale", "alive", 5)] == [ids[1], ids[4]]
        await room.leave(line[1].ticket)  # served just now
        assert [one.stream_id for one in await room.dequeue("sale", "alive", 5)] == [ids[3]]
        stands = (await room.event("sale")).counts
        assert (stands.waiting, stands.pending, stands.stream_length) == (0, 2, 2)
        assert await room.cleanup("sale", 0) == 0  # what a worker has stays

    play(scenario)


def test_entries_of_others_in_the_stream_harm_nobody(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        stream = "stream:event:{sale}"
        await room.client.execute(("XADD", stream, "5-0", "theirs", "1"), stream, within_s=5)
        await opened(room, "sale")
        for at in range(6, 6 + SLICE * 2):
            await room.client.execute(("XADD", stream, f"{at}-0", "a", "b", "c", "d"), stream, within_s=5)
        one = await room.join("sale")
        await room.client.execute(("XADD", stream, "*", "ticket", "none", "user", "none"), stream, within_s=5)
        assert [message.stream_id for message in await room.dequeue("sale", "w", 1)] == []  # ten times one
        assert await room.cleanup("sale", 60) == SLICE * 2 + 1 - 10
        assert [message.stream_id for message in await room.dequeue("sale", "w", 2)] == [one.stream_id]
        assert (await room.event("sale")).counts.stream_length == 1

    play(scenario)


def test_cleanup_goes_through_a_long_line_in_slices(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", rate_per_s=0)
        old = await joined_by(room, "sale", SLICE * 2 + 50)
        new = await room.join("sale")
        ticket = keys.ticket("sale", keys.ticket_id(new.ticket))
        later = room.client.now_ms(ticket) + 3_600_000
        await room.client.execute(("HSET", ticket, "joined", later), ticket, within_s=5)
        await asyncio.sleep(0.005)
        assert await room.cleanup("sale", 0) == len(old)
        assert await positions(room, "sale", [new]) == [1]
        assert await positions(room, "sale", old[:3]) == [0, 0, 0]
        assert (await room.event("sale")).counts.stream_length == 1

    play(scenario)


@pytest.mark.parametrize("mode", [Mode.STANDALONE, Mode.ENTERPRISE], ids=["as functions", "as scripts"])
def test_with_full_memory_nobody_joins_and_everything_else_goes_on(valkey_standalone: Lab, mode: Mode) -> None:
    async def whole() -> None:
        async with gateways(valkey_standalone.target().with_mode(mode)) as (room,):
            await opened(room, "sale", ["A", "B"], rate_per_s=0.001, burst=2)
            line = [await room.join("sale") for _ in range(4)]
            holder = (await room.enter(line[0].ticket)).token_id
            await room.hold("sale", holder, ["A"])
            valkey_standalone.call("node-1", "CONFIG", "SET", "maxmemory", "1mb")
            with pytest.raises(ServerSaidError, match="OOM"):
                await room.join("sale")
            assert (await room.status(line[3].ticket)).position == 2
            assert (await room.release("sale", holder, ["A"])).remaining == 2
            other = (await room.enter(line[1].ticket)).token_id  # was called before
            assert (await room.hold("sale", other, ["B"])).remaining == 1
            assert (await room.confirm("sale", other, ["B"])).remaining == 1
            assert await room.leave(line[3].ticket) == "left"
            assert (await room.tick("sale")).counts.waiting == 1
            assert (await room.act("sale", "pause")).state == "paused"

    try:
        asyncio.run(whole())
    finally:
        valkey_standalone.call("node-1", "CONFIG", "SET", "maxmemory", "0")


def test_who_is_called_during_an_outage_has_the_whole_time_again(play: Callable[..., None]) -> None:
    """The clock is not ours here: what stands in the event says that nobody ticked for a while."""

    async def scenario(room: Room) -> None:
        event = "event:{sale}"
        await opened(room, "sale", rate_per_s=0.001, burst=1, entry_ttl_s=30, abandon_after_s=30)
        line = [await room.join("sale") for _ in range(3)]
        await room.tick("sale")

        async def an_hour_ago(key: str, *members: str) -> None:
            past = room.client.now_ms(event) - 3_600_000
            for member in members:
                await room.client.execute(("ZADD", key, past, member), key, within_s=5)

        ids = [keys.ticket_id(one.ticket) for one in line]
        await an_hour_ago("seen:{sale}", *ids[1:])
        await an_hour_ago("admitted:{sale}", ids[0])
        past = room.client.now_ms(event) - 3_600_000
        await room.client.execute(("HSET", event, "ticked", past, "awake", past), event, within_s=5)
        await room.client.execute(("HSET", f"ticket:{{sale}}:{ids[0]}", "enter_by", past), event, within_s=5)
        assert 29_000 < (await room.status(line[0].ticket)).enter_within_ms <= 30_000
        stands = await room.tick("sale")
        assert (stands.counts.expired, stands.counts.abandoned, stands.counts.waiting) == (0, 0, 2)
        assert (await room.enter(line[0].ticket)).token_id == ids[0]

    play(scenario)


def test_refusals_say_what_is_in_the_way(play: Callable[..., None]) -> None:
    async def scenario(room: Room) -> None:
        await opened(room, "sale", ["A", "B", "C"], seats_per_ticket=2)
        ann = (await came_in(room, "sale")).token_id
        with pytest.raises(RefusalError) as refusal:
            await room.hold("sale", ann, ["A", "B", "C"])
        assert (refusal.value.code, refusal.value.data) == ("TOO_MANY_SEATS", ("2",))
        await room.hold("sale", ann, ["A"])
        with pytest.raises(RefusalError) as refusal:
            await room.hold("sale", ann, ["A", "X", "Y"])
        assert (refusal.value.code, refusal.value.data) == ("NO_SEAT", ("X", "Y"))

    play(scenario)
