"""Writes that count only once replicas have them.

WAIT speaks of the last write of its own connection, and blocks it. So a batch of writes and its WAIT go over one
connection, on which nothing else is sent meanwhile; the next batch gathers, as in the group commit of a database. A
server that is no primary any more answers WAIT with an error, so that nothing counts which it accepted too late.

A command that finds its work done already writes nothing, and WAIT behind it on a fresh connection would count every
replica, whatever they have (measured on Valkey 9.1: two paused replicas "acknowledged"). So each batch ends in a write
of its own, to a key beside the first call's, which is deleted at once: what WAIT then counts has all that the replies
of the batch rest on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from understudy.errors import UnreachableError, UsageError
from understudy.valkey.batched.call import Call, Dispatcher, Ignored, RoutedCall
from understudy.valkey.batched.connection import Connection
from understudy.valkey.batched.greeting import Door
from understudy.valkey.batched.line import Line
from understudy.valkey.router import NOT_NOW
from understudy.valkey.slots import key_slot, name_in_slot
from understudy.valkey.target import Address
from understudy.valkey.wire import Reply, ReplyError, pack

_WAIT_MS = 400  # then it is asked again; shorter than the silence after which a server counts as gone
_MOST_AT_ONCE = 512
_SUFFIX = b":acknowledged"
_MARK_MS = 1000  # how long the mark lives when the connection breaks between writing and deleting it


class UnacknowledgedError(UnreachableError):
    """The primary did what was asked, and too few replicas have it. Trying again can help, and is safe."""


def no_wait(wanted: int) -> UsageError:
    """Return the error for a proxy that is asked for replicas."""
    return UsageError(
        f"having {wanted} replica(s) acknowledge a write", "a proxy has no WAIT", "Ask for no acknowledgement."
    )


class AcknowledgedCall(RoutedCall):
    """A call whose reply counts once `wanted` replicas have what it rests on."""

    acknowledged: int | None = None  # by so many; None while the primary has not answered
    batch: Batch | None = None
    reply: Reply = None

    def __init__(
        self,
        packed: bytes,
        future: asyncio.Future[Reply],
        deadline_s: float,
        dispatcher: Dispatcher,
        key: bytes,
        wanted: int,
    ) -> None:
        super().__init__(packed, future, deadline_s, key_slot(key), dispatcher)
        self.key = key
        self.wanted = wanted

    def answer(self, reply: Reply) -> None:
        """Hold the reply back until the batch is acknowledged."""
        self.reply, self.acknowledged = reply, 0

    def refused(self, reply: ReplyError, by: Address) -> None:
        """Have the reply judged: nothing was written, nobody need acknowledge it."""
        self.batch = None
        super().refused(reply, by)

    def lost(self, why: str) -> None:
        """Go again."""
        self.batch, self.acknowledged = None, None
        super().lost(why)


class _Mark(Ignored):
    """The write that a batch ends in."""

    def __init__(self, packed: bytes, batch: Batch) -> None:
        super().__init__(packed)
        self._batch = batch

    def refused(self, reply: ReplyError, by: Address) -> None:
        """Without it WAIT says nothing."""
        self._batch.unmarked = reply, by


class Batch(Call):
    """The WAIT behind some calls, and their fate. `done` is called once the connection is free again."""

    unmarked: tuple[ReplyError, Address] | None = None

    def __init__(self, calls: list[AcknowledgedCall], connection: Connection, done: Callable[[], None]) -> None:
        self.packed = pack(("WAIT", max(call.wanted for call in calls), _WAIT_MS))
        self._calls = calls
        self._connection = connection
        self._done = done
        for call in calls:
            call.batch = self
        name = beside(calls[0].key)
        mark = _Mark(pack(("SET", name, "", "PX", _MARK_MS)), self)
        unmark = Ignored(pack(("DEL", name)))
        mark.asking = unmark.asking = calls[0].asking
        connection.write([*calls, mark, unmark, self])

    def _waiting(self) -> list[AcknowledgedCall]:
        return [call for call in self._calls if call.batch is self and not call.future.done()]

    def answer(self, reply: Reply) -> None:
        """Answer the calls that are acknowledged; wait once more for the others."""
        if self.unmarked:
            self._judge(*self.unmarked)
            return
        for call in self._waiting():
            call.acknowledged = reply
            if reply >= call.wanted:
                call.settle(call.reply)
        self._calls = self._waiting()
        if self._calls:
            self._connection.write([self])
        else:
            self._done()

    def refused(self, reply: ReplyError, by: Address) -> None:
        """Send everything again: the server is no primary any more."""
        del by
        self.lost(f"WAIT: {reply}")

    def lost(self, why: str) -> None:
        """Send everything again."""
        for call in self._waiting():
            call.lost(why)
        self._done()

    def expire(self, now_s: float) -> None:
        """Let calls go whose time is up."""
        for call in self._calls:
            if call.batch is self:
                call.expire(now_s)

    def _judge(self, reply: ReplyError, by: Address) -> None:
        passing = str(reply).startswith((*NOT_NOW, "MOVED", "ASK"))
        for call in self._waiting():
            if passing:
                call.lost(str(reply))
            else:
                call.refused(reply, by)
        self._done()


class Committer:
    """Connections of one node for batches that replicas acknowledge, one batch at a time on each."""

    def __init__(self, door: Door, address: Address, connections: int) -> None:
        self._gathering: list[AcknowledgedCall] = []
        self._busy: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._lines = [Line(door, address, Connection, self._flush) for _ in range(connections)]

    def send(self, call: AcknowledgedCall) -> None:
        """Send a call at the end of this turn of the loop, or with the next batch when every connection waits."""
        if not self._gathering:
            self._loop.call_soon(self._flush)
        self._gathering.append(call)

    def _flush(self) -> None:
        while self._gathering and (connection := self._free()):
            calls = [call for call in self._gathering[:_MOST_AT_ONCE] if not call.future.done()]
            del self._gathering[:_MOST_AT_ONCE]
            if calls:
                self._busy.add(connection)
                Batch(calls, connection, partial(self._freed, connection))

    def _free(self) -> Connection | None:
        open_ones = (line.connection for line in self._lines)
        return next((one for one in open_ones if one and one not in self._busy), None)

    def _freed(self, connection: Connection) -> None:
        self._busy.discard(connection)
        self._flush()

    @property
    def idle(self) -> bool:
        """Return whether nobody waits for anything here."""
        return not self._gathering and not self._busy

    def tick(self, now_s: float) -> None:
        """Look at deadlines and silence."""
        for line in self._lines:
            line.tick(now_s)
        held_up = bool(self._busy) and not self._free()
        for call in self._gathering:
            if held_up:
                call.acknowledged = 0  # those before it wait for the replicas
            call.expire(now_s)
        self._gathering = [call for call in self._gathering if not call.future.done()]

    def abandon(self, why: str) -> None:
        """Close every connection, and send what waits elsewhere."""
        for line in self._lines:
            if line.connection:
                line.connection.close(why)
        calls, self._gathering = self._gathering, []
        for call in calls:
            call.lost(why)

    def stop(self) -> None:
        """Do not connect again."""
        for line in self._lines:
            line.leave(at_once=True)

    @property
    def ended(self) -> bool:
        """Return whether nothing of it runs any more."""
        return all(line.ended for line in self._lines)

    async def close(self) -> None:
        """End it."""
        await asyncio.gather(*(line.close() for line in self._lines))


def beside(key: bytes) -> bytes:
    """Return a key in the same slot, with the same beginning where that can be: users may be allowed no other."""
    slot = key_slot(key)
    for name in (key + _SUFFIX, key + b"{" + key + b"}" + _SUFFIX):
        if key_slot(name) == slot:
            return name
    return name_in_slot()[slot]
