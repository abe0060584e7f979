"""Many concurrent callers over few connections: everyone gets the own reply, or an error in time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from batched_load import SLACK_S, started
from support import eventually
from understudy import lab
from understudy.errors import NotAuthorisedError, NotFoundError, ServerSaidError, UnreachableError, UsageError
from understudy.lab import Lab
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Address, Mode, Target

NOWHERE = Target((Address("127.0.0.1", 1),), Mode.STANDALONE)  # a port where nobody listens
LAYOUTS = ("standalone", "sentinel", "cluster", "enterprise")


@pytest.fixture(scope="module", params=LAYOUTS)
def any_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with getattr(lab, request.param)() as running:
        yield running


@pytest.fixture(scope="module")
def single() -> Iterator[Lab]:
    with lab.standalone() as running:
        yield running


def each_gets_its_own(client: BatchedClient, count: int = 3000) -> Awaitable[Any]:
    async def one(number: int) -> None:
        key = f"own:{number}"
        assert await client.execute(("SET", key, number), key, within_s=10) == b"OK"
        assert await client.execute(["GET", key.encode()], key, within_s=10) == b"%d" % number

    return asyncio.gather(*(one(number) for number in range(count)))


def test_each_of_thousands_of_concurrent_callers_gets_its_own_reply_in_every_layout(any_lab: Lab) -> None:
    async def scene() -> None:
        async with started(any_lab.target()) as client:
            await each_gets_its_own(client)
            assert client.mode is any_lab.target().mode
            assert client.reachable
            assert client.reachable_for("own:1")

    asyncio.run(scene())


def test_the_mode_is_found_where_it_is_not_told(any_lab: Lab) -> None:
    async def scene() -> None:
        async with started(any_lab.target().with_mode(Mode.AUTO)) as client:
            assert await client.execute(("SET", "a", 1), "a", within_s=10) == b"OK"
            assert client.mode is any_lab.target().mode

    asyncio.run(scene())


def test_every_primary_is_asked_once_and_its_errors_are_values(any_lab: Lab) -> None:
    primaries = {"standalone": 1, "sentinel": 1, "cluster": 3, "enterprise": 1}[any_lab.layout]

    async def scene() -> None:
        async with started(any_lab.target()) as client:
            loaded = await client.on_primaries(("SCRIPT", "LOAD", "return 7"), within_s=10)
            assert len(loaded) == primaries
            (digest,) = set(loaded.values())
            for number in range(20):
                key = f"script:{number}"
                assert await client.execute(("EVALSHA", digest, 1, key), key, within_s=10) == 7
            refused = await client.on_primaries(("NO-SUCH-COMMAND",), within_s=10)
            assert {type(reply).__name__ for reply in refused.values()} == {"ReplyError"}
            assert await client.execute(("PING",), None, within_s=10) == b"PONG"

    asyncio.run(scene())


def test_the_time_of_the_owner_is_known_without_asking(any_lab: Lab) -> None:
    async def scene() -> None:
        async with started(any_lab.target()) as client:
            await client.execute(("SET", "a", 1), "a", within_s=10)
            assert abs(client.now_ms("a") - time.time() * 1000) < 50  # the servers share this machine's clock

    asyncio.run(scene())


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_both_event_loops_work(single: Lab, kind: str) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if kind == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    async def scene() -> None:
        async with started(single.target()) as client:
            await each_gets_its_own(client, 500)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scene())


def test_error_replies_are_raised_with_their_text(single: Lab) -> None:
    async def scene() -> None:
        async with started(single.target()) as client:
            await client.execute(("SET", "text", "x"), "text", within_s=10)
            with pytest.raises(ServerSaidError, match="NOSCRIPT") as error:
                await client.execute(("EVALSHA", "0" * 40, 1, "a"), "a", within_s=10)
            assert error.value.why.startswith("NOSCRIPT")
            with pytest.raises(ServerSaidError, match="Function not found"):
                await client.execute(("FCALL", "none", 1, "a"), "a", within_s=10)
            with pytest.raises(ServerSaidError, match="WRONGTYPE"):
                await client.execute(("ZADD", "text", 1, "x"), "text", within_s=10)

    asyncio.run(scene())


def test_callers_that_give_up_disturb_nobody_and_what_was_not_sent_is_not_done(single: Lab) -> None:
    async def scene() -> None:
        async with started(single.target()) as client:
            await client.execute(("PING",), None, within_s=10)

            async def one(number: int) -> bytes:
                value: bytes = await client.execute(("ECHO", number), f"k{number}", within_s=10)
                return value

            tasks = [asyncio.create_task(one(number)) for number in range(2000)]
            unsent = asyncio.create_task(client.execute(("SET", "unsent", 1), "unsent", within_s=10))
            impatient = [asyncio.create_task(client.execute(("ECHO", "late"), "k", within_s=-1.0)) for _ in range(100)]
            await asyncio.sleep(0)  # all have asked; the one write comes at the end of this turn
            for task in (*tasks[::3], unsent):
                task.cancel()
            replies = await asyncio.gather(*tasks, unsent, *impatient, return_exceptions=True)
            for number, reply in enumerate(replies[:2000]):
                if number % 3:
                    assert reply == b"%d" % number
                else:
                    assert isinstance(reply, asyncio.CancelledError)
            assert all(isinstance(reply, bytes | UnreachableError) for reply in replies[2001:])
            assert await client.execute(("EXISTS", "unsent"), "unsent", within_s=10) == 0
            await each_gets_its_own(client, 100)

    asyncio.run(scene())


def test_more_callers_than_may_wait_are_refused_at_once(single: Lab) -> None:
    async def scene() -> None:
        async with started(single.target(), most_pending=50) as client:
            await client.execute(("PING",), None, within_s=10)
            single.pause("node-1")
            try:
                waiting = [asyncio.create_task(client.execute(("PING",), None, within_s=30)) for _ in range(50)]
                await asyncio.sleep(0)
                with pytest.raises(UnreachableError, match="too many requests wait"):
                    await client.execute(("PING",), None, within_s=30)
            finally:
                single.resume("node-1")
            assert set(await asyncio.gather(*waiting)) == {b"PONG"}
            assert await client.execute(("PING",), None, within_s=10) == b"PONG"

    asyncio.run(scene())


def test_commands_that_nobody_waits_for_any_more_still_count_until_the_server_takes_them(single: Lab) -> None:
    async def scene() -> None:
        async with started(single.target(), most_pending=50) as client:
            await client.execute(("PING",), None, within_s=10)
            single.pause("node-1")
            eventually(lambda: single.node("node-1").state == "paused")
            refusals = []
            try:
                for _ in range(4):
                    calls = (client.execute(("PING",), None, within_s=0.1) for _ in range(25))
                    refusals += await asyncio.gather(*calls, return_exceptions=True)
            finally:
                single.resume("node-1")
            assert all(isinstance(error, UnreachableError) for error in refusals)
            assert any("too many" in str(error) for error in refusals)
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(UnreachableError):
                        assert await client.execute(("PING",), None, within_s=10) == b"PONG"
                        break
                    await asyncio.sleep(0.02)

    asyncio.run(scene())


def test_a_client_that_is_closed_lets_everyone_go() -> None:
    async def scene() -> None:
        client = BatchedClient(NOWHERE)
        await client.start()
        waiting = [asyncio.create_task(client.execute(("PING",), None, within_s=60)) for _ in range(10)]
        await asyncio.sleep(0.05)
        await client.close()
        for reply in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(reply, UnreachableError)
        with pytest.raises(UnreachableError, match="closed"):
            await client.execute(("PING",), None, within_s=60)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.STANDALONE, Mode.SENTINEL, Mode.OSS_CLUSTER, Mode.ENTERPRISE])
def test_without_any_server_starting_works_and_calling_ends_in_time(mode: Mode) -> None:
    async def scene() -> None:
        async with started(NOWHERE.with_mode(mode)) as client:
            begun_s = time.monotonic()
            with pytest.raises(UnreachableError) as error:
                await client.execute(("GET", "a"), "a", within_s=0.5)
            assert time.monotonic() - begun_s < 0.5 + SLACK_S
            assert error.value.retryable
            with pytest.raises(UnreachableError):
                await client.on_primaries(("PING",), within_s=0.2)
            assert not client.reachable
            assert not client.reachable_for("a")
            assert abs(client.now_ms("a") - time.time() * 1000) < 1000

    asyncio.run(scene())


def test_a_server_that_comes_up_later_is_found() -> None:
    with lab.standalone() as running:
        running.kill("node-1")

        async def scene() -> None:
            async with started(running.target().with_mode(Mode.AUTO)) as client:
                with pytest.raises(UnreachableError):
                    await client.execute(("GET", "a"), "a", within_s=0.3)
                early = asyncio.create_task(client.execute(("SET", "a", 1), "a", within_s=20))
                await asyncio.to_thread(running.start, "node-1")
                assert await early == b"OK"
                assert client.mode is Mode.STANDALONE

        asyncio.run(scene())


def test_a_password_and_tls_and_another_database() -> None:
    with lab.standalone(password="secret", tls=True) as running:

        async def scene() -> None:
            async with started(dataclasses.replace(running.target(), db=3)) as client:
                await each_gets_its_own(client, 200)
                assert await client.execute(("DBSIZE",), None, within_s=10) == 200
            async with started(running.target()) as client:
                assert await client.execute(("DBSIZE",), None, within_s=10) == 0
            begun_s = time.monotonic()
            async with started(dataclasses.replace(running.target(), password="wrong")) as client:
                with pytest.raises(NotAuthorisedError, match="WRONGPASS"):
                    await client.execute(("GET", "a"), "a", within_s=30)
            async with started(dataclasses.replace(running.target(), db=99)) as client:
                with pytest.raises(UsageError, match="database 99"):
                    await client.execute(("GET", "a"), "a", within_s=30)
            assert time.monotonic() - begun_s < 20

        asyncio.run(scene())


def test_what_cannot_help_to_repeat_is_told_at_once(single: Lab) -> None:
    async def scene() -> None:
        async with started(single.target().with_mode(Mode.OSS_CLUSTER)) as client:
            with pytest.raises(UsageError, match="cluster support disabled"):
                await client.execute(("GET", "a"), "a", within_s=30)

    asyncio.run(scene())


def test_a_service_that_the_sentinels_do_not_know_is_told_at_once() -> None:
    with lab.sentinel(replicas=0) as running:

        async def scene() -> None:
            async with started(dataclasses.replace(running.target(), service="other")) as client:
                with pytest.raises(NotFoundError, match="other"):
                    await client.execute(("GET", "a"), "a", within_s=30)

        asyncio.run(scene())


def test_a_connection_that_the_server_closes_costs_no_error(single: Lab) -> None:
    async def scene() -> None:
        async with started(single.target()) as client:
            await client.execute(("PING",), None, within_s=10)
            for _ in range(3):
                calls = asyncio.ensure_future(each_gets_its_own(client, 500))
                await asyncio.to_thread(single.call, "node-1", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await calls

    asyncio.run(scene())
