"""Run a command and measure it: seconds, and the memory of it and its children together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.02
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """Wall-clock seconds, and the highest sum of resident memory seen, in MiB (pages shared are counted twice)."""

    seconds: float
    peak_mib: float


def understudy(*words: str, env: dict[str, str]) -> Run:
    """Run the command line as a user does, and measure it."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy", *words],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _resident_mib(process.pid))
        time.sleep(_EVERY_S)
    seconds = time.perf_counter() - begun
    said = process.communicate()[0].decode()
    if process.returncode:
        raise SystemExit(f"understudy {' '.join(words)} failed:\n{said}")
    return Run(seconds, peak)


def cpu_s(pid: int) -> float:
    """Return the seconds of processor that a process has used so far (Linux only; 0 elsewhere)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(stat[11]) + int(stat[12])) / _TICKS_PER_S


def private_bytes(pid: int) -> int:
    """Return the memory that a process holds, without files that it has mapped (Linux only; 0 elsewhere)."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")


def _resident_mib(root: int) -> float:
    """Sum up a process and all its descendants (Linux only; 0 elsewhere)."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            pages[int(folder.name)] = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        parents[int(folder.name)] = int(stat[1])
    total = 0
    for pid, resident in pages.items():
        ancestor = pid
        while ancestor not in (root, 0, 1):
            ancestor = parents.get(ancestor, 0)
        total += resident if ancestor == root else 0
    return total * os.sysconf("SC_PAGESIZE") / (1 << 20)
