"""The application: the endpoints, behind the guard, with a health check now and then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from fastapi import FastAPI

from understudy import __version__
from understudy.http.fastapi_problems import answer_problems, with_problem_schema
from understudy.http.guard import Guard
from understudy.http.headers import SecurityHeaders
from understudy.http.observe import Observe
from understudy.http.stream import Streams
from understudy.probe.connection import Connection
from understudy.probe.health import HealthChecks
from understudy.probe.metrics import Metrics
from understudy.probe.page import page_route
from understudy.probe.routes import routes
from understudy.probe.work import Work

MOST_STREAMS = 8
_REMOVED_WITHIN_S = 2.0


@dataclass(frozen=True)
class Options:
    """How the probe serves. Without a token everybody who reaches it may ask: for loopback only."""

    token: str | None = None
    loopback: bool = True
    health_check_interval_ms: int = 30_000
    access_log: bool = True


def make_app(connection: Connection, options: Options, streams: Streams) -> FastAPI:
    """Return the application; `streams` is what ends its streams when the server ends."""
    metrics = Metrics(options.health_check_interval_ms / 1000)
    work = Work(streams.until_stopped)
    checks = HealthChecks(connection, work, metrics, options.health_check_interval_ms)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(checks.forever)
            yield
            group.cancel_scope.cancel()
        await work.until_beside_ended(_REMOVED_WITHIN_S)
        connection.close()

    # Swagger UI and ReDoc load their code from elsewhere: the document alone is served.
    app = FastAPI(
        title="Understudy probe", version=__version__, lifespan=living, docs_url=None, redoc_url=None,
        description="A Valkey or Redis stack as one client sees it, right now and during a failover.",
    )  # fmt: skip
    app.include_router(routes(connection, work, checks, metrics, streams))
    app.include_router(page_route(connection))
    answer_problems(app)
    with_problem_schema(app)
    app.add_middleware(Guard, token=options.token, loopback=options.loopback, open_paths=("/",))
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observe, metrics=metrics.http, lines=options.access_log)
    return app
