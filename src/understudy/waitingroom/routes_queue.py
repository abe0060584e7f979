"""The line: join, ask, listen, give a sign of life, enter, leave."""

from __future__ import annotations

import hashlib
import logging

import orjson

from understudy.errors import UnreachableError
from understudy.http.answer import Answer, Request, as_json
from understudy.waitingroom import shapes
from understudy.waitingroom.bodies import Join, Ticket, key_of, read
from understudy.waitingroom.desk import Desk, ticket_of
from understudy.waitingroom.push import Listener
from understudy.waitingroom.refusals import ProblemError
from understudy.waitingroom.route import Answering, Parameter, Route
from understudy.waitingroom.values import KEY, TICKET, RefusalError, event_of

log = logging.getLogger("understudy.waitingroom")

REPLAYED = ((b"idempotent-replayed", b"true"),)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key", "header", KEY, "the same request with the same key is done once, and answered the same"
)
_TICKET = Parameter("ticket", "query", TICKET.pattern, "the ticket, where the Authorization header does not give it")
_LEAVE_CODES = ("UNAUTHORISED", "NO_TICKET", "TOO_MANY_REQUESTS", "UNAVAILABLE")
_TICKET_CODES = ("NO_EVENT", *_LEAVE_CODES)


async def join(desk: Desk, request: Request) -> Answer:
    """Give a ticket, once."""
    asked = read(Join, request.body)
    key = key_of(request.header(b"idempotency-key"))
    enqueued = desk.metrics.enqueued
    try:
        joined = await desk.room.join(
            asked.event_id, asked.user_id or "", idempotency_key=key, dedupe_key=asked.dedupe_key or "",
            digest=_digest(asked) if key else "",
        )  # fmt: skip
    except RefusalError as error:
        enqueued.add(error.code.lower())
        if error.code == "DUPLICATE":
            desk.metrics.dedupe_hits.add()
        raise
    except UnreachableError:
        enqueued.add("unavailable")
        raise
    if joined.replayed:
        enqueued.add("replayed")
        desk.metrics.dedupe_hits.add()
    else:
        enqueued.add("success")
        desk.metrics.user_stream_length.add("", joined.user_position)
    if desk.options.access_log:
        log.info(
            "stream_id=%s user_id=%s user_pos=%d global_pos=%d",
            joined.stream_id, joined.user_id, joined.user_position, joined.position,
        )  # fmt: skip
    data = {
        "ticket": joined.ticket, "event_id": joined.event_id, "user_id": joined.user_id,
        "stream_id": joined.stream_id, "state": "waiting", "position": joined.position,
        "user_position": joined.user_position, "waiting": joined.waiting,
        "estimate_s": desk.paces.estimate_at(joined.event_id, joined.position, joined.rate_per_s),
    }  # fmt: skip
    return Answer(200 if joined.replayed else 201, orjson.dumps(data), headers=REPLAYED if joined.replayed else ())


async def status(desk: Desk, request: Request) -> Answer:
    """Say where a ticket stands."""
    ticket = ticket_of(request, request.query("ticket"))
    stands = await desk.polls.place(ticket)
    desk.paces.saw_place(stands)
    desk.pulse.note(ticket, stands)
    return Answer(200, orjson.dumps(shapes.place(stands, desk.paces.estimate(stands))))


async def updates(desk: Desk, request: Request) -> Answering:
    """Say it again and again, whenever it changes."""
    ticket = ticket_of(request, request.query("ticket"))
    if desk.hub.count >= desk.hub.most:
        raise ProblemError("TOO_MANY_REQUESTS", why=f"{desk.hub.most} streams run, and no more may")
    return Listener(desk.hub, ticket, await desk.polls.place(ticket))


async def heartbeat(desk: Desk, request: Request) -> Answer:
    """Note that somebody is still there."""
    ticket = ticket_of(request, _in_body(request))
    stands = await desk.heartbeats.place(ticket)
    desk.paces.saw_place(stands)
    return Answer(200, orjson.dumps(shapes.place(stands, desk.paces.estimate(stands))))


async def enter(desk: Desk, request: Request) -> Answer:
    """Let in who was called, with a token."""
    ticket = ticket_of(request, _in_body(request))
    try:
        entered = await desk.room.enter(ticket)
    except RefusalError as error:
        if error.code != "NOT_ADMITTED":
            raise
        position = int(error.data[2])  # the place, as in `lua/status.lua`
        estimate_s = desk.paces.estimate_at(event_of(ticket), position, int(error.data[4]) / 1000)
        raise ProblemError(error.code, more={"position": position, "estimate_s": estimate_s}) from None
    return as_json(
        {
            "event_id": entered.event_id, "state": "inside", "token": desk.signer.sign(entered),
            **shapes.until(entered.expires_ms, desk.now_ms(entered.event_id)),
        }
    )  # fmt: skip


async def leave(desk: Desk, request: Request) -> Answer:
    """Let go who goes."""
    ticket = ticket_of(request, _in_body(request))
    state = await desk.room.leave(ticket)
    return as_json({"event_id": event_of(ticket), "state": state})


def _in_body(request: Request) -> str | None:
    return read(Ticket, request.body).ticket if request.body else None


def _digest(asked: Join) -> str:
    said = orjson.dumps([asked.event_id, asked.user_id, asked.dedupe_key])
    return hashlib.blake2b(said, digest_size=16).hexdigest()


ROUTES = (
    Route(
        "POST", "/api/v1/queue/join", join, "Take a place at the end of the line",
        {201: shapes.JoinReply, 200: shapes.JoinReply}, body=Join, parameters=(IDEMPOTENCY_KEY,),
        codes=("INVALID", "NO_EVENT", "DUPLICATE", "IDEMPOTENCY_CONFLICT", "EVENT_NOT_OPEN", "QUEUE_FULL", "TOO_LARGE",
               "TOO_MANY_REQUESTS", "UNAVAILABLE"),
        headers={"Idempotent-Replayed": "`true`: this was answered before"},
        example={"event_id": "concert", "user_id": "user-123"},
    ),
    Route(
        "GET", "/api/v1/queue/status", status, "Ask where a ticket stands",
        {200: shapes.PlaceReply}, "ticket", _TICKET_CODES, parameters=(_TICKET,),
    ),
    Route(
        "GET", "/api/v1/queue/updates", updates, "Listen to where a ticket stands",
        {200: "text/event-stream"}, "ticket", _TICKET_CODES, parameters=(_TICKET,),
    ),
    Route(
        "POST", "/api/v1/queue/heartbeat", heartbeat, "Say that somebody is still there",
        {200: shapes.PlaceReply}, "ticket", ("INVALID", "TOO_LARGE", *_TICKET_CODES), Ticket,
    ),
    Route(
        "POST", "/api/v1/queue/enter", enter, "Go in, when it is this ticket's turn",
        {200: shapes.EnterReply}, "ticket",
        ("INVALID", "NOT_ADMITTED", "EVENT_NOT_OPEN", "TICKET_GONE", "TOO_LARGE", *_TICKET_CODES), Ticket,
    ),
    Route(
        "POST", "/api/v1/queue/leave", leave, "Go away; holds are released",
        {200: shapes.LeaveReply}, "ticket", ("INVALID", "TOO_LARGE", *_LEAVE_CODES), Ticket,
    ),
)  # fmt: skip
