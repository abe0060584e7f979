"""Blocking calls beside the server's loop: in threads, so many at once, each waited for so long at most.

The threads are daemons: one that waits for a server that is stopped must not hold up the end of the program, as the
threads of `asyncio.to_thread` and of anyio do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from understudy.http.problem import TooManyError, TooSlowError

Result = TypeVar("Result")
ANSWER_WITHIN_S = 20.0
_MOST_BESIDE = 8


class Pool(Enum):
    """Threads that are kept for one purpose: how many, and how long one may be waited for (None: as long as it takes).

    What is asked for must not make the client under test look slow, nor what takes long keep the rest waiting.
    """

    CHECKS = ("checks", 8, None)  # the health checks that nobody asks for
    PINGS = ("pings", 16, 5.0)
    STREAMS = ("streams", 32, None)
    ANSWERS = ("answers", 16, 5.0)
    LONG = ("long", 4, 0.0)  # what is written or sent by the thousand

    def __init__(self, _: str, most: int, wait_s: float | None) -> None:
        self.most = most
        self.wait_s = wait_s


class Work:
    """Runs blocking calls. One that is given up goes on in its thread until its own timeouts end it.

    `until_stopped` returns when the server is about to end: nothing is waited for any longer then.
    """

    def __init__(self, until_stopped: Callable[[], Awaitable[None]]) -> None:
        self._until_stopped = until_stopped
        self._free = {pool: asyncio.Semaphore(pool.most) for pool in Pool}
        self._beside: set[asyncio.Future[None]] = set()

    async def do(
        self, doing: str, act: Callable[[], Result], within_s: float = ANSWER_WITHIN_S, pool: Pool = Pool.ANSWERS
    ) -> Result:
        """Return what `act` returns; the time counts from when a thread is there.

        Raises:
            TooManyError: no thread of the pool was free in time.
            TooSlowError: it took longer than that, or the server is about to end.
        """
        await self._thread(doing, pool)
        outcome = self._start(act, self._free[pool].release)
        stopped = asyncio.ensure_future(self._until_stopped())
        either: set[asyncio.Future[Any]] = {outcome, stopped}
        try:
            await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if outcome.done():
                return outcome.result()
            if stopped.done():
                raise TooSlowError(doing, "the probe is ending", "Ask again when it is back.")
            raise TooSlowError(doing, f"no answer within {within_s:g} s", "Is the server stopped, or far away?")
        finally:
            stopped.cancel()
            outcome.cancel()

    def beside(self, act: Callable[[], None]) -> None:
        """Run what nobody waits for; it is left out where too much of it runs already."""
        if len(self._beside) >= _MOST_BESIDE:
            return
        outcome = self._start(act, lambda: None)
        self._beside.add(outcome)
        outcome.add_done_callback(self._beside.discard)

    async def until_beside_ended(self, within_s: float) -> None:
        """Wait for what runs beside, so long at most."""
        if self._beside:
            await asyncio.wait(set(self._beside), timeout=within_s)

    async def _thread(self, doing: str, pool: Pool) -> None:
        free = self._free[pool]
        try:
            if pool.wait_s == 0 and free.locked():
                raise TimeoutError
            async with asyncio.timeout(pool.wait_s):
                await free.acquire()
        except TimeoutError:
            busy = f"{pool.most} requests like it are under way, and no more may be"
            raise TooManyError(doing, busy, "Wait until one ends.") from None

    def _start(self, act: Callable[[], Result], release: Callable[[], None]) -> asyncio.Future[Result]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Result] = loop.create_future()

        def settle(settling: Callable[[], None]) -> None:
            release()
            if not outcome.done():
                settling()

        def run() -> None:
            try:
                settling = partial(outcome.set_result, act())
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                settling = partial(outcome.set_exception, error)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, settling)

        threading.Thread(target=run, name="probe", daemon=True).start()
        return outcome
