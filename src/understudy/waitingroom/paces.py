"""The pace of each event's line, kept while the gateway lives: from what it sees anyway, whoever asked for it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from understudy.waitingroom.estimate import Pace, seconds_until_called
from understudy.waitingroom.values import Event, Place, State

GONE: frozenset[State] = frozenset({"ended", "left", "expired", "abandoned", "aged", "done"})
_MOST = 1000


class Paces:
    """A `Pace` for each event; that of the one seen longest ago is forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    def saw_place(self, stands: Place) -> None:
        """Learn from a place."""
        self._of(stands.event_id).saw(
            self._clock(), stands.event_state, stands.rate_per_s, stands.called, stands.waiting
        )

    def saw_event(self, stands: Event) -> None:
        """Learn from an event."""
        self._of(stands.event_id).saw(
            self._clock(), stands.state, stands.settings.rate_per_s, stands.counts.called, stands.counts.waiting
        )

    def estimate(self, stands: Place) -> float | None:
        """Return the seconds until this ticket's turn; None where it has none any more."""
        if stands.state in GONE:
            return None
        seen = self._of(stands.event_id).seen_per_s()
        return seconds_until_called(stands.position, stands.event_state, stands.rate_per_s, seen)

    def estimate_at(self, event: str, position: int, rate_per_s: float | None = None) -> float | None:
        """Return the seconds until a position is called, where only that is known: as the event was last seen."""
        pace = self._of(event)
        rate = pace.rate_per_s if rate_per_s is None else rate_per_s
        return seconds_until_called(position, pace.state or "open", rate, pace.seen_per_s())

    def forget(self, event: str) -> None:
        """Forget an event."""
        self._paces.pop(event, None)

    def _of(self, event: str) -> Pace:
        pace = self._paces.get(event)
        if pace is None:
            pace = self._paces[event] = Pace()
            if len(self._paces) > _MOST:
                self._paces.popitem(last=False)
        return pace
