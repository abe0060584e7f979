"""Long requests beside the thread that waits for them: it goes on telling how far, and can be ended at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from understudy.progress import Progress

_LOOK_EVERY_S = 0.1
_GRACE_S = 2.0
Result = TypeVar("Result")


class Stopped(Exception):  # noqa: N818 - no error: somebody else's ended the work
    """Ends the thread of work that nobody waits for any more."""


class Beat:
    """What work tells: call it with every amount done. It raises `Stopped` once nobody waits any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._over = False
        self._wake: Callable[[], None] | None = None

    def __call__(self, amount: int) -> None:
        """Report that so much more is done."""
        with self._lock:
            if self._over:
                raise Stopped
            self._done += amount

    def on_stop(self, wake: Callable[[], None]) -> None:
        """Name what wakes the work where it waits for somebody else."""
        with self._lock:
            self._wake = wake

    def taken(self) -> int:
        """Return what was done since this was asked last."""
        with self._lock:
            done, self._done = self._done, 0
        return done

    def stop(self) -> None:
        """End the work at its next beat."""
        with self._lock:
            self._over, wake = True, self._wake
        if wake:
            wake()


class Beside(Generic[Result]):
    """Runs work in a thread of its own. Leaving the block ends it; an exception there does so at once."""

    def __init__(self, work: Callable[[Beat], Result]) -> None:
        self._work = work
        self._beat = Beat()
        self._ended = threading.Event()
        self._results: list[Result] = []
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()  # a server that never answers must not keep us
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beat.stop()
        self._ended.wait(_GRACE_S)

    def _run(self) -> None:
        try:
            self._results.append(self._work(self._beat))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        finally:
            self._ended.set()

    def wait(self, progress: Progress) -> Result:
        """Return the result, and tell the progress meanwhile; raises what the work or the progress raises."""
        while not self._ended.wait(_LOOK_EVERY_S):
            progress.advance(self._beat.taken())
        progress.advance(self._beat.taken())
        if self._error:
            raise self._error
        return self._results[0]

    def outcome(self, within_s: float) -> Result | None:
        """Return the result if it comes within this time; None where it does not, or the work failed."""
        self._ended.wait(within_s)
        return self._results[0] if self._results else None

    def stop(self) -> None:
        """End the work at its next beat; what it waits for meanwhile is woken where that is possible."""
        self._beat.stop()

    @property
    def ended(self) -> bool:
        """Tell whether the work is over."""
        return self._ended.is_set()
