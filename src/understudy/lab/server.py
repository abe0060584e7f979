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
from typing import Any, Literal, Protocol

from understudy.errors import UnderstudyError
from understudy.lab import guardian
from understudy.lab.docker import Container
from understudy.lab.guardian import Process
from understudy.valkey.target import Address
from understudy.valkey.topology import Role

Kind = Literal["valkey", "sentinel", "envoy", "postgres"]

# A server is let go by one line on its input, after its identity was recorded. Whoever starts it may die at any
# moment before that: the input then ends, and the shell with it. So no server ever runs that nobody knows of.
_GATE = 'read -r _ && exec "$@" </dev/null'
_ASK_AGAIN_S = 0.5
_children: dict[int, subprocess.Popen[bytes]] = {}


class Running(Protocol):
    """What a server was started as: a process of this machine, or a container of a Docker engine."""

    @property
    def pid(self) -> int | None:
        """Return its pid, where it has one on this machine."""

    @property
    def container(self) -> str | None:
        """Return the name of its container; None for a process."""

    def state(self) -> str:
        """Return `running`, `paused` or `dead`."""

    def pause(self) -> bool:
        """Stop it without ending it; False where it is dead."""

    def resume(self) -> bool:
        """Let it go on; False where it is dead."""

    def said(self, lines: int) -> str:
        """Return the last lines that it wrote to where only its runner looks."""

    def as_data(self) -> list[int | str]:
        """Return it as the state file keeps it."""


class Child(Process):
    """A process that a server runs as; ours to collect while we live."""

    @property
    def container(self) -> None:
        """Return that it has none."""

    def state(self) -> str:
        """Return `running`, `paused` or `dead`."""
        reap(self.pid)
        return guardian.state(self)

    def pause(self) -> bool:
        """Send SIGSTOP."""
        return guardian.send(self, signal.SIGSTOP)

    def resume(self) -> bool:
        """Send SIGCONT."""
        return guardian.send(self, signal.SIGCONT)

    def said(self, lines: int) -> str:  # noqa: ARG002
        """Return nothing: its node's log has everything."""
        return ""

    def as_data(self) -> list[int | str]:
        """Return pid and start time."""
        return [self.pid, self.started]


def _running(data: Sequence[Any] | None) -> Running | None:
    if not data:
        return None
    return Container(*data[1:]) if data[0] == "container" else Child(*data)


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
    process: Running | None = None

    @property
    def pid(self) -> int | None:
        """Return the pid it was last started with; the process may be dead."""
        return self.process.pid if self.process else None

    @property
    def container(self) -> str | None:
        """Return the name of its container; None where it is a process, or was never started."""
        return self.process.container if self.process else None

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
        return self.process.state() if self.process else "dead"

    @property
    def alive(self) -> bool:
        """Return whether the process is there (a paused one is)."""
        return self.state != "dead"

    def last_words(self, lines: int = 5) -> str:
        """Return the last lines that it wrote, wherever."""
        told = self.process.said(lines) if self.process else ""
        return told or log_tail(self.log, lines)

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
            "process": self.process.as_data() if self.process else None,
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
            process=_running(data["process"]),
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
            born = guardian.identify(gate.pid)
            started.append(replace(node, process=Child(*born) if born else None))
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
    """End servers that are processes: at once, or first asking them and waiting so long (seconds).

    Raises:
        UnderstudyError: a process would not go even when killed.
    """
    processes = [node.process for node in nodes if isinstance(node.process, Child) and node.alive]
    deadline = time.monotonic() + gently_within_s
    left: Sequence[Process] = processes if gently_within_s else []
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
