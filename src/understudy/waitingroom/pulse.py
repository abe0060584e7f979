"""Signs of life: who asks or listens is there, and the line is told so now and then, for many tickets at once."""

from __future__ import annotations

import asyncio
import contextlib

from understudy.errors import UnderstudyError
from understudy.waitingroom.room import SLICE, Room
from understudy.waitingroom.values import Place

_MOST = 50_000
_OFTEN = 4  # times in what a ticket may be silent for
_AFTER_S = 0.2


class Pulse:
    """Sends heartbeats for tickets that have been silent for a quarter of the time that ends them."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._due: dict[str, set[str]] = {}
        self._count = 0
        self._sending: asyncio.Task[None] | None = None

    def note(self, ticket: str, stands: Place) -> None:
        """Send one for this ticket, soon, where it is due. With too many due it waits for the next occasion."""
        due = stands.state == "waiting" and 0 < stands.abandon_after_ms < stands.seen_ago_ms * _OFTEN
        if not due or self._count >= _MOST:
            return
        tickets = self._due.setdefault(stands.event_id, set())
        if ticket not in tickets:
            tickets.add(ticket)
            self._count += 1
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        await asyncio.sleep(_AFTER_S)
        due, self._due, self._count, self._sending = self._due, {}, 0, None
        for event, tickets in due.items():
            listed = list(tickets)
            for at in range(0, len(listed), SLICE):
                # one that fails is due again when next seen, long before the ticket ends
                with contextlib.suppress(UnderstudyError):
                    await self._room.heartbeats(event, listed[at : at + SLICE])
