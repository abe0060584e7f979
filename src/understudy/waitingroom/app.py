"""The application: each request to its route, each error to its problem, everything counted once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from understudy.errors import UnderstudyError, UnreachableError
from understudy.http.answer import HungUpError, Request, TooLargeError, read_body
from understudy.http.buckets import address_of, client_of
from understudy.waitingroom.desk import Desk
from understudy.waitingroom.health import in_words
from understudy.waitingroom.refusals import MEANINGS, ProblemError, refuse
from understudy.waitingroom.route import Answering, Route
from understudy.waitingroom.routes import ROUTES, Table
from understudy.waitingroom.values import RefusalError

log = logging.getLogger("understudy.waitingroom")

MOST_UNDER_WAY = 20_000  # requests that wait for the server: with more, it would not answer them in time either
_NAMED = frozenset(  # their data says which seats, or which state
    {"SEAT_UNAVAILABLE", "SEAT_SOLD", "NO_SEAT", "NOT_HOLDER", "WRONG_STATE", "EVENT_NOT_OPEN", "TICKET_GONE"}
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAY_EVERY_S = 10.0  # what a server says to every request is logged so often
_HUNG_UP = 499  # counted, never sent
_CROSS_ORIGIN = (
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, idempotency-key"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
)


class Gateway:
    """ASGI: the API of one room, and its pages."""

    def __init__(self, desk: Desk, routes: Sequence[Route] = ROUTES) -> None:
        self.desk = desk
        self._table = Table(routes)
        self._under_way = 0
        self._said_s = -_SAY_EVERY_S
        self.failed: UnderstudyError | None = None  # why it could not start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        began = time.perf_counter()
        if self.desk.options.origins and (origin := self._origin(scope)):
            send = _with_origin(send, origin)
            if scope["method"] == "OPTIONS":
                await send({"type": "http.response.start", "status": 204, "headers": list(_CROSS_ORIGIN)})
                await send({"type": "http.response.body", "body": b""})
                return
        path, status = "none", _HUNG_UP
        self._under_way += 1
        try:
            answer: Answering
            try:
                route, name = self._table.find(scope["method"], scope["path"])
                path = route.path
                answer = await self._answer(route, name, scope, receive)
            except ProblemError as error:
                answer = refuse(_doing(scope), error)
            except UnderstudyError as error:
                answer = refuse(_doing(scope), self._problem(error))
            except HungUpError:
                return
            except Exception as error:
                trace = error if os.environ.get("UNDERSTUDY_DEBUG") else None
                log.error("%s failed: a bug: %s", _doing(scope), type(error).__name__, exc_info=trace)
                answer = refuse(_doing(scope), ProblemError("INTERNAL"))
            status = answer.status
            await answer(scope, receive, send)
        finally:
            self._under_way -= 1
            self._count(scope, path, status, time.perf_counter() - began)

    async def _answer(self, route: Route, name: str, scope: Scope, receive: Receive) -> Answering:
        desk = self.desk
        request = Request(scope, name, address_of(scope, desk.options.proxies))
        if route.access == "secret":
            desk.administers(request)
        elif route.limited:
            desk.allow(request.address)
            if self._under_way > MOST_UNDER_WAY + desk.hub.count:
                raise ProblemError("UNAVAILABLE", why="too many requests wait for the server")
        if route.method != "GET":
            request.body = await read_body(request, receive, route.most_bytes)
        return await route.handle(desk, request)

    def _count(self, scope: Scope, path: str, status: int, seconds: float) -> None:
        metrics = self.desk.metrics
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.requests.add(path, method, str(status))
        metrics.request_times.add(path, seconds)
        if self.desk.options.access_log:
            client = _printable(client_of(scope, self.desk.options.proxies) or "-")
            log.info("%s %s %d %.0f ms", client, _doing(scope), status, seconds * 1000)

    def _problem(self, error: UnderstudyError) -> ProblemError:
        if isinstance(error, RefusalError):
            if error.code not in MEANINGS:
                return ProblemError("INTERNAL")
            why = f"a ticket may have at most {error.data[0]}" if error.code == "TOO_MANY_SEATS" else ""
            return ProblemError(error.code, why=why, items=error.data if error.code in _NAMED else ())
        if isinstance(error, TooLargeError):
            # the rest of the body is not read
            return ProblemError("TOO_LARGE", why=error.why, headers=((b"connection", b"close"),))
        if not isinstance(error, UnreachableError) and time.monotonic() - self._said_s > _SAY_EVERY_S:
            self._said_s = time.monotonic()
            log.error("answered with 503: %s", error)
        self.desk.health.refused(error)
        return ProblemError("UNAVAILABLE", why=in_words(error))

    def _origin(self, scope: Scope) -> bytes:
        if scope["path"].startswith("/api/v1/events"):
            return b""
        for name, value in scope["headers"]:
            if name == b"origin":
                return value if value.decode("latin-1") in self.desk.options.origins else b""
        return b""

    async def _live(self, receive: Receive, send: Send) -> None:
        """Connect, keep the events going, and at the end let go."""
        await receive()
        client, keeping = self.desk.room.client, None
        try:
            try:
                await client.start()
            except UnderstudyError as error:
                self.failed = error
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            keeping = asyncio.create_task(self.desk.keeper.forever())
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            if keeping:
                keeping.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await keeping
            if self.failed is None:
                await client.close()
        await send({"type": "lifespan.shutdown.complete"})


def _with_origin(send: Send, origin: bytes) -> Send:
    more = [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", b"idempotent-replayed, retry-after"),
        (b"vary", b"Origin"),
    ]

    async def with_origin(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return with_origin


def _doing(scope: Scope) -> str:
    """Return what was asked, without the query: tickets stand there."""
    return _printable(f"{scope['method']} {scope['path']}"[:200])


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
