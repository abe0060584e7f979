"""Connections that send nothing, or half a request: so many at once, and each for so long."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_WITHIN_S = 10.0
MOST_CONNECTIONS = 256  # far below the 1,024 open files that a process usually may have


class Deadlined(H11Protocol):
    """uvicorn's protocol, which waits for the rest of a request for ever.

    A connection is closed where the whole head of its first request, or of the next one, has not come in time. One too
    many closes the one that has waited longest, so that those who send nothing keep nobody out.
    """

    _deadline: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Return whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def due_s(self) -> float:
        """Return when it is closed if no request comes, by the clock of the loop."""
        return self._deadline.when() if self._deadline else 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and let go of another where there are too many."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > MOST_CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, Deadlined) and one.waits]
            longest = min(waiting, key=lambda one: one.due_s)
            self.connections.discard(longest)  # at once: several come before the loop tells that it is gone
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request. The rest of this one, where there is any, is no reason to stay."""
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_WITHIN_S, self._close_waiting)

    def _close_waiting(self) -> None:
        if self.waits and not self.transport.is_closing():
            self.transport.close()
