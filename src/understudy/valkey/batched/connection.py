"""One connection of an event loop: what is asked in one turn goes out in one write, replies come back in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import hiredis

from understudy.errors import UnreachableError
from understudy.valkey.batched.call import Call, Ignored, Lost
from understudy.valkey.target import Address
from understudy.valkey.wire import Command, Reply, ReplyError, pack, reason

TICK_S = 0.04  # how often deadlines and silence are looked at
SILENT_TICKS = 25  # ticks, not seconds: a loop of ours that was held up must not look like a silent server
_MOST_AT_ONCE = 512
_ASKING = pack(("ASKING",))


_IGNORED = Ignored()


class Connection(asyncio.Protocol):
    """Commands out, replies in, nothing repeated. `on_close` is called once, before the calls are told."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.on_close: Callable[[], None] | None = None
        self.why = ""  # it was closed, or "" while it is not
        self.unanswered: deque[Call] = deque()
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()  # done when nothing of it is left
        self._transport: asyncio.Transport | None = None
        self._gathering: list[Call] = []
        self._reader = hiredis.Reader()
        self._heard = False
        self._silent_ticks = 0
        self._writable = True

    @property
    def idle(self) -> bool:
        """Return whether nobody waits for anything here."""
        return not self.unanswered and not self._gathering

    def send(self, call: Call) -> None:
        """Send a command at the end of this turn of the loop."""
        if not self._gathering:
            self._loop.call_soon(self._flush)
        self._gathering.append(call)

    async def ask(self, *commands: Command) -> list[Reply]:
        """Return one reply each, error replies included as values.

        Raises:
            UnreachableError: the connection broke.
        """
        calls = [Call(pack(command), self._loop.create_future(), float("inf")) for command in commands]
        for call in calls:
            self.send(call)
        replies = [await call.future for call in calls]
        for reply in replies:
            if isinstance(reply, Lost):
                raise UnreachableError(f"asking {self.address}", reply.why)
        return replies

    def tick(self, now_s: float) -> None:
        """Let calls go whose time is up, and close a connection on which somebody waits and nothing comes."""
        for call in self.unanswered:
            call.expire(now_s)
        if not self._writable:
            for call in self._gathering:
                call.expire(now_s)
            self._gathering = [call for call in self._gathering if not call.future.done()]
        self._silent_ticks = self._silent_ticks + 1 if self.unanswered and not self._heard else 0
        self._heard = False
        if self._silent_ticks >= SILENT_TICKS:
            self.close(f"{self.address} does not answer")

    def close(self, why: str) -> None:
        """Close at once; harmless to repeat. Everyone who waits is told."""
        if self.why:
            return
        self.why = why
        if self._transport is None:
            self.gone.set_result(None)
        else:
            self._transport.abort()
            if not self._transport.is_closing():  # uvloop: connecting was cancelled, and nothing more will be told
                self.gone.set_result(None)
        if self.on_close:
            self.on_close()
        calls = [*self.unanswered, *self._gathering]
        self.unanswered.clear()
        self._gathering.clear()
        for call in calls:
            call.lost(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport  # type: ignore[assignment]  # a stream's, as every one of ours
        if self.why:
            self._transport.abort()  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        """Hand out replies."""
        self._heard = True
        try:
            self._reader.feed(data)
            next_reply, next_call = self._reader.gets, self.unanswered.popleft
            while (reply := next_reply()) is not False:
                if type(reply) is ReplyError:
                    next_call().refused(reply, self.address)
                else:
                    next_call().answer(reply)
        except (hiredis.ProtocolError, IndexError) as error:  # more replies than commands is no RESP either
            self.close(reason(hiredis.ProtocolError(str(error))))

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self.close(reason(error) if isinstance(error, OSError) else "the server closed the connection")
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        """Hold back what the server does not take."""
        self._writable = False

    def resume_writing(self) -> None:
        """Send what was held back."""
        self._writable = True
        if self._gathering:
            self._flush()

    def _flush(self) -> None:
        calls = self._gathering
        if self.why or not self._writable or self._transport is None:
            return
        self._gathering = calls[_MOST_AT_ONCE:]
        if self._gathering:
            self._loop.call_soon(self._flush)  # replies that have come are read first
        self.write([call for call in calls[:_MOST_AT_ONCE] if not call.future.done()])

    def write(self, calls: Sequence[Call]) -> None:
        """Send commands now, in one write."""
        if not calls or self._transport is None:
            return
        packed: list[bytes] = []
        for call in calls:
            if call.asking:
                self.unanswered.append(_IGNORED)
                packed.append(_ASKING)
            self.unanswered.append(call)
            packed.append(call.packed)
        self._transport.write(b"".join(packed))
