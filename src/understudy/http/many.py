"""Many connections at once: tens of thousands that stay open, and none that costs more than it must.

uvicorn's protocol on httptools and uvloop waits for the rest of a request for ever, and reads headers without end; here
neither. Whether a request comes too slowly is looked at once a second for all connections: less than a timer for each.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

ABORT = "understudy.abort"  # in a request's extensions: closes its connection at once, whatever is not sent yet
REQUEST_WITHIN_S = 10.0
IDLE_S = 75
MOST_HEAD_BYTES = 32 * 1024
_EVERY_S = 1.0
_UNSENT_BYTES = 16 * 1024  # of a stream that is read slowly; then its sender waits
_KEPT_FILES = 200  # for what is not a connection of a client: servers, logs, the listening socket
_AT_ONCE = 100  # connections let go together where there are too many: each search looks at all


def raise_file_limit() -> int:
    """Allow this process as many open files as it may have; return how many connections that makes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1 << 20)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS says that there is no limit, and has one
        wanted = soft
    return max(64, min(wanted, 1 << 20) - _KEPT_FILES)


class OneWrite:
    """A transport that writes once for all that is written in a turn of the loop.

    uvicorn writes an answer's head and its body one after the other, and uvloop sends each at once. Joined, the kernel
    works half as often, on both ends.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write when this turn ends."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        """Close once everything is written."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Guarded(HttpToolsProtocol):
    """One connection. A request must come whole in `REQUEST_WITHIN_S`; between requests it may be idle for longer.

    One too many closes those that have waited longest, so that those who send nothing keep nobody out.
    """

    most = 1024

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, _loop)
        # not the loop's clock: that of all connections of one turn is the same
        self.began_s = time.monotonic()  # its request, or the connection where none has come
        self._in_head = True
        self._head_bytes = 0
        self._strays = False  # bytes came that belong to no request that is answered
        self._extensions: dict[str, Any] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and let go of others where there are too many."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]  # as a transport, in all it does
        transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._extensions = {ABORT: transport.abort}
        if len(self.connections) > self.most:
            waiting = [one for one in self.connections if isinstance(one, Guarded) and one.waits]
            waiting.sort(key=lambda one: one.began_s)  # the newest one is its last
            for one in waiting[: min(_AT_ONCE, max(1, len(waiting) // 2))]:
                self.connections.discard(one)  # at once: several come before the loop tells that it is gone
                one.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head has no end."""
        super().data_received(data)
        if self._in_head:
            self._count_head(len(data))
        elif self.waits and not self._strays:  # empty lines, or a body that nobody reads: they end uvicorn's own timer
            self._strays = True
            self.began_s = time.monotonic()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self.began_s = time.monotonic()
        self._in_head = True
        self._head_bytes = 0
        self._strays = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes behind a body is none, and has no say in the request."""
        if self._in_head:
            super().on_header(name, value)
        else:
            self._count_head(len(name) + len(value))

    def _count_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > MOST_HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_head = False
        super().on_headers_complete()

    @property
    def waits(self) -> bool:
        """Return whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def is_late(self, now_s: float) -> bool:
        """Return whether a request is coming, and has been for too long."""
        if now_s - self.began_s <= REQUEST_WITHIN_S:
            return False
        return self._in_head or self._strays or (not self.waits and self.cycle.more_body)


def guarded(most: int) -> type[Guarded]:
    """Return the protocol of a server that holds so many connections."""
    return type("Guarded", (Guarded,), {"most": most})


async def sweep(connections: Iterable[Any]) -> None:
    """Close connections whose requests come too slowly, until cancelled."""
    while True:
        await asyncio.sleep(_EVERY_S)
        now_s = time.monotonic()
        for one in [one for one in connections if isinstance(one, Guarded) and one.is_late(now_s)]:
            one.transport.abort()
