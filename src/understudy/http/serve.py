"""Start a server and end it well: a clear word where it cannot listen, streams ended, exit without a fuss."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from types import FrameType
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

from understudy.errors import RefusedError, UsageError
from understudy.http.connections import Deadlined

_BACKLOG = 256
_IDLE_S = 5
_ENDS_WITHIN_S = 5
Sweep = Callable[[Iterable[Any]], Coroutine[Any, Any, None]]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int, how: str, *, backlog: int = _BACKLOG) -> socket.socket:
    """Return a socket that listens; `how` says how another port is chosen.

    Raises:
        RefusedError: the port is taken, or not ours to take.
        UsageError: the host is no address of this machine.
    """
    doing = f"listening on {_shown(host, port)}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(doing, error.strerror or str(error), "Name an address of this machine.") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise RefusedError(doing, "another program listens there already", how) from error
        if error.errno == errno.EACCES:
            raise RefusedError(doing, "this user may not take that port", how) from error
        raise UsageError(doing, error.strerror or str(error), "Name an address of this machine.") from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Return where a browser on this machine finds what listens."""
    host, port = listening.getsockname()[:2]
    return f"http://{_shown({'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host), port)}/"  # noqa: S104 - read only


def log_to_stderr() -> None:
    """Write what we log to standard error, a line each, with the time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("understudy")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False


class Server(uvicorn.Server):
    """Serves an application on a listening socket; `when_stopping` is called in its loop, to end what would go on.

    `protocol` speaks HTTP on each connection, and `sweep` looks after all of them while we serve.
    """

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        *,
        when_stopping: Callable[[], None],
        protocol: type[asyncio.Protocol] = Deadlined,
        loop: Literal["asyncio", "uvloop"] = "asyncio",
        idle_s: int = _IDLE_S,
        backlog: int = _BACKLOG,
        sweep: Sweep | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, lifespan="on", ws="none",
                proxy_headers=False,  # or whoever asks from this machine chooses its own address
                http=protocol, loop=loop, backlog=backlog, timeout_keep_alive=idle_s,
                timeout_graceful_shutdown=_ENDS_WITHIN_S,
            )
        )  # fmt: skip
        self._listening = listening
        self._when_stopping = when_stopping
        self._sweep = sweep

    def serve_until_ended(self) -> None:
        """Serve until Ctrl-C, SIGTERM or `end`. A second Ctrl-C does not wait for requests under way."""
        self.run(sockets=[self._listening])

    def end(self) -> None:
        """End soon; from any thread."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take the signals for as long as we serve. uvicorn raises them again at the end; here they were obeyed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in _SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn calls it so
        """Obey a signal."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def main_loop(self) -> None:
        """Serve, and look after the connections meanwhile."""
        sweeping = asyncio.create_task(self._sweep(self.server_state.connections)) if self._sweep else None
        try:
            await super().main_loop()
        finally:
            if sweeping:
                sweeping.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would go on, then as uvicorn does."""
        self._when_stopping()
        await super().shutdown(sockets)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
