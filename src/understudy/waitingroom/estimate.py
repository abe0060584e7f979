"""How long until a place in the line is called: by the rate that is set, and by the one seen in fact."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
ENOUGH_S = 5.0  # less says more about the burst than about the rate
_APART_S = 1.0


class Pace:
    """How many were called, over the last minute. Only a line in which people waited all the time shows a rate."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._set: tuple[str, float] = ("", 0.0)

    @property
    def state(self) -> str:
        """Return the event's state when last seen; empty where it never was."""
        return self._set[0]

    @property
    def rate_per_s(self) -> float:
        """Return the rate that was set when last seen."""
        return self._set[1]

    def saw(self, now_s: float, state: str, rate_per_s: float, called: int, waiting: int) -> None:
        """Note how an event stood; `now_s` never goes back."""
        samples = self._samples
        if (state, rate_per_s) != self._set or not waiting or (samples and called < samples[-1][1]):
            self._set = (state, rate_per_s)
            samples.clear()
        if not samples or now_s - samples[-1][0] >= _APART_S:
            samples.append((now_s, called))
        while now_s - samples[0][0] > WINDOW_S:
            samples.popleft()

    def seen_per_s(self) -> float | None:
        """Return the rate in fact, or None where it was not watched for long enough."""
        if not self._samples:
            return None
        (began_s, first), (ended_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (ended_s - began_s) if ended_s - began_s >= ENOUGH_S else None


def seconds_until_called(position: int, state: str, rate_per_s: float, seen_per_s: float | None = None) -> float | None:
    """Return the seconds until a position is called; None where nobody is called: paused, closed, or a rate of 0.

    It is slower than the rate that is set where not all who are called find room (`max_inside`): what was seen counts.
    """
    if position <= 0:
        return 0.0
    rate = rate_per_s if seen_per_s is None else min(rate_per_s, seen_per_s)
    if state != "open" or rate <= 0:
        return None
    return round(position / rate, 1)
