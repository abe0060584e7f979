"""Whether the servers do what a gateway asks of them, and if not, why: in words that anybody may read."""

from __future__ import annotations

import time
from collections.abc import Callable

from understudy.errors import NotAuthorisedError, UnderstudyError, UnreachableError, UsageError
from understudy.valkey.batched import UnacknowledgedError

REMEMBERED_S = 10.0
_NOT_ASKED = "the servers do not answer, or not all of them"
_NO_WRITES = ("OOM ", "MISCONF ", "NOREPLICAS ")  # as a server says so, or as it is quoted


class Health:
    """What the last look at all primaries found; and for a while, that a request was refused for what goes for all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found = _NOT_ASKED
        self._refused = ""
        self._until_s = 0.0

    def found(self, error: Exception | None) -> None:
        """Take what a look found: nothing, or what is wrong."""
        self._found = _for_operators(error) if error else ""

    def refused(self, error: Exception) -> None:
        """Take an error of one operation. What concerns one event only is none of ours."""
        if isinstance(error, NotAuthorisedError) or refuses_writes(error):
            self._refused, self._until_s = _for_operators(error), self._clock() + REMEMBERED_S

    @property
    def why(self) -> str:
        """Return why requests cannot be served, empty where they can."""
        return self._found or (self._refused if self._clock() < self._until_s else "")


def refuses_writes(error: Exception) -> bool:
    """Return whether the server takes no writes: its memory or its disk is full, or it has too few replicas."""
    return isinstance(error, UnderstudyError) and any(sign in error.why for sign in _NO_WRITES)


def in_words(error: Exception) -> str:
    """Return why something cannot be done, for anybody: no address, no user, nothing that the server said."""
    if refuses_writes(error):
        return "the server refuses writes now"
    if isinstance(error, UnacknowledgedError):
        return "too few replicas acknowledged it in time"
    if isinstance(error, UnreachableError):
        return "the server did not answer in time"
    if isinstance(error, NotAuthorisedError):
        return "the server refuses this gateway's user, or something that the user needs"
    if isinstance(error, UsageError):
        return "this gateway is not set up for its servers"
    return "the server refuses what it is asked"


def _for_operators(error: Exception) -> str:
    """Return the same, with the word of the server to look up: `WRONGPASS`, `OOM`."""
    if isinstance(error, UnreachableError) and not isinstance(error, UnacknowledgedError):
        return in_words(error) if refuses_writes(error) else _NOT_ASKED
    why = error.why if isinstance(error, UnderstudyError) else ""
    if isinstance(error, UsageError):
        return f"{in_words(error)}: {why}"
    word = why.partition(" ")[0]
    return f"{in_words(error)} ({word})" if word.isupper() and word.isalpha() else in_words(error)
