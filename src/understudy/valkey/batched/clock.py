"""What time it is on a server, told without asking it each time."""

from __future__ import annotations

import time

from understudy.valkey.wire import Reply

_FORGETS = 1.05  # a measurement counts for less with each later one: clocks drift


class Clock:
    """The offset between a server's clock and our monotonic one, from answers to TIME; until then our own clock."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()
        self._doubt_s = float("inf")  # the time went by somewhere between sending and hearing

    def measure(self, sent_s: float, heard_s: float, reply: Reply) -> None:
        """Take in an answer to TIME: the surest counts, unless the clock was set in the meantime."""
        seconds, micros = reply
        offset_s = int(seconds) + int(micros) / 1e6 - (sent_s + heard_s) / 2
        doubt_s = (heard_s - sent_s) / 2
        self._doubt_s *= _FORGETS
        if doubt_s <= self._doubt_s or abs(offset_s - self._offset_s) > doubt_s + self._doubt_s:
            self._offset_s, self._doubt_s = offset_s, doubt_s

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return int((time.monotonic() + self._offset_s) * 1000)
