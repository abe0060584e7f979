"""Callers of a `BatchedClient` that go on while a test does something to the servers, and what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from understudy.errors import UnreachableError
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Target

SLACK_S = 3.0  # how late the loop of a loaded machine may be


@asynccontextmanager
async def started(target: Target, **options: int) -> AsyncIterator[BatchedClient]:
    """A client that is closed at the end, and whose loop is left without a task of it."""
    before = asyncio.all_tasks()
    client = BatchedClient(target, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.close()
        assert asyncio.all_tasks() <= before


@dataclass
class Load:
    """Callers that each write a rising number to a key of their own, again and again."""

    client: BatchedClient
    callers: int = 40
    within_s: float = 2.0
    acknowledged_by: int = 0
    names: str = "load:{{{caller}}}"
    written: dict[str, int] = field(default_factory=dict)  # the last number that was answered with OK
    tried: dict[str, int] = field(default_factory=dict)
    answered: int = 0
    errors: list[UnreachableError] = field(default_factory=list)
    longest_s: float = 0.0
    _over: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Run until the block ends; every key has been written once before it begins, and once more after it."""
        async with asyncio.TaskGroup() as group:
            for caller in range(self.callers):
                group.create_task(self._call(self.names.format(caller=caller)))
            await self.progress()
            yield self
            await self.progress()
            self._over = True

    async def progress(self, within_s: float = 20.0) -> None:
        """Wait until each caller has succeeded once more with a call that it had not begun yet."""
        floor = dict(self.tried)
        async with asyncio.timeout(within_s):
            while len(self.written) < self.callers or any(
                number <= floor.get(key, 0) for key, number in self.written.items()
            ):
                await asyncio.sleep(0.02)

    async def _call(self, key: str) -> None:
        number = 0
        while not self._over:
            number += 1
            self.tried[key] = number
            begun_s = time.monotonic()
            try:
                reply = await self.client.execute(
                    ("SET", key, number), key, within_s=self.within_s, acknowledged_by=self.acknowledged_by
                )
                assert reply == b"OK"
                self.written[key] = number
                self.answered += 1
            except UnreachableError as error:
                self.errors.append(error)
            self.longest_s = max(self.longest_s, time.monotonic() - begun_s)

    async def check_nothing_is_lost(self) -> None:
        """Every number that was answered with OK, or a later one, is there."""
        for key, number in self.written.items():
            found = await self.client.execute(("GET", key), key, within_s=10.0)
            assert found is not None, key
            assert number <= int(found) <= self.tried[key], key

    def check_deadlines(self) -> None:
        """Nobody waited longer than asked."""
        assert self.longest_s < self.within_s + SLACK_S
