"""What is known of one shard's archiving, for metrics, the line of status and the log; and troubles, told once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from understudy.errors import UnderstudyError

_AGAIN_S = 60.0
Say = Callable[[str], None]


@dataclass
class Meter:
    """Numbers of one shard. Each is written by one thread; `None`: not known yet.

    Attributes:
        exact_ms: the last end of a second at which the copy had everything in time.
        shipped_ms: up to which moment the repository can give the shard back.
        lag_bytes, lag_ms: how far behind the copy was at the last look, and how long it took to catch up.
        ahead_ms: how far the primary's clock is ahead of ours.
    """

    shard: str
    primary: str = ""
    connected: bool = False
    exact_ms: int | None = None
    shipped_ms: int | None = None
    last_put_s: float | None = None
    lag_bytes: int = 0
    lag_ms: int = 0
    ahead_ms: float = 0.0
    shipped_bytes: int = 0
    held_bytes: int = 0
    gaps: int = 0
    missed_seconds: int = 0
    streams: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Troubles:
    """Says each trouble when it begins, again after a minute, and when it is over; and counts it."""

    def __init__(self, meter: Meter | None, say: Say, who: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter, self._say, self._who, self._clock = meter, say, who, clock
        self._lock = threading.Lock()
        self._said: dict[str, tuple[str, float]] = {}

    def have(self, what: str, error: UnderstudyError | str) -> None:
        """Tell of a trouble; `what` is its kind: following, shipping, …"""
        text = str(error)
        if isinstance(error, UnderstudyError) and error.hint:
            text = f"{text}. Try: {error.hint}"
        with self._lock:
            if self._meter:
                self._meter.errors[what] = self._meter.errors.get(what, 0) + 1
            before = self._said.get(what)
            now = self._clock()
            if before and before[0] == text and now - before[1] < _AGAIN_S:
                return
            self._said[what] = (text, now)
        self._say(f"{self._who}: trouble with {what}: {text}")

    def over(self, what: str) -> None:
        """Tell that it is over, if it was told of."""
        with self._lock:
            if self._said.pop(what, None) is None:
                return
        self._say(f"{self._who}: {what} works again.")

    @property
    def any(self) -> list[str]:
        """Return what there is, in words."""
        with self._lock:
            return [text for text, _ in self._said.values()]
