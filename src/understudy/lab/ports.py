"""Which ports are free, who has one that is not, and blocks of free ones for labs inside Python."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from understudy.errors import RefusedError
from understudy.lab.layout import BLOCK, HOST

# The blocks end where the bus ports, 10,000 above, begin: a bus must not take a port of another block. And all of
# them are below the ports that Linux and macOS give to outgoing connections.
_FIRST, _LAST = 10_000, 20_000
# Servers that are no lab have neither a bus nor nodes to come: many small blocks, above the last bus port.
_FIRST_FEW, _LAST_FEW, FEW = 30_000, 32_760, 10


def taken(port: int) -> bool:
    """Return whether somebody listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    if sys.platform == "linux":
        return False
    # Elsewhere binding this address succeeds beside a listener on all addresses.
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def holder(port: int) -> str:
    """Return who listens on a port, as `redis-server (pid 17)`; empty where the system does not tell."""
    return _holder_on_linux(port) if sys.platform == "linux" else _holder_by_lsof(port)


def _holder_on_linux(port: int) -> str:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{columns[9]}]")
    for directory in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(entry) in inodes for entry in os.scandir(directory)):  # noqa: PTH115 - not a path
                name = (directory.parent / "comm").read_text().strip()
                return f"{name} (pid {directory.parent.name})"
        except OSError:
            continue
    return ""


def _holder_by_lsof(port: int) -> str:
    if not shutil.which("lsof"):
        return ""
    asked = subprocess.run(
        ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"], capture_output=True, text=True, check=False
    )
    said = {line[0]: line[1:] for line in asked.stdout.splitlines() if line}
    return f"{said['c']} (pid {said['p']})" if {"c", "p"} <= said.keys() else ""


class Block:
    """A block of ports that no other lab of this user gets while it is held; freed when its holder dies."""

    def __init__(self, first: int, descriptor: int) -> None:
        self.first = first
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the block back; harmless to repeat."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def claim_few(count: int = 1) -> Block:
    """Return a small block of which the first `count` ports (at most `FEW`) are free: for a server that is no lab.

    Raises:
        RefusedError: every block is held or has a taken port.
    """
    return _claim(range(count), range(_FIRST_FEW, _LAST_FEW, FEW))


def claim(offsets: Iterable[int]) -> Block:
    """Return a lab's block, in which the ports at these offsets are free.

    Raises:
        RefusedError: every block is held or has a taken port.
    """
    return _claim(list(offsets), range(_FIRST, _LAST, BLOCK))


def _claim(wanted: Sequence[int], firsts: range) -> Block:
    locks = Path(tempfile.gettempdir()) / f"understudy-ports-{os.getuid()}"
    locks.mkdir(mode=0o700, exist_ok=True)
    for first in random.SystemRandom().sample(firsts, len(firsts)):
        descriptor = os.open(locks / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        if not any(taken(first + offset) for offset in wanted):
            return Block(first, descriptor)
        os.close(descriptor)
    raise RefusedError(
        "looking for free ports", f"none left between {firsts.start} and {firsts.stop}", "End some labs."
    )
