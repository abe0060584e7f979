"""Writes that count once replicas have them: what is answered survives the primary, and only those calls wait."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator

import pytest

from batched_load import SLACK_S, Load, started
from support import eventually
from understudy import lab
from understudy.errors import NotAuthorisedError, UnreachableError, UsageError
from understudy.lab import Lab
from understudy.valkey.batched import BatchedClient, UnacknowledgedError
from understudy.valkey.batched.commit import beside
from understudy.valkey.discovery import discover
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Mode, Target

NOWHERE = Target((Address("127.0.0.1", 1),), Mode.STANDALONE)


@pytest.fixture(scope="module")
def replicated() -> Iterator[Lab]:
    with lab.standalone(replicas=2) as running:
        yield running


@pytest.fixture
def paused(replicated: Lab) -> Iterator[Lab]:
    """One primary that goes on alone."""
    replicas = replicated.nodes[1:]
    for node in replicas:
        replicated.pause(node)
    eventually(lambda: all(node.state == "paused" for node in replicas))
    yield replicated
    for node in replicas:
        if node.state == "paused":
            replicated.resume(node)


async def put(client: BatchedClient, key: str, value: int, replicas: int = 1, within_s: float = 10.0) -> bytes:
    reply: bytes = await client.execute(("SET", key, value), key, within_s=within_s, acknowledged_by=replicas)
    return reply


def test_what_is_answered_is_on_every_replica_that_was_asked_for(replicated: Lab) -> None:
    async def scene() -> None:
        async with started(replicated.target()) as client:
            replies = await asyncio.gather(*(put(client, f"ack:{n}", n, 2) for n in range(2000)))
            assert set(replies) == {b"OK"}
            for node in replicated.nodes[1:]:
                assert replicated.call(node, "GET", "ack:1999") == "1999"
            assert await client.execute(("KEYS", "*:acknowledged"), None, within_s=10) == []

    asyncio.run(scene())


def test_errors_of_calls_in_one_batch_are_their_own(replicated: Lab) -> None:
    async def scene() -> None:
        async with started(replicated.target(), ack_connections=1) as client:
            await put(client, "text", 1)
            wrong = [client.execute(("ZADD", "text", 1, n), "text", within_s=10, acknowledged_by=1) for n in range(100)]
            right = [put(client, f"right:{n}", n) for n in range(100)]
            mixed = [call for pair in zip(wrong, right, strict=True) for call in pair]
            replies = await asyncio.gather(*mixed, return_exceptions=True)
            assert all("WRONGTYPE" in str(reply) for reply in replies[::2])
            assert set(replies[1::2]) == {b"OK"}

    asyncio.run(scene())


def test_without_replicas_it_is_said_how_many_acknowledged_and_nobody_else_waits(paused: Lab) -> None:
    async def scene() -> None:
        async with started(paused.target()) as client:
            await client.execute(("SET", "a", 1), "a", within_s=10)
            begun_s = time.monotonic()
            stuck = [asyncio.create_task(put(client, f"stuck:{n}", n, within_s=3.0)) for n in range(500)]
            late = []
            reads = 0
            while not stuck[0].done():
                late.append(asyncio.create_task(put(client, "late", 1, within_s=0.2)))
                assert await client.execute(("GET", "a"), "a", within_s=1.0) == b"1"
                assert await client.execute(("SET", "b", 1), "b", within_s=1.0) == b"OK"
                reads += 1
                await asyncio.sleep(0.01)
            assert reads > 20
            for error in await asyncio.gather(*stuck, *late, return_exceptions=True):
                assert isinstance(error, UnacknowledgedError)
                assert "0 of 1 replicas acknowledged" in error.why
                assert error.retryable
            assert time.monotonic() - begun_s < 3.0 + SLACK_S

            waiting = asyncio.create_task(put(client, "again", 1, within_s=20.0))
            await asyncio.sleep(0.1)
            paused.resume(paused.nodes[1])
            assert await waiting == b"OK"
            with pytest.raises(UnacknowledgedError, match="1 of 2 replicas"):
                await put(client, "again", 2, replicas=2, within_s=1.5)

    asyncio.run(scene())


def test_a_write_that_finds_its_work_done_is_not_acknowledged_by_replicas_that_have_not_got_it(paused: Lab) -> None:
    """WAIT alone would say so: it counts what its own connection wrote, and this one wrote nothing."""

    async def scene() -> None:
        async with started(paused.target()) as client:
            await client.execute(("SET", "done", 1), "done", within_s=10)
        async with started(paused.target()) as client:
            with pytest.raises(UnacknowledgedError):
                await client.execute(("SETNX", "done", 1), "done", within_s=1.0, acknowledged_by=1)

    asyncio.run(scene())


def test_nothing_that_was_acknowledged_is_lost_with_the_primary() -> None:
    with lab.sentinel() as place:

        async def scene() -> None:
            async with started(place.target()) as client:
                async with Load(client, within_s=20.0, acknowledged_by=1).running() as load:
                    primary = discover(place.target()).shards[0].primary
                    assert primary is not None
                    await asyncio.to_thread(place.kill, str(primary.address.port))
                    await load.progress()
                assert load.errors == []
                await load.check_nothing_is_lost()

        asyncio.run(scene())


def test_in_a_cluster_each_shard_acknowledges_its_own_also_while_it_fails_over() -> None:
    with lab.cluster() as place:

        async def scene() -> None:
            async with started(place.target()) as client:
                async with Load(client, within_s=20.0, acknowledged_by=1).running() as load:
                    before = load.answered
                    await asyncio.to_thread(place.pause, "node-4")  # a replica: its shard's writes wait, no other
                    async with asyncio.timeout(10):
                        while load.answered < before + 100:
                            await asyncio.sleep(0.01)
                    place.resume("node-4")
                    await load.progress()
                    await asyncio.to_thread(place.call, "node-4", "CLUSTER", "FAILOVER")
                    await load.progress()
                assert load.errors == []
                await load.check_nothing_is_lost()

        asyncio.run(scene())


def test_a_proxy_is_not_asked_for_acknowledgements() -> None:
    async def scene() -> None:
        async with started(NOWHERE.with_mode(Mode.ENTERPRISE)) as client:
            with pytest.raises(UsageError, match="no WAIT"):
                await put(client, "a", 1)
        async with started(NOWHERE) as client:
            with pytest.raises(UsageError, match="no key"):
                await client.execute(("SET", "a", 1), None, within_s=10, acknowledged_by=1)
            with pytest.raises(UnreachableError) as error:
                await put(client, "a", 1, within_s=0.2)
            assert not isinstance(error.value, UnacknowledgedError)

    asyncio.run(scene())


@pytest.mark.parametrize("key", [b"plain", b"{tag}:x", b"x{tag}", b"a{b", b"{}", b"", b"}{", b"{a}{b}"])
def test_the_mark_of_a_batch_is_in_the_slot_of_its_key(key: bytes) -> None:
    assert key_slot(beside(key)) == key_slot(key)
    assert beside(key) != key


def test_a_user_who_may_not_write_beside_the_key_is_told(replicated: Lab) -> None:
    replicated.call("node-1", "ACL", "SETUSER", "narrow", "on", ">secret", "+@all", "~only")
    target = dataclasses.replace(replicated.target(), username="narrow", password="secret")

    async def scene() -> None:
        async with started(target) as client:
            assert await client.execute(("SET", "only", 1), "only", within_s=10) == b"OK"
            with pytest.raises(NotAuthorisedError, match="NOPERM"):
                await put(client, "only", 2)

    asyncio.run(scene())
