"""What the gateway says of itself: whether it lives and is ready, its numbers, its keys, its document."""

from __future__ import annotations

from functools import cache

import orjson

from understudy.http.answer import JSON, Answer, Request, as_json
from understudy.waitingroom import metrics, shapes
from understudy.waitingroom.desk import Desk
from understudy.waitingroom.refusals import ProblemError
from understudy.waitingroom.route import Route


async def healthz(_desk: Desk, _request: Request) -> Answer:
    """Say that the process lives."""
    return as_json({"status": "ok", "why": ""})


async def readyz(desk: Desk, _request: Request) -> Answer:
    """Say whether the servers do what is asked of them."""
    if why := desk.health.why:
        raise ProblemError("UNAVAILABLE", why=why)
    if not desk.room.client.reachable:
        raise ProblemError("UNAVAILABLE", why="the servers do not answer, or not all of them")
    return as_json({"status": "ready", "why": ""})


async def numbers(desk: Desk, _request: Request) -> Answer:
    """Show the metrics."""
    return Answer(200, desk.metrics.exposed(), metrics.MEDIA_TYPE.encode())


async def keys(desk: Desk, _request: Request) -> Answer:
    """Show the public key."""
    return as_json(desk.signer.jwks(), headers=((b"cache-control", b"public, max-age=300"),))


async def document(_desk: Desk, _request: Request) -> Answer:
    """Show the OpenAPI document."""
    return Answer(200, _document(), JSON)


@cache
def _document() -> bytes:
    from understudy.waitingroom.openapi import document as written  # noqa: PLC0415 - it reads the table of routes
    from understudy.waitingroom.routes import ROUTES as ALL  # noqa: PLC0415

    return orjson.dumps(written(ALL))


ROUTES = (
    Route("GET", "/healthz", healthz, "Whether the process lives", {200: shapes.HealthReply}, limited=False),
    Route(
        "GET", "/readyz", readyz, "Whether the servers answer", {200: shapes.HealthReply}, codes=("UNAVAILABLE",),
        limited=False,
    ),
    Route("GET", "/metrics", numbers, "Numbers for Prometheus", {200: "text/plain"}, limited=False),
    Route(
        "GET", "/.well-known/jwks.json", keys, "The public keys of entry tokens", {200: shapes.KeysReply},
        codes=("TOO_MANY_REQUESTS",),
    ),
    Route(
        "GET", "/openapi.json", document, "This document", {200: "application/json"}, codes=("TOO_MANY_REQUESTS",),
        documented=False,
    ),
)  # fmt: skip
