"""Every request seen once: a line in the log, numbers for Prometheus, and an answer where the code had a bug."""

from __future__ import annotations

import logging
import os
import time
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from understudy.errors import UnderstudyError
from understudy.http.problem import problem

log = logging.getLogger("understudy.http")


class RequestMetrics:
    """Requests by route (never by path: anybody can invent paths), and how many are under way."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            f"{prefix}_http_requests", "Requests answered", ("route", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            f"{prefix}_http_request_duration_seconds", "Time to the end of the answer", ("route",), registry=registry
        )
        self.in_progress = Gauge(
            f"{prefix}_http_requests_in_progress", "Requests under way, streams included", registry=registry
        )


class Observe:
    """The outermost layer. Query strings are left out of the log: people put secrets there."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics, lines: bool = True) -> None:
        self._app = app
        self._metrics = metrics
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and see how it ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self._report(scope, error)
            if not status:
                bug = UnderstudyError("answering", "this is a bug in understudy", "The log of the server names it.")
                await problem(bug, HTTPStatus.INTERNAL_SERVER_ERROR)(scope, receive, watched)
        finally:
            self._metrics.in_progress.dec()
            self._count(scope, status, time.perf_counter() - began)

    def _report(self, scope: Scope, error: Exception) -> None:
        trace = error if os.environ.get("UNDERSTUDY_DEBUG") else None
        log.error(
            "%s %s failed: a bug: %s", scope["method"], _plain(scope["path"]), type(error).__name__, exc_info=trace
        )

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if self._lines:
            client = scope.get("client") or ("-",)
            shown = f"{_plain(scope['method'])} {_plain(scope['path'])}"
            log.info("%s %s %d %.0f ms", client[0], shown, status, seconds * 1000)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _plain(text: str) -> str:
    """Return text of a stranger as one short line without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])
