"""Servers die, stop, hand over and move slots in the middle of load: everyone is answered or told so in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from batched_load import Load, started
from support import eventually
from understudy import lab
from understudy.drill.promote import promote, sentinels_promote
from understudy.errors import UnreachableError
from understudy.lab import Lab, LabNode
from understudy.lab.reshard import move_slot
from understudy.valkey.discovery import discover
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode


async def stop(place: Lab, node: LabNode) -> None:
    """SIGSTOP, and wait until it is so: on a busy machine a process goes on for a moment."""
    place.pause(node)
    await asyncio.to_thread(eventually, lambda: place.node(node).state == "paused")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    with lab.cluster() as running:
        yield running


@pytest.fixture
def whole(cluster: Lab) -> Iterator[Lab]:
    """The cluster, with everyone alive before and after."""
    yield cluster
    cluster.heal()


def owner_of(place: Lab, key: str) -> LabNode:
    shard = discover(place.target(Mode.OSS_CLUSTER)).by_slot()[key_slot(key.encode())]
    assert shard.primary is not None
    return place.node(str(shard.primary.address.port))


def primary_of(place: Lab) -> LabNode:
    primary = discover(place.target()).shards[0].primary
    assert primary is not None
    return place.node(str(primary.address.port))


def replica_of(place: Lab, node: LabNode) -> LabNode:
    shards = discover(place.target(Mode.OSS_CLUSTER)).shards
    shard = next(one for one in shards if one.primary and one.primary.address == node.address)
    return place.node(str(shard.replicas[0].address.port))


def test_after_a_primary_of_a_cluster_is_killed_every_caller_ends_in_time_and_all_go_on(whole: Lab) -> None:
    async def scene() -> None:
        async with started(whole.target()) as client:
            async with Load(client, within_s=0.5).running() as load:
                victim = await asyncio.to_thread(owner_of, whole, "load:{0}")
                await asyncio.to_thread(whole.kill, victim)
                await load.progress()
            load.check_deadlines()
            assert load.errors, "half a second is less than a failover takes"
            assert client.reachable

    asyncio.run(scene())


def test_callers_who_can_wait_for_the_failover_see_no_error(whole: Lab) -> None:
    async def scene() -> None:
        async with started(whole.target()) as client:
            async with Load(client, within_s=20.0).running() as load:
                victim = await asyncio.to_thread(owner_of, whole, "load:{0}")
                await asyncio.to_thread(whole.kill, victim)
                await load.progress()
            assert load.errors == []

    asyncio.run(scene())


def test_a_primary_that_is_stopped_is_left_and_gets_nothing_when_it_goes_on(whole: Lab) -> None:
    async def scene() -> None:
        victim = await asyncio.to_thread(owner_of, whole, "load:{0}")
        # only the stopped one is known at first
        async with started(whole.target().at(victim.address)) as client:
            async with Load(client, within_s=0.5).running() as load:
                await stop(whole, victim)
                try:
                    await load.progress()
                    assert client.reachable
                finally:
                    whole.resume(victim)
                await load.progress()
            load.check_deadlines()
            await load.check_nothing_is_lost()  # each was answered again since the failover

    asyncio.run(scene())


def test_a_short_stop_costs_no_error(whole: Lab) -> None:
    async def scene() -> None:
        async with started(whole.target()) as client:
            async with Load(client, within_s=10.0).running() as load:
                victim = await asyncio.to_thread(owner_of, whole, "load:{0}")
                await stop(whole, victim)
                await asyncio.sleep(0.3)  # the fault itself
                whole.resume(victim)
                await load.progress()
            assert load.errors == []
            await load.check_nothing_is_lost()

    asyncio.run(scene())


def test_a_planned_failover_of_a_cluster_costs_no_error_and_no_write(whole: Lab) -> None:
    async def scene() -> None:
        async with started(whole.target()) as client:
            async with Load(client, within_s=10.0).running() as load:
                for _ in range(2):
                    old = await asyncio.to_thread(owner_of, whole, "load:{0}")
                    await asyncio.to_thread(promote, whole, replica_of(whole, old))
                    await load.progress()
            assert load.errors == []
            await load.check_nothing_is_lost()

    asyncio.run(scene())


def test_slots_that_move_under_load_cost_no_error_and_no_write(whole: Lab) -> None:
    async def scene() -> None:
        async with started(whole.target()) as client:
            # some keys are at the goal already while others of their slot are still at home: ASK
            async with Load(client, within_s=10.0, callers=200, names="{{moving}}:{caller}").running() as load:
                for _ in range(3):
                    await asyncio.to_thread(move, whole, key_slot(b"{moving}"))
                    await load.progress()
            assert load.errors == []
            await load.check_nothing_is_lost()

    asyncio.run(scene())


def move(place: Lab, slot: int) -> None:
    with Router(place.target()) as router:
        shards = [shard for shard in router.topology.shards if shard.slots]
        goal = next(shard.primary for shard in shards if slot not in shard.slots)
        assert goal is not None
        assert move_slot(router, slot, goal, keys_a_step=5)


def test_scripts_over_several_keys_of_a_moving_slot_are_tried_again(whole: Lab) -> None:
    """Some of the keys here and some there: TRYAGAIN, until all are there."""
    script = "return redis.call('INCR', KEYS[1]) + redis.call('EXISTS', KEYS[2])"

    async def scene() -> None:
        async with started(whole.target()) as client:
            over = asyncio.Event()

            async def work(number: int) -> None:
                while not over.is_set():
                    keys = (f"{{many}}:{number}", f"{{many}}:{number + 1}")
                    await client.execute(("EVAL", script, 2, *keys), keys[0], within_s=15.0)

            async with asyncio.TaskGroup() as group:
                for number in range(60):
                    group.create_task(work(number))
                await client.execute(("SET", "{many}:60", 1), "{many}", within_s=10)
                await asyncio.to_thread(move, whole, key_slot(b"{many}"))
                over.set()

    asyncio.run(scene())


def test_sentinels_promote_another_while_the_primary_is_stopped_and_it_gets_no_write_when_it_goes_on() -> None:
    with lab.sentinel() as place:

        async def scene() -> None:
            async with started(place.target()) as client:
                async with Load(client, within_s=0.5).running() as load:
                    old = await asyncio.to_thread(primary_of, place)
                    await stop(place, old)
                    await load.progress()
                    load.errors.clear()
                    floor = dict(load.written)
                    place.resume(old)
                    await load.progress()
                    assert load.errors == []
                load.check_deadlines()
                assert all(load.written[key] > number for key, number in floor.items())
                await load.check_nothing_is_lost()
                await asyncio.to_thread(eventually, lambda: primary_of(place).name != old.name)

                async with Load(client, within_s=20.0).running() as load:
                    await asyncio.to_thread(sentinels_promote, place, coordinated=True)
                    await load.progress()
                assert load.errors == []
                await load.check_nothing_is_lost()

                async with Load(client, within_s=20.0).running() as load:
                    await asyncio.to_thread(place.kill, await asyncio.to_thread(primary_of, place))
                    await load.progress()
                assert load.errors == []

        asyncio.run(scene())


def test_behind_a_proxy_one_dead_shard_does_not_hold_up_the_others() -> None:
    with lab.enterprise() as place:

        async def scene() -> None:
            async with started(place.target()) as client:
                async with Load(client, within_s=20.0).running() as load:
                    victim = await asyncio.to_thread(owner_of, place, "load:{0}")
                    await asyncio.to_thread(place.kill, victim)
                    await load.progress()
                assert load.errors == []

                spared = next(
                    key for key in map("{{k{}}}".format, range(100)) if owner_of(place, key) != owner_of(place, "{a}")
                )
                await client.execute(("SET", spared, 1), spared, within_s=10)
                victim = await asyncio.to_thread(owner_of, place, "{a}")
                await stop(place, victim)
                try:
                    stuck = asyncio.create_task(client.execute(("SET", "{a}", 1), "{a}", within_s=0.5))
                    for _ in range(20):
                        assert await client.execute(("GET", spared), spared, within_s=10) == b"1"
                    with pytest.raises(UnreachableError):
                        await stuck
                finally:
                    place.resume(victim)
                assert await client.execute(("SET", "{a}", 1), "{a}", within_s=20) == b"OK"

        asyncio.run(scene())
