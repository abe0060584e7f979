"""Every seat of an event, asked for once a second however many want to see it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

import orjson

from understudy.waitingroom.room import Room

FOR_S = 1.0
_MOST = 64


class SeatMaps:
    """The answers of the last second, as bytes. Who asks while the server is being asked waits for the same answer."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._kept: OrderedDict[str, tuple[float, asyncio.Task[bytes]]] = OrderedDict()

    async def of(self, event: str) -> bytes:
        """Return an event's seats as JSON; errors are not kept."""
        until_s, task = self._kept.get(event, (0.0, None))
        if task is None or (task.done() and (time.monotonic() >= until_s or task.cancelled() or task.exception())):
            task = asyncio.create_task(self._ask(event))
            self._kept[event] = (time.monotonic() + FOR_S, task)
            self._kept.move_to_end(event)
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return await asyncio.shield(task)

    async def _ask(self, event: str) -> bytes:
        return orjson.dumps(await self._room.seats(event))
