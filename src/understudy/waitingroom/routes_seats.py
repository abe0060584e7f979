"""Seats: see them, hold them, give them back, buy them."""

from __future__ import annotations

import re

from understudy.http.answer import JSON, Answer, Request, as_json
from understudy.waitingroom import shapes
from understudy.waitingroom.bodies import SeatNames, key_of, read
from understudy.waitingroom.desk import Desk
from understudy.waitingroom.refusals import ProblemError
from understudy.waitingroom.route import Parameter, Route
from understudy.waitingroom.routes_queue import IDEMPOTENCY_KEY, REPLAYED
from understudy.waitingroom.values import EVENT_NAME, Seats

_NAME = re.compile(EVENT_NAME)
_FOR_A_SECOND = ((b"cache-control", b"public, max-age=1"), (b"x-content-type-options", b"nosniff"))
_EVENT = Parameter("event_id", "query", EVENT_NAME, "which event", required=True)
_CODES = (
    "INVALID", "UNAUTHORISED", "NO_EVENT", "IDEMPOTENCY_CONFLICT", "TOO_LARGE", "TOO_MANY_REQUESTS", "UNAVAILABLE",
)  # fmt: skip


async def see(desk: Desk, request: Request) -> Answer:
    """Show every seat."""
    event = request.query("event_id") or ""
    if not _NAME.fullmatch(event):
        raise ProblemError("INVALID", items=["event_id: there is none in the query, or it can be no event"])
    return Answer(200, await desk.seat_maps.of(event), JSON, _FOR_A_SECOND)


async def hold(desk: Desk, request: Request) -> Answer:
    """Hold seats for who is inside."""
    claims, asked = desk.inside(request), read(SeatNames, request.body)
    key = key_of(request.header(b"idempotency-key"))
    done = await desk.room.hold(claims.event_id, claims.token_id, asked.seats, key)
    return _done(done, **shapes.until(done.expires_ms, done.now_ms))


async def release(desk: Desk, request: Request) -> Answer:
    """Give seats back."""
    claims, asked = desk.inside(request), read(SeatNames, request.body)
    key = key_of(request.header(b"idempotency-key"))
    return _done(await desk.room.release(claims.event_id, claims.token_id, asked.seats, key))


async def confirm(desk: Desk, request: Request) -> Answer:
    """Sell seats to who holds them."""
    claims, asked = desk.inside(request), read(SeatNames, request.body)
    key = key_of(request.header(b"idempotency-key"))
    return _done(await desk.room.confirm(claims.event_id, claims.token_id, asked.seats, key))


def _done(done: Seats, **more: object) -> Answer:
    data = {"event_id": done.event_id, "seats": done.seats, "remaining": done.remaining, **more}
    return as_json(data, headers=REPLAYED if done.replayed else ())


ROUTES = (
    Route(
        "GET", "/api/v1/seats", see, "See every seat, as of at most a second ago",
        {200: shapes.SeatMapReply}, codes=("INVALID", "NO_EVENT", "TOO_MANY_REQUESTS", "UNAVAILABLE"),
        parameters=(_EVENT,),
    ),
    Route(
        "POST", "/api/v1/seats/hold", hold, "Hold seats: all of them, or none",
        {200: shapes.HoldReply}, "token",
        ("NOT_INSIDE", "SEAT_UNAVAILABLE", "NO_SEAT", "SOLD_OUT", "TOO_MANY_SEATS", "EVENT_NOT_OPEN", *_CODES),
        SeatNames, parameters=(IDEMPOTENCY_KEY,), example={"seats": ["1", "2"]},
    ),
    Route(
        "POST", "/api/v1/seats/release", release, "Give held seats back",
        {200: shapes.SeatsReply}, "token", ("NOT_HOLDER", "SEAT_SOLD", *_CODES), SeatNames,
        parameters=(IDEMPOTENCY_KEY,), example={"seats": ["2"]},
    ),
    Route(
        "POST", "/api/v1/seats/confirm", confirm, "Buy held seats",
        {200: shapes.SeatsReply}, "token", ("NOT_HOLDER", *_CODES), SeatNames,
        parameters=(IDEMPOTENCY_KEY,), example={"seats": ["1"]},
    ),
)  # fmt: skip
