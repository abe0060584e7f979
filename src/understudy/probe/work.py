"""Blocking calls beside the server's loop: in threads, so many at once, each for so long at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from understudy.http.problem import TooSlowError

Result = TypeVar("Result")
ANSWER_WITHIN_S = 20.0
_MOST_THREADS = 64


class Work:
    """Runs blocking calls. One that is given up goes on in its thread until its own timeouts end it."""

    def __init__(self) -> None:
        self._limit = CapacityLimiter(_MOST_THREADS)

    async def do(self, doing: str, act: Callable[[], Result], within_s: float = ANSWER_WITHIN_S) -> Result:
        """Return what `act` returns.

        Raises:
            TooSlowError: it took longer than that.
        """
        try:
            with anyio.fail_after(within_s):
                return await to_thread.run_sync(act, abandon_on_cancel=True, limiter=self._limit)
        except TimeoutError as error:
            raise TooSlowError(
                doing, f"no answer within {within_s:g} s", "Is the server stopped, or far away?"
            ) from error
