"""Waiting for something to become true, and saying what it was when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from understudy.errors import UnreachableError
from understudy.lab.server import LabNode, StartError

_POLL_S = 0.01


class Deadline:
    """A moment by which everything under way must be done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Return the seconds that are left, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def until(self, doing: str, holds: Callable[[], bool], watching: Iterable[LabNode] = ()) -> None:
        """Poll until `holds`; a server that is busy starting may refuse a connection meanwhile.

        Raises:
            StartError: time is up, or one of the servers being watched died.
        """
        watched = list(watching)
        last = ""
        while True:
            try:
                if holds():
                    return
            except UnreachableError as error:
                last = error.why
            for node in watched:
                if not node.alive:
                    raise StartError(
                        doing, f"{node.name} died:\n{node.last_words()}", "understudy logs shows the rest."
                    )
            if self.left_s == 0:
                why = f"not within {self.seconds:g} s" + (f" ({last})" if last else "")
                raise StartError(doing, why, "Look at the servers' logs: `understudy logs`.")
            time.sleep(_POLL_S)
