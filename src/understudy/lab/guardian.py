"""A process by pid and start time, so that a recycled pid is never killed; and the guardian that ends a lab.

The guardian is this file run as a program. It holds the read end of a pipe whose other end its owner holds;
when the owner says `end`, or dies in whatever way, the pipe closes and everything noted on it is ended. It
imports the standard library only and is started by its path, so that it is watching within milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

_GONE_WITHIN_S = 10.0
_QUITS_WITHIN_S = 5.0
_POLL_S = 0.005


class Process(NamedTuple):
    """A process: its pid, and when it started as the operating system tells it (an opaque text)."""

    pid: int
    started: str


@cache
def _boot() -> str:
    """Return what tells this boot from another: start times count from it and could repeat."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str] | None:
    """Return state letter and start time of a process, or None where there is none."""
    if sys.platform == "linux":
        try:
            # The name, in parentheses, may hold anything; the numbered fields begin after it (see proc(5)).
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return fields[0], f"{_boot()}:{fields[19]}"
    asked = subprocess.run(
        ["ps", "-o", "state=", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, started = asked.stdout.strip().partition(" ")
    return (state[:1], started.strip()) if started else None


def identify(pid: int) -> Process | None:
    """Return the process that has this pid now; None where there is none."""
    stat = _stat(pid)
    return Process(pid, stat[1]) if stat else None


def state(process: Process) -> str:
    """Return `running`, `paused` or `dead`; a zombie is dead, and so is a pid that went to another process."""
    stat = _stat(process.pid)
    if stat is None or stat[1] != process.started or stat[0] in "ZX":
        return "dead"
    return "paused" if stat[0] in "Tt" else "running"


def send(process: Process, number: int) -> bool:
    """Send a signal to exactly this process; False when it is gone."""
    if state(process) == "dead":
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def await_gone(processes: Iterable[Process], within_s: float) -> list[Process]:
    """Wait until the processes are gone; return those that are still there when time is up."""
    deadline = time.monotonic() + within_s
    left = list(processes)
    while left := [process for process in left if state(process) != "dead"]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return left


def kill_all(processes: Iterable[Process]) -> list[Process]:
    """SIGKILL the processes and wait; return those that would not go."""
    told = [process for process in processes if send(process, signal.SIGKILL)]
    return await_gone(told, _GONE_WITHIN_S)


def _watch(lines: Iterable[str]) -> None:
    processes: list[Process] = []
    asked: list[Process] = []
    directories: list[str] = []
    for line in lines:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word in {"process", "quit"}:
            pid, _, started = rest.partition(" ")
            (processes if word == "process" else asked).append(Process(int(pid), started))
        elif word == "directory":
            directories.append(rest)
        elif word == "end":
            break
    # PostgreSQL, told so, ends its children and gives its shared memory back, which killed it could not
    left = await_gone([process for process in asked if send(process, signal.SIGQUIT)], _QUITS_WITHIN_S)
    kill_all([*processes, *left])
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError, OSError):
            signal.signal(_number, signal.SIG_IGN)
    _watch(sys.stdin)
