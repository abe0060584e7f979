"""Labs inside Python: `with lab.cluster() as cluster:`, on free ports, gone when the block or the process ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from understudy.lab import guardian
from understudy.lab.guardian import Process
from understudy.lab.layout import Options, listening_ports
from understudy.lab.layouts import find_layout, options_for
from understudy.lab.live import Lab
from understudy.lab.ports import claim
from understudy.lab.server import LabNode, StartError

_ATTEMPTS = 3
_GUARDIAN_ENDS_WITHIN_S = 20


@contextlib.contextmanager
def standalone(
    *,
    replicas: int = 0,
    password: str | None = None,
    tls: bool = False,
    persist: bool = False,
    server: str | None = None,
    databases: int = 16,
) -> Iterator[Lab]:
    """Run one server."""
    options = options_for(
        "standalone",
        replicas=replicas,
        password=password,
        tls=tls,
        persist=persist,
        server=server,
        databases=databases,
    )
    with run(options) as lab:
        yield lab


@contextlib.contextmanager
def sentinel(
    *,
    replicas: int = 2,
    password: str | None = None,
    tls: bool = False,
    persist: bool = False,
    server: str | None = None,
    down_after_ms: int = 1000,
) -> Iterator[Lab]:
    """Run one primary with replicas, watched by three sentinels under the name `mymaster`."""
    options = options_for(
        "sentinel",
        replicas=replicas,
        password=password,
        tls=tls,
        persist=persist,
        server=server,
        down_after_ms=down_after_ms,
    )
    with run(options) as lab:
        yield lab


@contextlib.contextmanager
def cluster(
    *,
    primaries: int = 3,
    replicas: int = 1,
    password: str | None = None,
    tls: bool = False,
    persist: bool = False,
    server: str | None = None,
    node_timeout_ms: int = 2000,
) -> Iterator[Lab]:
    """Run a cluster; `replicas` counts a primary's replicas."""
    options = options_for(
        "cluster",
        primaries=primaries,
        replicas=replicas,
        password=password,
        tls=tls,
        persist=persist,
        server=server,
        node_timeout_ms=node_timeout_ms,
    )
    with run(options) as lab:
        yield lab


@contextlib.contextmanager
def enterprise(
    *,
    primaries: int = 3,
    replicas: int = 1,
    password: str | None = None,
    tls: bool = False,
    persist: bool = False,
    server: str | None = None,
    node_timeout_ms: int = 2000,
) -> Iterator[Lab]:
    """Run a cluster behind one endpoint; the same arguments."""
    options = options_for(
        "enterprise",
        primaries=primaries,
        replicas=replicas,
        password=password,
        tls=tls,
        persist=persist,
        server=server,
        node_timeout_ms=node_timeout_ms,
    )
    with run(options) as lab:
        yield lab


@contextlib.contextmanager
def run(options: Options) -> Iterator[Lab]:
    """Run what the options say, on a free block of ports instead of theirs."""
    with contextlib.ExitStack() as stack:
        yield _bring_up(options, stack)


def _bring_up(options: Options, stack: contextlib.ExitStack) -> Lab:
    for attempt in range(1, _ATTEMPTS + 1):
        with contextlib.ExitStack() as attempted:
            lab = _enter(options, attempted)
            try:
                lab.bring_up()
            except StartError:
                # Between finding a port free and listening on it another program may have taken it.
                if attempt == _ATTEMPTS or all(node.alive for node in lab.nodes):
                    raise
                continue
            stack.push(attempted.pop_all())
            return lab
    raise AssertionError("the last attempt either returns or raises")


def _enter(options: Options, stack: contextlib.ExitStack) -> Lab:
    """Return a lab that is planned and guarded; nothing of it runs yet."""
    layout = find_layout(options.layout)
    planned = listening_ports(layout.plan(options, Path()), cluster=options.layout in {"cluster", "enterprise"})
    block = claim(port - options.port for port in planned)
    stack.callback(block.release)
    options = Options.from_data({**options.as_data(), "port": block.first})
    # The system's own temporary directory may be long; here nothing depends on the length.
    directory = Path(tempfile.mkdtemp(prefix="understudy-lab-"))
    watch = Guardian(directory)
    stack.callback(watch.end)
    lab = Lab(f"{options.layout}-{block.first}", options, directory, watch.note)
    stack.callback(lab.stop)
    return lab


class Guardian:
    """The process that ends a lab when its owner is gone; see `guardian.py`."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        self._tell(f"directory {directory}")

    def note(self, nodes: tuple[LabNode, ...]) -> None:
        """Tell it which processes are the lab's."""
        for node in nodes:
            if isinstance(node.process, Process):
                self.watch(node.process, asks=node.kind == "postgres")

    def watch(self, process: Process, asks: bool = False) -> None:
        """Tell it of a process to kill; or to ask first, with SIGQUIT."""
        self._tell(f"{'quit' if asks else 'process'} {process.pid} {process.started}")

    def end(self) -> None:
        """Have it end what is left of the lab, directory included, and wait until it has."""
        with contextlib.suppress(BrokenPipeError):
            self._tell("end")
        self._process.communicate(timeout=_GUARDIAN_ENDS_WITHIN_S)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
