"""A connection that comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Generic

from understudy.errors import UnderstudyError
from understudy.valkey.batched.greeting import AnyConnection, Door
from understudy.valkey.target import Address

AGAIN_AFTER_S = 0.15
CHECK_EVERY_S = 1.0
_CLOSED = "the client was closed"
_LEFT = "it is no primary any more"


class Line(Generic[AnyConnection]):
    """Keeps one connection to a server; `trouble` is why there is none, once a try has failed.

    `check` runs before the connection is used, and every `CHECK_EVERY_S` while it is; `changed` is called when it comes
    up, when it goes, and when a try failed.
    """

    def __init__(
        self,
        door: Door,
        address: Address,
        make: Callable[[Address], AnyConnection],
        changed: Callable[[], None],
        check: Callable[[AnyConnection, bool], Awaitable[None]] | None = None,
    ) -> None:
        self.address = address
        self.connection: AnyConnection | None = None
        self.trouble: UnderstudyError | None = None
        self.leaving = False
        self._door = door
        self._make = make
        self._changed = changed
        self._check = check
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.leaving:
            connection = self._make(self.address)
            begun_s = loop.time()
            try:
                await self._door.open(self.address, connection)
                if self._check:
                    await self._check(connection, True)
            except UnderstudyError as error:
                self.trouble = error
                connection.close(error.why)
                self._changed()
            except BaseException:
                connection.close(_CLOSED)
                await connection.gone
                raise
            else:
                await self._use(connection)
            if loop.time() - begun_s < CHECK_EVERY_S or self.trouble:
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _use(self, connection: AnyConnection) -> None:
        def closed() -> None:
            self.connection = None
            self._changed()

        if connection.why:
            return
        connection.on_close = closed
        self.connection, self.trouble = connection, None
        self._changed()
        try:
            while not connection.why:
                await asyncio.wait([connection.gone], timeout=CHECK_EVERY_S)
                if self._check and not connection.why:
                    with contextlib.suppress(UnderstudyError):  # it is closed then
                        await self._check(connection, False)
        finally:
            connection.close(_CLOSED)
            await connection.gone

    @property
    def idle(self) -> bool:
        """Return whether nobody waits for anything here."""
        return not self.connection or self.connection.idle

    def tick(self, now_s: float) -> None:
        """Look at deadlines and silence; end a line that is leaving once nobody waits there."""
        if connection := self.connection:
            connection.tick(now_s)
            if self.leaving and self.idle:
                connection.close(_LEFT)

    def leave(self, *, at_once: bool) -> None:
        """Do not connect again, and close when nobody waits any more, or at once: then calls are sent elsewhere."""
        self.leaving = True
        if at_once and self.connection:
            self.connection.close(_LEFT)
        if not self.connection:
            self._task.cancel()

    def drop(self, why: str) -> None:
        """Close the connection, and connect again."""
        if self.connection:
            self.connection.close(why)

    @property
    def ended(self) -> bool:
        """Return whether nothing of it runs any more."""
        return self._task.done()

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait([self._task])
