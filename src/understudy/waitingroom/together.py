"""Polls of one turn of the event loop, asked as one: the server then reads the event once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from understudy.waitingroom.room import SLICE
from understudy.waitingroom.values import Place, RefusalError, event_of

Waiting = tuple[str, asyncio.Future[Place | None]]


class Together:
    """Asks for the places of single tickets; `places` takes many of one event, and must end by itself."""

    def __init__(self, places: Callable[[str, Sequence[str]], Awaitable[Sequence[Place | None]]]) -> None:
        self._places = places
        self._waiting: dict[str, list[Waiting]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def place(self, ticket: str) -> Place:
        """Return where a ticket stands.

        Raises:
            RefusalError: `NO_TICKET`, and whatever `places` raises.
        """
        event, loop = event_of(ticket), asyncio.get_running_loop()
        waiting = self._waiting.get(event)
        if waiting is None:
            waiting = self._waiting[event] = []
            loop.call_soon(self._ask, event)
        future: asyncio.Future[Place | None] = loop.create_future()
        waiting.append((ticket, future))
        stands = await future
        if stands is None:
            raise RefusalError("looking for a ticket", "NO_TICKET")
        return stands

    def _ask(self, event: str) -> None:
        waiting = self._waiting.pop(event)
        for at in range(0, len(waiting), SLICE):
            task = asyncio.create_task(self._tell(event, waiting[at : at + SLICE]))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _tell(self, event: str, waiting: Sequence[Waiting]) -> None:
        try:
            found = await self._places(event, [ticket for ticket, _ in waiting])
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), stands in zip(waiting, found, strict=True):
            if not future.done():  # its request has hung up
                future.set_result(stands)
