"""The waiting room's operations, each one atomic and safe to repeat, over any connection mode."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from understudy.errors import UnderstudyError, UnreachableError, UsageError
from understudy.valkey.batched import BatchedClient
from understudy.valkey.batched.clock import Clock
from understudy.valkey.discovery import parse_info
from understudy.valkey.target import Mode
from understudy.valkey.wire import Reply, ReplyError
from understudy.waitingroom import check, keys, replies
from understudy.waitingroom.functions import Functions
from understudy.waitingroom.library import READS, Library, library
from understudy.waitingroom.values import (
    MOST_SEATS,
    Action,
    Entered,
    Event,
    EventSettings,
    Joined,
    Message,
    Place,
    RefusalError,
    SeatMap,
    Seats,
    event_of,
)

SLICE = 200  # how much one call may do of work that can grow: it keeps every other event's commands waiting
_SEATS_A_CALL = 1000
_CLOCK_TOLD_S = 0.02
_MOST_CLOCKS = 2000
_TELL_TIME = frozenset({"event", "tick"})

Observer = Callable[[str, float, str], None]  # operation, seconds, error code ("" where there was none)


class Room:
    """What a gateway can ask for. Nothing is kept here: any number of gateways are one room.

    Every operation ends within `deadline_s`: with its answer, a `RefusalError` (nothing was changed), or an
    `UnreachableError`: then the same may be asked again, and nothing is done twice. With `replicas` an answer is
    given only when so many replicas have acknowledged what it says.
    """

    def __init__(
        self,
        client: BatchedClient,
        *,
        replicas: int = 0,
        deadline_s: float = 2.0,
        observe: Observer | None = None,
        code: Library | None = None,
    ) -> None:
        self.client = client
        self._functions = Functions(client, code or library())
        self._replicas = replicas
        self._deadline_s = deadline_s
        self._observe = observe
        self._clocks: dict[str, Clock] = {}  # by event, behind a proxy: of the server that has it

    async def join(
        self, event: str, user: str = "", *, idempotency_key: str = "", dedupe_key: str = "", digest: str = ""
    ) -> Joined:
        """Take a place at the end of the line; without a user, as somebody nobody else is.

        The same idempotency key with the same digest of the request gets the first answer again. A dedupe key can be
        used once (`DUPLICATE`). Both are remembered for the event's `dedupe_ttl_s`.
        """
        ticket = f"{event}.{secrets.token_urlsafe(16)}"
        ticket_id = keys.ticket_id(ticket)
        user = user or f"anonymous-{ticket_id}"
        named = [*keys.line(event), f"stream:event:{{{event}}}", keys.user(event, user), keys.ticket(event, ticket_id)]
        named += [keys.dedupe(event, key) for key in dict.fromkeys((idempotency_key, dedupe_key)) if key]
        answer = await self._call("join", named, (ticket_id, user, ticket, digest if idempotency_key else ""))
        return replies.joined(event, answer)

    async def status(self, ticket: str) -> Place:
        """Return where a ticket stands."""
        return _known(await self.places(event_of(ticket), [ticket]))

    async def places(self, event: str, tickets: Sequence[str]) -> list[Place | None]:
        """Return where tickets of one event stand; None for those that are not known. At most 200 at once."""
        return await self._places("status", event, tickets)

    async def heartbeat(self, ticket: str) -> Place:
        """Say that somebody is still there, and return where the ticket stands."""
        return _known(await self.heartbeats(event_of(ticket), [ticket]))

    async def heartbeats(self, event: str, tickets: Sequence[str]) -> list[Place | None]:
        """As `heartbeat`, for tickets of one event; at most 200 at once."""
        return await self._places("heartbeat", event, tickets)

    async def enter(self, ticket: str) -> Entered:
        """Go in, if it is this ticket's turn; asked again, the answer is the same."""
        event, ticket_id = event_of(ticket), keys.ticket_id(ticket)
        named = [*keys.room(event)[:6], keys.ticket(event, ticket_id)]
        user, issued_ms, expires_ms = await self._call("enter", named, (ticket_id,))
        return Entered(event, user.decode(), ticket_id, issued_ms, expires_ms)

    async def leave(self, ticket: str) -> str:
        """Go away; return the state in which the ticket ended."""
        event, ticket_id = event_of(ticket), keys.ticket_id(ticket)
        (state,) = await self._call("leave", [*keys.room(event), keys.ticket(event, ticket_id)], (ticket_id,))
        return str(state.decode())

    async def hold(self, event: str, holder: str, seats: Sequence[str], key: str = "") -> Seats:
        """Hold seats for a ticket, named by its id: all of them, or none."""
        return await self._on_seats("hold", event, holder, seats, key)

    async def release(self, event: str, holder: str, seats: Sequence[str], key: str = "") -> Seats:
        """Give held seats back."""
        return await self._on_seats("release", event, holder, seats, key)

    async def confirm(self, event: str, holder: str, seats: Sequence[str], key: str = "") -> Seats:
        """Buy held seats."""
        return await self._on_seats("confirm", event, holder, seats, key)

    async def seats(self, event: str) -> SeatMap:
        """Return every seat and its state."""
        named = keys.room(event)
        status, left = await asyncio.gather(
            self.client.execute(("HGETALL", named[6]), named[0], within_s=self._deadline_s),
            self.client.execute(("GET", named[10]), named[0], within_s=self._deadline_s),
        )
        if left is None:
            raise RefusalError(f"reading the seats of {event}", "NO_EVENT")
        return replies.seat_map(event, status, left)

    async def create(self, event: str, settings: EventSettings, seats: Sequence[str] = ()) -> Event:
        """Make an event, with its seats. What was left half-made by a gateway that died is made whole, or anew."""
        if len(seats) > MOST_SEATS or len(set(seats)) != len(seats):
            raise UsageError(f"making the event {event}", f"at most {MOST_SEATS:,} seats, each named once")
        fields = replies.fields_of(settings.model_dump())
        digest = _digest(*map(str, fields), *seats)
        await self.client.execute(("SADD", keys.EVENTS, event), keys.EVENTS, within_s=self._deadline_s)
        named = keys.room(event)
        await self._call("create", [named[0], named[5], named[6], named[10]], (digest, *fields))
        for at in range(0, max(1, len(seats)), _SEATS_A_CALL):
            last = "1" if at + _SEATS_A_CALL >= len(seats) else "0"
            arguments = (digest, last, *seats[at : at + _SEATS_A_CALL])
            await self._call("seats", [named[0], named[6], named[10]], arguments)
        return await self.event(event)

    async def configure(self, event: str, changes: Mapping[str, Any]) -> Event:
        """Change settings, named as in `EventSettings`, from now on."""
        if changes:
            await self._call("configure", keys.room(event)[:1], replies.fields_of(changes))
        return await self.event(event)

    async def act(self, event: str, action: Action) -> Event:
        """Open, pause, resume or close an event."""
        await self._call("act", keys.room(event)[:1], (action,))
        return await self.event(event)

    async def event(self, event: str) -> Event:
        """Return an event as it stands."""
        return replies.event(event, await self._call("event", keys.room(event), ()))

    async def events(self) -> list[str]:
        """Return the names of all events."""
        names = await self.client.execute(("SMEMBERS", keys.EVENTS), keys.EVENTS, within_s=self._deadline_s)
        return sorted(name.decode() for name in names)

    async def delete(self, event: str) -> None:
        """Delete a closed event and everything of it."""
        purged = False
        while True:
            try:
                (more,) = await self._call("purge", keys.room(event), (SLICE,))
            except RefusalError as error:
                if error.code != "NO_EVENT":
                    raise
                if not purged:  # its name may be left, of a gateway that died on the way
                    await self._forget(event)
                    raise
                break
            purged = True
            if not more:
                break
        await self._forget(event)

    async def _forget(self, event: str) -> None:
        await self.client.execute(("SREM", keys.EVENTS, event), keys.EVENTS, within_s=self._deadline_s)

    async def tick(self, event: str) -> Event:
        """Do what time brings: admissions, and the end of what is over; return the event as it stands then."""
        while True:
            *answer, more = await self._call("tick", keys.room(event), (SLICE,))
            if not more:
                return replies.event(event, answer)

    async def cleanup(self, event: str, older_than_s: float) -> int:
        """End tickets that joined longer ago than that; return how many entries were cleaned."""
        cleaned = 0
        while True:
            count, more = await self._call("cleanup", keys.room(event), (round(older_than_s * 1000), SLICE))
            cleaned += int(count)
            if not more:
                return cleaned

    async def dequeue(self, event: str, consumer: str, count: int = 1, visibility_s: float = 60.0) -> list[Message]:
        """Take tickets from the front for a worker; those not acknowledged within `visibility_s` are given again.

        So are those of an answer that was lost: at least once, never lost.
        """
        taken = await self._call("dequeue", keys.room(event), (consumer, count, round(visibility_s * 1000)))
        return [Message(sid.decode(), one.decode(), user.decode(), times) for sid, one, user, times in taken]

    async def ack(self, event: str, consumer: str, stream_ids: Sequence[str]) -> int:
        """A worker is done with tickets; return with how many of these, that were still its own."""
        (count,) = await self._call("ack", keys.room(event), (consumer, *stream_ids))
        return int(count)

    async def check(self) -> UnderstudyError | None:
        """Return why some primary takes no writes, with the replicas that an answer needs; None where all do."""
        return await check.why_refused(self.client, replicas=self._replicas, within_s=self._deadline_s)

    async def forget_unused_code(self) -> list[str]:
        """Note that this version of the code is in use; delete versions unused for a day, and return them."""
        return await self._functions.forget_unused(self._deadline_s)

    async def evicting(self) -> dict[str, str]:
        """Return the primaries that drop keys when their memory is full, and by which policy, where they tell."""
        told = await self.client.on_primaries(("INFO", "memory"), within_s=self._deadline_s)
        found = {
            str(address): parse_info(reply) for address, reply in told.items() if not isinstance(reply, ReplyError)
        }
        policies = {
            address: facts.get("maxmemory_policy", "")
            for address, facts in found.items()
            if facts.get("maxmemory") != "0"
        }
        return {address: policy for address, policy in policies.items() if policy not in ("", "noeviction")}

    async def _places(self, operation: str, event: str, tickets: Sequence[str]) -> list[Place | None]:
        ids = [keys.ticket_id(ticket) for ticket in tickets]
        named = [*keys.line(event), *(keys.ticket(event, one) for one in ids)]
        return [replies.place(event, one) if one else None for one in await self._call(operation, named, ids)]

    async def _on_seats(self, operation: str, event: str, holder: str, seats: Sequence[str], key: str) -> Seats:
        if not seats or len(set(seats)) != len(seats):
            raise UsageError(f"{operation} of seats", "name one or more seats, each once")
        named = [*keys.room(event), keys.answer(event, operation, holder, key or secrets.token_urlsafe(9))]
        named += [keys.hold(event, seat) for seat in seats]
        answer = await self._call(operation, named, (holder, _digest(*seats), *seats))
        return replies.seats(event, seats, operation, answer, self._now_ms(named[0]))

    async def _call(self, operation: str, named: Sequence[str], arguments: Sequence[str | int]) -> list[Reply]:
        """Return the data of an operation's answer. A writing one is told until when its caller waits."""
        began = time.perf_counter()
        code = "UNAVAILABLE"
        replicas = 0 if operation in READS else self._replicas
        try:
            while True:
                left_s = self._deadline_s - (time.perf_counter() - began)
                if left_s <= 0:
                    raise UnreachableError(f"running {operation}", "its time was over when it came", "Try again.")
                told = self._told(operation, named[0], arguments, left_s)
                sent_s = time.monotonic()
                answer = await self._functions.call(operation, named, told, within_s=left_s, replicas=replicas)
                self._learn(operation, named[0], sent_s, answer)
                if replicas < self._replicas and not all(answer):
                    # "There is no such ticket" may come from a primary that is cut off, and knows nothing of who joined
                    # at its successor: who says no is asked again, and must have its replicas then.
                    replicas = self._replicas
                    continue
                if answer[0]:
                    code = ""
                    return list(answer[1:])
                code = answer[1].decode()
                if code != "TOO_LATE":
                    _refuse(operation, code, answer[2:])
                code = "UNAVAILABLE"
                await asyncio.sleep(_CLOCK_TOLD_S)  # its clock was not known: after a failover, say
        finally:
            if self._observe:
                self._observe(operation, time.perf_counter() - began, code)

    def _told(self, operation: str, key: str, arguments: Sequence[str | int], left_s: float) -> Sequence[str | int]:
        if operation in replies.UNTIMED:
            return arguments
        return (self._now_ms(key) + round(left_s * 1000), *arguments)

    def now_ms(self, event: str) -> int:
        """Return the time on the server that has an event, in milliseconds since 1970, without asking it."""
        return self._now_ms(keys.line(event)[0])

    def _now_ms(self, key: str) -> int:
        clock = self._clocks.get(key)
        return clock.now_ms() if clock else self.client.now_ms(key)

    def _learn(self, operation: str, key: str, sent_s: float, answer: Sequence[Reply]) -> None:
        """Take the time out of an answer that has it, behind a proxy: no server tells us its time there."""
        if self.client.mode is not Mode.ENTERPRISE:
            return
        if answer[0] and operation in _TELL_TIME:
            now_ms = answer[3]
        elif not answer[0] and answer[1] == b"TOO_LATE":
            now_ms = answer[2]
        else:
            return
        if key not in self._clocks and len(self._clocks) >= _MOST_CLOCKS:
            del self._clocks[next(iter(self._clocks))]
        clock = self._clocks.setdefault(key, Clock())
        clock.measure(sent_s, time.monotonic(), (now_ms // 1000, now_ms % 1000 * 1000))


def _refuse(operation: str, code: str, data: Sequence[Reply]) -> NoReturn:
    raise RefusalError(operation, code, [one.decode() if isinstance(one, bytes) else str(one) for one in data])


def _known(places: Sequence[Place | None]) -> Place:
    if places[0] is None:
        raise RefusalError("looking for a ticket", "NO_TICKET")
    return places[0]


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]
