"""A server that commands go to: one connection for most of them, some more for writes that replicas acknowledge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from understudy.errors import UnreachableError
from understudy.valkey.batched.clock import Clock
from understudy.valkey.batched.commit import AcknowledgedCall, Committer
from understudy.valkey.batched.connection import Connection
from understudy.valkey.batched.greeting import OPENS_WITHIN_S, Door
from understudy.valkey.batched.line import Line
from understudy.valkey.target import Address
from understudy.valkey.wire import Command, ReplyError


class Node(Line[Connection]):
    """Keeps the connections to one server, and knows its clock.

    `confirm` is waited for before a new connection is used; `tells_time` is false for a proxy, whose TIME is its own.
    """

    def __init__(
        self,
        door: Door,
        address: Address,
        changed: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
        *,
        tells_time: bool,
        ack_connections: int,
    ) -> None:
        self.clock = Clock()
        self._told = changed
        self._confirm = confirm
        self._ping: Command = ("TIME",) if tells_time else ("PING",)
        self._ack_connections = ack_connections
        self._committer: Committer | None = None
        super().__init__(door, address, Connection, self._turned, self._examine)

    def commit(self, call: AcknowledgedCall) -> None:
        """Send a call whose reply counts once replicas have acknowledged it."""
        if self._committer is None:
            self._committer = Committer(self._door, self.address, self._ack_connections)
        self._committer.send(call)

    async def _examine(self, connection: Connection, first: bool) -> None:
        sent_s = time.monotonic()
        try:
            async with asyncio.timeout(OPENS_WITHIN_S if first else None):  # later on, silence closes it
                (reply,) = await connection.ask(self._ping)
        except TimeoutError as error:
            raise UnreachableError(f"asking {self.address}", "no answer in time") from error
        if self._ping[0] == "TIME" and not isinstance(reply, ReplyError):
            self.clock.measure(sent_s, time.monotonic(), reply)
        if first:
            await self._confirm()

    def _turned(self) -> None:
        if self._committer and not self.connection:
            self._committer.abandon(f"{self.address} is not reachable")
            if self.leaving:
                self._committer.stop()
        self._told()

    @property
    def idle(self) -> bool:
        """Return whether nobody waits for anything here."""
        return (not self.connection or self.connection.idle) and (not self._committer or self._committer.idle)

    def tick(self, now_s: float) -> None:
        """Look at deadlines and silence."""
        super().tick(now_s)
        if self._committer:
            self._committer.tick(now_s)

    @property
    def ended(self) -> bool:
        """Return whether nothing of it runs any more."""
        return super().ended and (not self._committer or self._committer.ended)

    async def close(self) -> None:
        """End it."""
        await super().close()
        if self._committer:
            await self._committer.close()
