"""Who is primary now? Asked of several servers, each at its own pace, so that one that is stopped holds up nobody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container

from understudy.errors import UnderstudyError
from understudy.valkey.batched.connection import Connection
from understudy.valkey.batched.greeting import OPENS_WITHIN_S, Door
from understudy.valkey.batched.sight import ClusterSight, SentinelSight, ask_mode
from understudy.valkey.target import Address, Mode, Target

_EVERY_S = {Mode.SENTINEL: 1.0, Mode.OSS_CLUSTER: 2.0}
_SOONEST_S = 0.2  # between two looks while something is wrong
_MOST_ASKED = 8  # servers at once


class Watch:
    """Keeps looking at the topology, and calls `changed` when something is owned by another server.

    `refusal` is why nothing is known, where trying again does not help; `connected` are the servers that answer us.
    """

    def __init__(
        self, target: Target, door: Door, connected: Callable[[], Container[Address]], changed: Callable[[], None]
    ) -> None:
        self.mode = target.mode
        self.refusal: UnderstudyError | None = None
        self.cluster = ClusterSight()
        self.sentinels = SentinelSight(target)
        self._target = target
        self._door = door
        self._sentinel_door = Door(
            Target(target.seeds, Mode.SENTINEL, None, target.sentinel_password, target.tls)
        )  # the data's user and password are not the sentinels'
        self._connected = connected
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._unasked = deque(target.seeds)
        self._pollers: list[asyncio.Task[None]] = []
        self._wanted = True
        self._woken_s = 0.0
        self._wake: asyncio.Future[None] = self._loop.create_future()
        self._awaiting: list[tuple[float, asyncio.Future[None]]] = []
        self._add_pollers()

    @property
    def owners(self) -> list[Address | None]:
        """Return the owner of each slot of a cluster; elsewhere the one primary, or None."""
        if self.mode is Mode.OSS_CLUSTER:
            return self.cluster.owners.by_slot
        if self.mode is Mode.SENTINEL:
            return [self.sentinels.primary]
        return [None if self.mode is Mode.AUTO else self._target.seeds[0]]

    def trouble(self) -> None:
        """Look again soon: something is not as it was."""
        self._wanted = True

    def tick(self) -> None:
        """Have everyone look who does not look already, if somebody wants it."""
        if self._wanted and self._loop.time() >= self._woken_s + _SOONEST_S:
            self._wanted, self._woken_s = False, self._loop.time()
            self._wake.set_result(None)
            self._wake = self._loop.create_future()

    async def confirm(self) -> None:
        """Return once somebody answered a question that was asked after this call, or nobody did for a while."""
        self._wanted = True
        answered: asyncio.Future[None] = self._loop.create_future()
        self._awaiting.append((self._loop.time(), answered))
        await asyncio.wait([answered], timeout=OPENS_WITHIN_S)

    async def close(self) -> None:
        """End it."""
        for poller in self._pollers:
            poller.cancel()
        if self._pollers:
            await asyncio.wait(self._pollers)

    def _add_pollers(self) -> None:
        if self.mode in (Mode.STANDALONE, Mode.ENTERPRISE):
            return
        while self._unasked and len(self._pollers) < _MOST_ASKED:
            self._pollers.append(asyncio.create_task(self._poll(self._unasked.popleft())))

    async def _poll(self, address: Address) -> None:
        """Ask one server for as long as it answers, then another one."""
        connection: Connection | None = None
        try:
            while True:
                wake = self._wake
                try:
                    async with asyncio.timeout(OPENS_WITHIN_S):
                        if connection is None or connection.why:
                            connection = await self._open(address)
                        if not await self._look(connection):
                            return  # there is nothing to look at
                except (UnderstudyError, TimeoutError) as error:
                    self._failed(address, error)
                    if connection:
                        connection.close("it was asked in vain")
                    self._unasked.append(address)
                    address = self._unasked.popleft()
                await asyncio.wait([wake], timeout=_EVERY_S.get(self.mode, _SOONEST_S))
        finally:
            if connection:
                connection.close("the client was closed")
                await connection.gone

    async def _open(self, address: Address) -> Connection:
        door = self._sentinel_door if self.mode is Mode.SENTINEL else self._door
        return await door.open(address, Connection(address))

    async def _look(self, connection: Connection) -> bool:
        asked_s = self._loop.time()
        if self.mode is Mode.AUTO:
            mode = await ask_mode(connection)
            if self.mode is Mode.AUTO:
                self.mode = mode
                self._changed()
        if self.mode is Mode.OSS_CLUSTER:
            changed = await self.cluster.look(connection, self._connected())
            for address in self.cluster.new:
                self._unasked.append(address)
            self.cluster.new.clear()
            self._add_pollers()
        elif self.mode is Mode.SENTINEL:
            changed = await self.sentinels.look(connection, self._connected())
        else:
            return False
        self.refusal = None
        for since_s, answered in self._awaiting:
            if asked_s >= since_s and not answered.done():
                answered.set_result(None)
        self._awaiting = [one for one in self._awaiting if not one[1].done()]
        if changed:
            self._changed()
        return True

    def _failed(self, address: Address, error: UnderstudyError | TimeoutError) -> None:
        self.sentinels.unheard(address)
        if isinstance(error, UnderstudyError) and not error.retryable:
            self.refusal = error
            self._changed()
