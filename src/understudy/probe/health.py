"""The health check: now and then by itself, and whenever somebody asks."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import anyio

from understudy.errors import UnderstudyError
from understudy.http.problem import TooManyError, TooSlowError
from understudy.pages.figures import count
from understudy.probe.arrangement import changes, look
from understudy.probe.clock import timestamp
from understudy.probe.connection import Connection
from understudy.probe.metrics import Metrics
from understudy.probe.ping import Ping, Pings, ping_fresh, ping_long_lived, silent
from understudy.probe.work import Pool, Work
from understudy.valkey.topology import Topology

KEPT = 20
_PING_WITHIN_S = 12.0
_LOOK_WITHIN_S = 8.0
log = logging.getLogger("understudy.probe")


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and what was found."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True)
class HealthCheck:
    """One health check. `at` is UTC, `took_ms` for all of it."""

    at: str
    healthy: bool
    took_ms: float
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Health:
    """The check that was just made, and the last ones, the newest first."""

    healthy: bool
    now: HealthCheck
    interval_ms: int
    last: tuple[HealthCheck, ...]


class HealthChecks:
    """Makes checks and remembers the last of them."""

    def __init__(self, connection: Connection, work: Work, metrics: Metrics, interval_ms: int) -> None:
        self._connection = connection
        self._work = work
        self._metrics = metrics
        self._interval_ms = interval_ms
        self._last: deque[HealthCheck] = deque(maxlen=KEPT)
        self._seen: Topology | None = None

    async def pings(self, pool: Pool = Pool.PINGS) -> Pings:
        """PING with both clients at once, and count it.

        Raises:
            TooManyError: as many are under way as may be; nothing is said about the servers then.
        """
        found: dict[str, Ping] = {}
        busy: list[TooManyError] = []

        async def one(name: str, act: Callable[[Connection], Ping]) -> None:
            try:
                found[name] = await self._work.do("pinging", partial(act, self._connection), _PING_WITHIN_S, pool)
            except TooManyError as error:
                busy.append(error)
            except TooSlowError as error:
                found[name] = silent(error.why)

        async with anyio.create_task_group() as group:
            group.start_soon(one, "long", ping_long_lived)
            group.start_soon(one, "fresh", ping_fresh)
        if busy:
            raise busy[0]
        both = Pings(found["long"], found["fresh"])
        self._metrics.pinged(both)
        return both

    async def check(self, pool: Pool = Pool.PINGS) -> Health:
        """Check now. Raises what `pings` does."""
        began = time.perf_counter()
        both = await self.pings(pool)
        seen = await self._look(pool)
        checks = (
            _of_ping("client", both.long_lived, stuck=both.stuck), _of_ping("fresh", both.fresh), _of_topology(seen),
        )  # fmt: skip
        if isinstance(seen, Topology):
            if self._seen and self._seen.mode is seen.mode:
                self._metrics.changed(changes(self._seen, seen))
            self._seen = seen
        healthy = all(one.ok for one in checks)
        took_s = time.perf_counter() - began
        self._metrics.checked(healthy, took_s, time.time())
        found = HealthCheck(timestamp(), healthy, round(took_s * 1000, 3), checks)
        if not self._last or self._last[0].healthy is not healthy:
            bad = [f"{one.name}: {one.text}" for one in checks if not one.ok]
            log.log(logging.INFO if healthy else logging.WARNING, "%s", "; ".join(bad) or "Redis answers: all is well.")
        self._last.appendleft(found)
        return Health(healthy, found, self._interval_ms, tuple(self._last))

    async def forever(self) -> None:
        """Check again and again, `interval_ms` from beginning to beginning."""
        while True:
            began = time.monotonic()
            await self.check(Pool.CHECKS)
            await anyio.sleep(max(0.0, began + self._interval_ms / 1000 - time.monotonic()))

    async def _look(self, pool: Pool) -> Topology | UnderstudyError:
        try:
            return await self._work.do("looking", partial(look, self._connection, self._seen), _LOOK_WITHIN_S, pool)
        except TooManyError:
            raise
        except UnderstudyError as error:
            return error


def _of_ping(name: str, ping: Ping, *, stuck: bool = False) -> Check:
    if ping.connected:
        return Check(name, True, f"PING answered after {ping.latency_ms:.1f} ms")
    return Check(name, False, f"{'stuck, while a fresh client works: ' if stuck else ''}{ping.why}")


def _of_topology(seen: Topology | UnderstudyError) -> Check:
    if isinstance(seen, UnderstudyError):
        return Check("topology", False, seen.why)
    down = [str(node.address) for node in seen.nodes if not node.healthy]
    note = f"; not healthy: {', '.join(down)}" if down else ""
    if seen.missing_slots:
        return Check("topology", False, f"{len(seen.missing_slots):,} slots are served by nobody{note}")
    ok = all(shard.primary and shard.primary.healthy for shard in seen.shards)
    return Check("topology", ok, f"{count(len(seen.nodes), 'server')}{note}")
