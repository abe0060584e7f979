"""Programs of PostgreSQL that we run: none of them outlives us, and none has a secret in its arguments."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from understudy.lab.guardian import identify
from understudy.lab.temporary import Guardian

_GOES_WITHIN_S = 3.0
_MOST_COMPLAINTS_BYTES = 4 << 20


@dataclass
class Child:
    """One program: its process, and where it writes what it complains about."""

    process: subprocess.Popen[bytes]
    _complaints: IO[bytes]

    def complaints(self) -> str:
        """Return what it wrote to standard error."""
        self._complaints.seek(0)
        return self._complaints.read(_MOST_COMPLAINTS_BYTES).decode(errors="replace")

    def end(self) -> None:
        """Ask it to end, which takes its workers and its queries along; kill what does not."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(_GOES_WITHIN_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._complaints.close()


@dataclass
class Children:
    """What runs, and a directory of its own that only we can enter. `env` is what every program gets."""

    directory: Path
    env: Mapping[str, str]
    _guardian: Guardian
    _running: list[Child] = field(default_factory=list)

    def start(self, argv: Sequence[str | Path], **pipes: Any) -> Child:
        """Start a program; its input is empty and its output goes nowhere unless `pipes` say otherwise."""
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its child
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **pipes}
        process = subprocess.Popen(
            [*map(str, argv)], stderr=complaints, env=dict(self.env), start_new_session=True, umask=0o077, **given
        )
        if named := identify(process.pid):
            self._guardian.watch(named, asks=True)
        child = Child(process, complaints)
        self._running.append(child)
        return child

    def output(self, argv: Sequence[str | Path]) -> tuple[int, bytes, str]:
        """Run a program to its end; return its code, what it wrote, and what it complained about."""
        child = self.start(argv, stdout=subprocess.PIPE)
        data = child.process.stdout.read() if child.process.stdout else b""
        return child.process.wait(), data, child.complaints()


@contextlib.contextmanager
def children(env: Mapping[str, str] | None = None) -> Iterator[Children]:
    """Give a place to run programs from; whatever still runs at its end is ended, also when we are killed."""
    place = _short_directory()
    guardian = Guardian(place)
    running = Children(place, dict(os.environ if env is None else env), guardian)
    try:
        yield running
    finally:
        for child in running._running:
            child.end()
        guardian.end()  # removes the directory too


def _short_directory() -> Path:
    """Return a new directory whose name leaves room for a socket's in it."""
    place = tempfile.mkdtemp(prefix="understudy-")
    if len(place) > 80:
        Path(place).rmdir()
        place = tempfile.mkdtemp(prefix="understudy-", dir="/tmp")
    return Path(place)


def until_done(child: Child, every_s: float = 0.2) -> Iterator[None]:
    """Yield now and then until the program has ended."""
    pause_s = 0.005
    while child.process.poll() is None:
        yield
        deadline = time.monotonic() + pause_s
        while child.process.poll() is None and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.02))
        pause_s = min(pause_s * 2, every_s)
