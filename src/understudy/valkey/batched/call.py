"""A command on its way, and who waits for it."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from understudy.valkey.target import Address
from understudy.valkey.wire import Reply, ReplyError


class Lost:
    """What a caller gets in place of a reply when there will be none."""

    def __init__(self, why: str) -> None:
        self.why = why


class Call:
    """A command on its way, and who waits for it. This one is sent once: whatever happens is its result."""

    asking = False  # send ASKING directly before it

    def __init__(self, packed: bytes, future: asyncio.Future[Any], deadline_s: float) -> None:
        self.packed = packed
        self.future = future
        self.deadline_s = deadline_s

    def settle(self, result: Any) -> None:
        """Tell the caller; one that has given up is not told."""
        if not self.future.done():
            self.future.set_result(result)

    def answer(self, reply: Reply) -> None:
        """Take the reply."""
        self.settle(reply)

    def refused(self, reply: ReplyError, by: Address) -> None:
        """Take an error reply."""
        del by
        self.settle(reply)

    def lost(self, why: str) -> None:
        """Take it that there will be no reply."""
        self.settle(Lost(why))

    def expire(self, now_s: float) -> None:
        """Give up when the time is up; the reply may still come, and then belongs to nobody."""
        if self.deadline_s <= now_s:
            self.lost("no answer in time")


class Ignored(Call):
    """A command whose reply says nothing, as that of ASKING."""

    def __init__(self, packed: bytes = b"") -> None:
        self.packed = packed

    def settle(self, result: Any) -> None:
        """Nobody waits for it."""

    def expire(self, now_s: float) -> None:
        """Nobody waits for it."""


class Dispatcher(Protocol):
    """Where calls go that have to be sent again."""

    def refused(self, call: RoutedCall, reply: ReplyError, by: Address) -> None:
        """Judge an error reply: follow it, wait, or let the caller have it."""

    def again(self, call: RoutedCall, why: str) -> None:
        """Send a call again, now or later; `why` is for the caller when time is up before."""


class RoutedCall(Call):
    """A command that goes to the owner of its slot, and again until it is answered; so it must be safe to repeat."""

    why = ""  # it was not answered yet
    pause_s = 0.0  # before it is sent once more
    again_at_s = 0.0
    hops = 0  # how often it was sent elsewhere
    asked: Address | None = None  # where ASK sends it
    by: Address | None = None  # who refused it

    def __init__(
        self, packed: bytes, future: asyncio.Future[Any], deadline_s: float, slot: int | None, dispatcher: Dispatcher
    ) -> None:
        self.packed = packed
        self.future = future
        self.deadline_s = deadline_s
        self.slot = slot
        self.dispatcher = dispatcher

    def refused(self, reply: ReplyError, by: Address) -> None:
        """Have the reply judged."""
        self.dispatcher.refused(self, reply, by)

    def lost(self, why: str) -> None:
        """Go again."""
        self.dispatcher.again(self, why)

    def expire(self, now_s: float) -> None:
        """Give up when the time is up."""
        if self.deadline_s <= now_s:
            self.settle(Lost(self.why))
