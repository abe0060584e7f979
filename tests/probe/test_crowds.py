"""Many who ask at once, and those who hang up."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from probe.conftest import serving
from support import eventually, names
from understudy.http.problem import TooManyError, TooSlowError
from understudy.lab import Lab
from understudy.probe.work import Pool, Work
from understudy.valkey.router import Router


def test_status_is_right_while_many_ask_for_many_keys(valkey_standalone: Lab) -> None:
    with serving(valkey_standalone.target()) as probe, ThreadPoolExecutor(40) as many:

        def ask(_: int) -> httpx.Response:
            return httpx.get(f"{probe.url}redis/test-keys?count=3000", timeout=60)

        asked = [many.submit(ask, number) for number in range(40)]
        for _ in range(5):
            status = probe.get("/redis/status")
            assert status["connected"] and not status["stuck"], status
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)


def test_the_time_counts_from_when_a_thread_is_there_and_pools_do_not_share_them() -> None:
    async def crowd() -> None:
        work = Work(asyncio.Event().wait)  # type: ignore[arg-type]
        held = threading.Event()
        slow = [asyncio.create_task(work.do("", lambda: held.wait(20), pool=Pool.STREAMS)) for _ in range(32)]
        await asyncio.sleep(0.05)
        late = asyncio.create_task(work.do("", lambda: "there", 0.2, Pool.STREAMS))
        await asyncio.sleep(0.4)
        assert await work.do("", lambda: "there", 1) == "there"
        held.set()
        assert await late == "there"
        await asyncio.gather(*slow)

        held.clear()
        slow = [asyncio.create_task(work.do("", lambda: held.wait(20), pool=Pool.LONG)) for _ in range(4)]
        await asyncio.sleep(0.05)
        with pytest.raises(TooManyError):
            await work.do("", lambda: "there", pool=Pool.LONG)
        held.set()
        await asyncio.gather(*slow)
        with pytest.raises(TooSlowError):
            await work.do("", lambda: time.sleep(0.3), 0.05)

    asyncio.run(crowd())


@pytest.mark.parametrize("layout", ["standalone", "cluster"])
def test_who_hangs_up_leaves_no_keys(layout: str, request: pytest.FixtureRequest) -> None:
    running: Lab = request.getfixturevalue(f"valkey_{layout}")
    with serving(running.target()) as probe, Router(running.target()) as router:
        lines = probe.lines("/redis/failover-recovery", duration=60, interval=0.1)
        for _ in range(6):
            next(lines)
        assert names(router)
        lines.close()  # type: ignore[attr-defined]
        eventually(lambda: not names(router))
        time.sleep(0.5)
        assert not names(router)


def test_a_probe_that_ends_leaves_no_keys(valkey_standalone: Lab) -> None:
    with Router(valkey_standalone.target()) as router:
        with serving(valkey_standalone.target()) as probe:
            lines = probe.lines("/redis/failover-recovery", duration=60, interval=0.1)
            for _ in range(6):
                next(lines)
            probe.end()
            assert [*lines][-1]["why"] == "the probe is ending"
        assert not names(router)
