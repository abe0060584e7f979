"""Administration: make, change, open, pause, resume, close and delete events; workers that take tickets; cleanup."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import get_args

from understudy.http.answer import Answer, Request, as_json
from understudy.waitingroom import shapes
from understudy.waitingroom.bodies import (
    MOST_EVENT_BODY_BYTES,
    Acknowledge,
    Cleanup,
    Dequeue,
    NewEvent,
    Settings,
    changes_of,
    read,
)
from understudy.waitingroom.desk import Desk
from understudy.waitingroom.route import Route
from understudy.waitingroom.values import Action, Event, RefusalError

_CODES = ("UNAUTHORISED", "NO_SECRET", "CROSS_SITE", "TOO_MANY_REQUESTS", "UNAVAILABLE")
_ONE = ("NO_EVENT", *_CODES)
_WITH_BODY = ("INVALID", "TOO_LARGE", *_ONE)
_BASE = "/api/v1/events"
_AT_ONCE = 100


async def create(desk: Desk, request: Request) -> Answer:
    """Make an event."""
    asked = read(NewEvent, request.body)
    made = await desk.room.create(asked.event_id, asked.settings(), asked.seat_names())
    return _told(desk, made, 201)


async def every(desk: Desk, _request: Request) -> Answer:
    """Show all events."""
    names = await desk.room.events()
    stand: list[Event | None] = []
    for at in range(0, len(names), _AT_ONCE):
        stand += await asyncio.gather(*(_unless_gone(desk, name) for name in names[at : at + _AT_ONCE]))
    return as_json({"events": [shapes.event(one) for one in stand if one]})


async def one(desk: Desk, request: Request) -> Answer:
    """Show an event."""
    return _told(desk, await desk.room.event(request.name), keep=False)


async def change(desk: Desk, request: Request) -> Answer:
    """Change settings."""
    return _told(desk, await desk.room.configure(request.name, changes_of(read(Settings, request.body))))


def act(action: Action) -> Callable[[Desk, Request], Awaitable[Answer]]:
    """Return what serves an action."""

    async def handle(desk: Desk, request: Request) -> Answer:
        return _told(desk, await desk.room.act(request.name, action))

    return handle


async def delete(desk: Desk, request: Request) -> Answer:
    """Delete an event."""
    await desk.room.delete(request.name)
    return Answer(204)


async def dequeue(desk: Desk, request: Request) -> Answer:
    """Give tickets to a worker."""
    asked = read(Dequeue, request.body)
    taken = await desk.room.dequeue(request.name, asked.consumer, asked.count, asked.visibility_s)
    return as_json({"messages": taken})


async def acknowledge(desk: Desk, request: Request) -> Answer:
    """Note that a worker is done."""
    asked = read(Acknowledge, request.body)
    return as_json({"acknowledged": await desk.room.ack(request.name, asked.consumer, asked.stream_ids)})


async def cleanup(desk: Desk, request: Request) -> Answer:
    """Remove tickets by age."""
    return as_json({"cleaned": await desk.room.cleanup(request.name, read(Cleanup, request.body).older_than_s)})


def _told(desk: Desk, stands: Event, status: int = 200, *, keep: bool = True) -> Answer:
    desk.keeper.heard(stands)
    if keep:
        desk.keeper.keep(stands.event_id)
    return as_json(shapes.event(stands), status)


async def _unless_gone(desk: Desk, name: str) -> Event | None:
    try:
        return await desk.room.event(name)
    except RefusalError:  # deleted meanwhile, or being made
        return None


ROUTES = (
    Route(
        "POST", _BASE, create, "Make an event",
        {201: shapes.EventReply}, "secret", ("INVALID", "TOO_LARGE", "EVENT_EXISTS", *_CODES), NewEvent,
        MOST_EVENT_BODY_BYTES, example={"event_id": "concert", "seats": 500, "rate_per_s": 25},
    ),
    Route("GET", _BASE, every, "See all events", {200: shapes.EventsReply}, "secret", _CODES),
    Route("GET", f"{_BASE}/{{event}}", one, "See an event", {200: shapes.EventReply}, "secret", _ONE),
    Route(
        "PATCH", f"{_BASE}/{{event}}", change, "Change settings, with effect at once",
        {200: shapes.EventReply}, "secret", _WITH_BODY, Settings, MOST_EVENT_BODY_BYTES, example={"rate_per_s": 50},
    ),
    Route(
        "DELETE", f"{_BASE}/{{event}}", delete, "Delete a closed event, and everything of it",
        {204: None}, "secret", ("WRONG_STATE", *_ONE),
    ),
    *(
        Route(
            "POST", f"{_BASE}/{{event}}/{action}", act(action), f"{action.capitalize()} an event",
            {200: shapes.EventReply}, "secret", ("WRONG_STATE", *_ONE),
        )
        for action in get_args(Action)
    ),
    Route(
        "POST", f"{_BASE}/{{event}}/dequeue", dequeue, "Take tickets from the front of the line, to work on them",
        {200: shapes.MessagesReply}, "secret", _WITH_BODY, Dequeue, MOST_EVENT_BODY_BYTES,
    ),
    Route(
        "POST", f"{_BASE}/{{event}}/ack", acknowledge, "Acknowledge tickets that were taken",
        {200: shapes.AcknowledgedReply}, "secret", _WITH_BODY, Acknowledge, MOST_EVENT_BODY_BYTES,
    ),
    Route(
        "POST", f"{_BASE}/{{event}}/cleanup", cleanup, "Remove tickets that are older than so many seconds",
        {200: shapes.CleanedReply}, "secret", _WITH_BODY, Cleanup, MOST_EVENT_BODY_BYTES,
    ),
)  # fmt: skip
