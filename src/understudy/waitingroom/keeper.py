"""Keeps every event going: calls whose turn it is, ends what has expired, and feeds the gauges from what it hears."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from understudy.errors import UnderstudyError
from understudy.valkey.batched import UnacknowledgedError
from understudy.waitingroom.check import FewReplicasError
from understudy.waitingroom.health import Health, in_words, refuses_writes
from understudy.waitingroom.metrics import Metrics
from understudy.waitingroom.paces import Paces
from understudy.waitingroom.room import Room
from understudy.waitingroom.values import Event, RefusalError

log = logging.getLogger("understudy.waitingroom")

BUSY_S = 0.1
QUIET_S = 1.0
ASLEEP_S = 5.0  # below BREAK_MS of `lua/shared.lua`, after which nobody counts as having looked
_LIST_EVERY_S = 3.0
_AGAIN_AFTER_S = 1.0
_CODE_EVERY_S = 3600.0
_MOST_EVENTS = 5000


class Keeper:
    """A loop for each event, and one that looks for new ones. Several gateways may do so: a tick is safe to repeat."""

    def __init__(self, room: Room, metrics: Metrics, paces: Paces, health: Health) -> None:
        self._room = room
        self._metrics = metrics
        self._paces = paces
        self._health = health
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._away: set[str] = set()  # events that cannot be looked after now; "" is all of them
        self._reason = ""  # that was told last of all of them
        self._too_many = False

    async def forever(self) -> None:
        """Keep going until cancelled."""
        looked_s = -_CODE_EVERY_S
        try:
            while True:
                problem: Exception | None = None
                try:
                    problem = await self._room.check()
                    self._health.found(problem)
                    if problem:
                        self._is_away("", problem)
                    events = await self._room.events()
                    for event in events:
                        self.keep(event, wake=False)
                    self._count(len(events))
                    if time.monotonic() - looked_s > _CODE_EVERY_S:  # behind it: one shard that is down fails this
                        await self._room.forget_unused_code()
                        self._warn_of_eviction(await self._room.evicting())
                        looked_s = time.monotonic()
                    if not problem:
                        self._is_back("")
                except Exception as error:  # noqa: BLE001 - it must survive whatever happens
                    problem = problem or error
                    self._health.found(problem)
                    self._is_away("", problem)
                await asyncio.sleep(_AGAIN_AFTER_S if problem else _LIST_EVERY_S)
        finally:
            for one in self._loops.values():
                one.cancel()
            await asyncio.gather(*self._loops.values(), return_exceptions=True)

    def keep(self, event: str, *, wake: bool = True) -> None:
        """Keep this event going from now on; where that is done already, look at it at once."""
        if event in self._loops:
            if wake:
                self._wakes[event].set()
        elif len(self._loops) < _MOST_EVENTS:
            self._wakes[event] = asyncio.Event()
            self._loops[event] = asyncio.create_task(self._keep(event))

    def heard(self, stands: Event) -> None:
        """Learn how an event stands."""
        self._paces.saw_event(stands)
        self._metrics.stands(stands)

    async def _keep(self, event: str) -> None:
        wake = self._wakes[event]
        try:
            while True:
                pause_s = QUIET_S
                try:
                    stands = await self._room.tick(event)
                    self._is_back(event)
                    self.heard(stands)
                    pause_s = _pause_s(stands)
                except RefusalError as error:
                    if error.code == "NO_EVENT":
                        self._is_back(event)
                        return
                    self._is_away(event, error)
                except Exception as error:  # noqa: BLE001 - it must survive whatever happens
                    self._is_away(event, error)
                wake.clear()
                try:
                    await asyncio.wait_for(wake.wait(), pause_s)
                    await asyncio.sleep(BUSY_S / 2)  # however often it is woken
                except TimeoutError:
                    pass
        finally:
            self._metrics.forget(event)
            self._paces.forget(event)
            del self._loops[event], self._wakes[event]

    def _warn_of_eviction(self, policies: Mapping[str, str]) -> None:
        for server, policy in policies.items():
            log.warning(
                "%s drops keys when its memory is full (maxmemory-policy %s): tickets and seats vanish. "
                "Set it to noeviction", server, policy,
            )  # fmt: skip

    def _count(self, events: int) -> None:
        if events > _MOST_EVENTS and not self._too_many:
            log.warning(
                "there are %d events, and a gateway looks after %d: in others nobody is called. Delete what is over",
                events, _MOST_EVENTS,
            )  # fmt: skip
        self._too_many = events > _MOST_EVENTS

    def _is_away(self, event: str, error: Exception) -> None:
        self._health.refused(error)
        if not self._away or (not event and self._is_news(error)):
            bug = "" if isinstance(error, UnderstudyError) else f"a bug: {type(error).__name__}: "
            what = f"nobody is called to {event}" if event else _what_stops(error)
            log.warning("%s as long as this lasts: %s%s", what, bug, error)
        if not event:
            self._reason = _reason(error)
        self._away.add(event)

    def _is_news(self, error: Exception) -> bool:
        """Return whether this is not what was told of all events, nor what passes and was told of one of them."""
        if self._reason:
            return _reason(error) != self._reason
        return not (isinstance(error, UnderstudyError) and error.retryable)

    def _is_back(self, event: str) -> None:
        """Note that an event is looked after, or is gone. It is said once all are: they may be on several servers."""
        if event in self._away:
            self._away.remove(event)
            if not self._away:
                self._reason = ""
                log.warning("the server answers again; people are called")


def _reason(error: Exception) -> str:
    """Return what makes an error another one: not its numbers, which come and go, but for those of replicas."""
    return str(error) if isinstance(error, FewReplicasError) else in_words(error)


def _what_stops(error: Exception) -> str:
    if isinstance(error, UnacknowledgedError):
        return "what is written is answered with 503, and nobody is called,"
    return "nobody can join" if refuses_writes(error) else "nobody is called"


def _pause_s(stands: Event) -> float:
    """Return how soon somebody may have to be called, or something may expire."""
    counts = stands.counts
    if (stands.state == "open" and counts.waiting) or counts.admitted or counts.inside or counts.held:
        return BUSY_S
    return QUIET_S if stands.state in ("open", "paused") or counts.waiting else ASLEEP_S
