"""How far: one narrow port for long work, a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import copy
import sys
import threading
import time
from contextlib import AbstractContextManager
from typing import Any, Protocol, TextIO

_LINE_EVERY_S = 5.0


class Progress(Protocol):
    """What long work tells; safe to call from several threads."""

    def begin(self, what: str, total: int | None, unit: str) -> None:
        """Start a stage of `total` units; None where nobody knows how many."""

    def advance(self, amount: int) -> None:
        """Report that so many more units are done."""

    def end(self) -> None:
        """End the stage."""

    def say(self, text: str) -> None:
        """Tell something that is not a number."""

    def beside(self) -> Progress:
        """Return one more of the same, for work that goes on at the same time and has its own stages."""


class Silent:
    """Tells nothing: for code that calls us, and for `--json`."""

    def begin(self, what: str, total: int | None, unit: str) -> None:
        """Ignore it."""

    def advance(self, amount: int) -> None:
        """Ignore it."""

    def end(self) -> None:
        """Ignore it."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def beside(self) -> Progress:
        """Tell nothing of that either."""
        return self


def _so_far(done: int, rate: float, unit: str) -> str:
    """Return an amount and its rate, bytes as MiB."""
    if unit == "bytes":
        return f"{done / (1 << 20):,.1f} MiB, {rate / (1 << 20):,.1f} MiB/s"
    return f"{done:,} {unit}, {rate:,.0f}/s"


class Lines:
    """Plain lines, at most one every few seconds: for logs, cron and CI."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def begin(self, what: str, total: int | None, unit: str) -> None:
        """Start a stage."""
        self._what, self._total, self._unit = what, total, unit
        self._done, self._began = 0, time.monotonic()
        self._next = self._began + _LINE_EVERY_S

    def advance(self, amount: int) -> None:
        """Print a line if the last one is long enough ago."""
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _LINE_EVERY_S
                self._line(now)

    def _line(self, now: float) -> None:
        spent_s = max(now - self._began, 1e-6)
        rate = self._done / spent_s
        text = f"{self._what}: {_so_far(self._done, rate, self._unit)}"
        if self._total and self._done > 0:
            left_s = max(self._total - self._done, 0) / max(rate, 1e-6)
            text += f", {min(100 * self._done // self._total, 100)} %, about {left_s:.0f} s left"
        print(text, file=self._out, flush=True)

    def end(self) -> None:
        """Say nothing: the command reports the result."""

    def say(self, text: str) -> None:
        """Print it."""
        print(text, file=self._out, flush=True)

    def beside(self) -> Progress:
        """Print lines of its own."""
        return Lines(self._out)


class Bar:
    """A bar with rate and remaining time."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - drawing costs start-up time only where it is seen
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(), console=Console(file=out), transient=True,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._task: Any = None

    def begin(self, what: str, total: int | None, unit: str) -> None:
        """Show a bar."""
        self._unit, self._done, self._began = unit, 0, time.monotonic()
        self._task = self._progress.add_task(what, total=total, count="")
        self._progress.start()

    def advance(self, amount: int) -> None:
        """Move it."""
        with self._lock:
            self._done += amount
            rate = self._done / max(time.monotonic() - self._began, 1e-3)
            self._progress.update(self._task, advance=amount, count=_so_far(self._done, rate, self._unit))

    def end(self) -> None:
        """Take it away."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
            if not self._progress.tasks:
                self._progress.stop()

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def beside(self) -> Progress:
        """Show a bar below this one."""
        other = copy.copy(self)
        other._lock, other._task = threading.Lock(), None
        return other


def for_terminal(quiet: bool = False) -> Progress:
    """Return what fits standard error: a bar on a terminal, lines elsewhere, nothing where quiet is asked."""
    if quiet:
        return Silent()
    return Bar(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)


class stage(AbstractContextManager[None]):  # noqa: N801 - reads as a statement: `with stage(…):`
    """One stage of work: begins on entry, ends in every case."""

    def __init__(self, progress: Progress, what: str, total: int | None, unit: str) -> None:
        self._progress = progress
        self._arguments = (what, total, unit)

    def __enter__(self) -> None:
        self._progress.begin(*self._arguments)

    def __exit__(self, *_: object) -> None:
        self._progress.end()
