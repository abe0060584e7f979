"""What a server process is, and how one is started, watched and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from understudy.errors import UnderstudyError
from understudy.lab import guardian
from understudy.lab.guardian import Process
from understudy.valkey.target import Address
from understudy.valkey.topology import Role

Kind = Literal["valkey", "sentinel", "envoy", "postgres"]

# A server is let go by one line on its input, after its identity was recorded. Whoever starts it may die at any
# moment before that: the input then ends, and the shell with it. So no server ever runs that nobody knows of.
_GATE = 'read -r _ && exec "$@" </dev/null'
_ASK_AGAIN_S = 0.5
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class LabNode:
    """One server of a lab. `role` is the one that it was started with; a failover may have changed it.

    `address` is what clients use. `inner_port` is where the process itself listens (plain, loopback): another
    port only in a TLS lab, where Envoy owns the public one.
    """

    name: str
    kind: Kind
    role: Role
    address: Address
    inner_port: int
    directory: Path
    log: Path
    process: Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the pid it was last started with; the process may be dead."""
        return self.process.pid if self.process else None

    @property
    def inner(self) -> Address:
        """Return where the process itself listens."""
        return Address(self.address.host, self.inner_port)

    @property
    def ports(self) -> tuple[int, ...]:
        """Return every port that the process, or Envoy for it, will listen on; a cluster's bus is not known here."""
        return tuple({self.address.port, self.inner_port})

    @property
    def state(self) -> str:
        """Return `running`, `paused` or `dead`."""
        if self.process is None:
            return "dead"
        reap(self.process.pid)
        return guardian.state(self.process)

    @property
    def alive(self) -> bool:
        """Return whether the process is there (a paused one is)."""
        return self.state != "dead"

    def as_data(self) -> dict[str, Any]:
        """Return the node as the state file keeps it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "role": self.role,
            "host": self.address.host,
            "port": self.address.port,
            "inner_port": self.inner_port,
            "directory": str(self.directory),
            "log": str(self.log),
            "process": list(self.process) if self.process else None,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> LabNode:
        """Read what `as_data` wrote."""
        return cls(
            name=data["name"],
            kind=data["kind"],
            role=data["role"],
            address=Address(data["host"], data["port"]),
            inner_port=data["inner_port"],
            directory=Path(data["directory"]),
            log=Path(data["log"]),
            process=Process(*data["process"]) if data["process"] else None,
        )


class StartError(UnderstudyError):
    """A server did not come up; `why` carries the last lines of its log."""

    exit_code = 10


def start(launches: Sequence[tuple[LabNode, Sequence[str]]], record: Callable[[list[LabNode]], None]) -> list[LabNode]:
    """Start servers side by side and return them with their processes, before they are ready.

    `record` is called once, when every process has a pid and none runs its server yet: what it writes down is
    what can be cleaned up after a crash.
    """
    gates: list[subprocess.Popen[bytes]] = []
    started: list[LabNode] = []
    try:
        for node, argv in launches:
            node.log.parent.mkdir(parents=True, exist_ok=True)
            node.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with node.log.open("ab") as log:
                gate = subprocess.Popen(
                    ["/bin/sh", "-c", _GATE, "sh", *argv],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=node.directory,
                    start_new_session=True,  # Ctrl-C in the terminal must not end a lab that outlives the command
                    umask=0o077,
                )
            gates.append(gate)
            started.append(replace(node, process=guardian.identify(gate.pid)))
        record(started)
    except BaseException:
        for gate in gates:
            _close(gate)
            gate.wait()
        raise
    for gate in gates:
        _children[gate.pid] = gate
        with contextlib.suppress(BrokenPipeError):
            os.write(gate.stdin.fileno(), b"go\n")  # type: ignore[union-attr]
        _close(gate)
    return started


def _close(gate: subprocess.Popen[bytes]) -> None:
    if gate.stdin is not None:
        gate.stdin.close()


def reap(pid: int) -> None:
    """Collect our own child if it has ended, so that it does not stay behind as a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]


def disown(nodes: Iterable[LabNode]) -> None:
    """Forget our children: they go on after us, and Python need not warn that they do."""
    for node in nodes:
        child = _children.pop(node.pid or 0, None)
        if child is not None:
            child.returncode = 0


def stop(nodes: Iterable[LabNode], gently_within_s: float = 0) -> None:
    """End servers: at once, or first asking them and waiting so long (seconds).

    Raises:
        UnderstudyError: a process would not go even when killed.
    """
    alive = [node for node in nodes if node.process and node.alive]
    processes = [node.process for node in alive if node.process]
    deadline = time.monotonic() + gently_within_s
    left = processes if gently_within_s else []
    while left and time.monotonic() < deadline:
        # Asked more than once: a server that is writing its first AOF refuses to go, and forgets.
        for process in left:
            guardian.send(process, signal.SIGCONT)
            guardian.send(process, signal.SIGTERM)
        left = guardian.await_gone(left, _ASK_AGAIN_S)
    left = guardian.kill_all(processes)
    for process in processes:
        # Its first thread may be gone, and it looks dead, while others still hold its port.
        child = _children.get(process.pid)
        if child is not None and process not in left:
            child.wait()
            del _children[process.pid]
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise UnderstudyError(
            "ending servers", f"process {pids} would not go", "Look at it with ps; it may hang in I/O."
        )


def log_tail(log: Path, lines: int = 5) -> str:
    """Return the last lines of a log; empty where there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
