"""Places pushed to who listens (Server-Sent Events): a loop for each event asks for all tickets, and tells changes.

Source: WHATWG HTML, 9.2 Server-sent events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import orjson
from starlette.types import Receive, Scope, Send

from understudy.errors import UnderstudyError
from understudy.http.many import ABORT
from understudy.waitingroom import shapes
from understudy.waitingroom.paces import GONE, Paces
from understudy.waitingroom.pulse import Pulse
from understudy.waitingroom.room import Room
from understudy.waitingroom.values import Place, event_of

log = logging.getLogger("understudy.waitingroom")

SLICE = 200
_EVERY_S = 1.0
_COMMENT_EVERY_S = 15.0
_READ_WITHIN_S = 30.0
_AT_ONCE = 8
_COMMENT = b": still here\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
]
Shown = tuple[object, ...]


def packed(event: str, data: object) -> bytes:
    """Return one event of a stream."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), orjson.dumps(data))


class Listener:
    """One stream. It keeps no more than what was last written; what changes while that is not read is passed over."""

    status = 200

    def __init__(self, hub: Hub, ticket: str, first: Place) -> None:
        self.ticket = ticket
        self.shown: Shown = ()
        self.troubled = False
        self.spoke_s = 0.0
        self.ended = False
        self._hub = hub
        self._first = first
        self._writing: asyncio.Task[None] | None = None
        self._send: Send | None = None
        self._abort: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer: until the ticket is gone, the client hangs up, or the server ends."""
        self._send = send
        self._abort = scope.get("extensions", {}).get(ABORT, self._abort)
        await send({"type": "http.response.start", "status": self.status, "headers": _HEADERS})
        self.write(b"retry: 2000\n\n")
        await self.written()
        self._hub.join(self, self._first)
        try:
            while (await receive())["type"] != "http.disconnect":  # also when our own answer is complete
                pass
        finally:
            self._hub.leave(self)
            if self._writing:
                self._writing.cancel()

    @property
    def busy(self) -> bool:
        """Return whether what was written last is still on its way."""
        return self._writing is not None and not self._writing.done()

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Begin to write; not while busy."""
        self.spoke_s = time.monotonic()
        self.ended = self.ended or last
        self._writing = asyncio.create_task(self._write(data, last))

    async def written(self) -> None:
        """Wait until it is."""
        if self._writing:
            await self._writing

    def give_up(self, now_s: float) -> None:
        """Hang up on who does not read."""
        if now_s - self.spoke_s > _READ_WITHIN_S:
            self._abort()

    async def _write(self, data: bytes, last: bool) -> None:
        assert self._send  # noqa: S101 - written to once it was called
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


class Hub:
    """All listeners, by event and ticket."""

    def __init__(self, room: Room, paces: Paces, pulse: Pulse, counted: Callable[[int], None], *, most: int) -> None:
        self.most = most
        self.count = 0
        self._room = room
        self._paces = paces
        self._pulse = pulse
        self._counted = counted
        self._events: dict[str, dict[str, set[Listener]]] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    def join(self, one: Listener, first: Place) -> None:
        """Tell a listener from now on what changes; `first` is what it is told now."""
        if self._stopping:
            one.write(b": the gateway is ending\n\n", last=True)
            return
        event = event_of(one.ticket)
        self._events.setdefault(event, {}).setdefault(one.ticket, set()).add(one)
        self._count(1)
        self._tell(one, first, time.monotonic())
        if event not in self._loops or self._loops[event].done():
            self._loops[event] = asyncio.create_task(self._watch(event))

    def leave(self, one: Listener) -> None:
        """Forget a listener."""
        event = event_of(one.ticket)
        tickets = self._events.get(event, {})
        listeners = tickets.get(one.ticket, set())
        if one in listeners:
            listeners.discard(one)
            self._count(-1)
        if not listeners:
            tickets.pop(one.ticket, None)

    def stop(self) -> None:
        """End every stream."""
        self._stopping = True
        for loop in self._loops.values():
            loop.cancel()
        for one in self._all():
            if one.busy:
                one.give_up(float("inf"))
            elif not one.ended:
                one.write(b": the gateway is ending\n\n", last=True)

    def _all(self) -> list[Listener]:
        return [one for event in self._events.values() for listeners in event.values() for one in listeners]

    def _count(self, more: int) -> None:
        self.count += more
        self._counted(self.count)

    async def _watch(self, event: str) -> None:
        """Ask once a second, as long as somebody listens."""
        while tickets := self._events.get(event):
            began = time.monotonic()
            try:
                await self._ask(event, list(tickets))
            except Exception as error:  # noqa: BLE001 - who listens must hear of it, and again when it is over
                if not isinstance(error, UnderstudyError):
                    log.error("watching places failed: a bug: %s", type(error).__name__)
                self._tell_trouble(tickets)
            await asyncio.sleep(max(0.05, _EVERY_S - (time.monotonic() - began)))
        self._events.pop(event, None)

    async def _ask(self, event: str, tickets: list[str]) -> None:
        slices = [tickets[at : at + SLICE] for at in range(0, len(tickets), SLICE)]
        for at in range(0, len(slices), _AT_ONCE):
            some = slices[at : at + _AT_ONCE]
            answers = await asyncio.gather(*(self._room.places(event, one) for one in some))
            now_s = time.monotonic()
            for asked, places in zip(some, answers, strict=True):
                for ticket, stands in zip(asked, places, strict=True):
                    if stands:
                        self._paces.saw_place(stands)
                        self._pulse.note(ticket, stands)
                    for one in list(self._events.get(event, {}).get(ticket, ())):
                        self._tell(one, stands, now_s)
            await asyncio.sleep(0)  # requests come between the slices

    def _tell(self, one: Listener, stands: Place | None, now_s: float) -> None:
        if one.ended:
            return
        if one.busy:
            one.give_up(now_s)
            return
        one.troubled = False
        if stands is None:
            one.write(packed("end", {"event_id": event_of(one.ticket), "state": "gone"}), last=True)
        elif stands.state in GONE:
            one.write(packed("end", shapes.place(stands, self._paces.estimate(stands))), last=True)
        elif (shown := _shown(stands)) != one.shown:
            one.shown = shown
            one.write(packed("place", shapes.place(stands, self._paces.estimate(stands))))
        elif now_s - one.spoke_s > _COMMENT_EVERY_S:
            one.write(_COMMENT)

    def _tell_trouble(self, tickets: dict[str, set[Listener]]) -> None:
        now_s = time.monotonic()
        said = packed("trouble", {"why": "the server does not answer; places are told again as soon as it does"})
        for one in [one for listeners in tickets.values() for one in listeners]:
            if one.busy:
                one.give_up(now_s)
            elif not one.troubled and not one.ended:
                one.troubled = True
                one.shown = ()  # what comes next is news again
                one.write(said)
            elif not one.ended and now_s - one.spoke_s > _COMMENT_EVERY_S:
                one.write(_COMMENT)


def _shown(stands: Place) -> Shown:
    """Return what is news when it changes. Seconds that count down are not: whoever shows them has a clock."""
    return stands.state, stands.event_state, stands.position, stands.waiting, stands.rate_per_s
