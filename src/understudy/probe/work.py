"""Blocking calls beside the server's loop: in threads, so many at once, each waited for so long at most.

The threads are daemons: one that waits for a server that is stopped must not hold up the end of the program, as the
threads of `asyncio.to_thread` and of anyio do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from understudy.http.problem import TooSlowError

Result = TypeVar("Result")
ANSWER_WITHIN_S = 20.0
_MOST_THREADS = 64


class Work:
    """Runs blocking calls. One that is given up goes on in its thread until its own timeouts end it.

    `until_stopped` returns when the server is about to end: nothing is waited for any longer then.
    """

    def __init__(self, until_stopped: Callable[[], Awaitable[None]]) -> None:
        self._until_stopped = until_stopped
        self._free = asyncio.Semaphore(_MOST_THREADS)

    async def do(self, doing: str, act: Callable[[], Result], within_s: float = ANSWER_WITHIN_S) -> Result:
        """Return what `act` returns.

        Raises:
            TooSlowError: it took longer than that, or the server is about to end.
        """
        ended = asyncio.ensure_future(self._in_thread(act))
        stopped = asyncio.ensure_future(self._until_stopped())
        try:
            done, _ = await asyncio.wait({ended, stopped}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            ended.cancel()
        if ended in done:
            return ended.result()
        if stopped in done:
            raise TooSlowError(doing, "the probe is ending", "Ask again when it is back.")
        raise TooSlowError(doing, f"no answer within {within_s:g} s", "Is the server stopped, or far away?")

    async def _in_thread(self, act: Callable[[], Result]) -> Result:
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Result] = loop.create_future()

        def settle(settling: Callable[[], None]) -> None:
            self._free.release()
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
        return await outcome
