"""A waiting room as one would write it in an afternoon: FastAPI, redis-py, one EVALSHA of the same Lua a request.

REDIS_URL=redis://127.0.0.1:7001 uvicorn benchmarks.waitingroom_plain:app
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, Field
from redis.asyncio import Redis, RedisCluster

from understudy.waitingroom import keys
from understudy.waitingroom.library import library
from understudy.waitingroom.tokens import Signer, passing_key
from understudy.waitingroom.values import EVENT_NAME, KEY, USER_NAME, Entered, event_of

SCRIPTS = {name: library().script(name, flagged=False) for name in ("join", "status", "enter")}
URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:7001").split(",")[0]
signer = Signer(passing_key())
client: Any = (RedisCluster if os.environ.get("REDIS_MODE") == "oss-cluster" else Redis).from_url(URL)
digests: dict[str, str] = {}
STATUS = {"DUPLICATE": 409, "NOT_ADMITTED": 409, "TICKET_GONE": 410, "NO_TICKET": 404, "NO_EVENT": 404}


class Join(BaseModel):
    event_id: Annotated[str, Field(pattern=EVENT_NAME)]
    user_id: Annotated[str, Field(pattern=USER_NAME)] | None = None
    dedupe_key: Annotated[str, Field(pattern=KEY)] | None = None


class Joined(BaseModel):
    ticket: str
    event_id: str
    user_id: str
    stream_id: str
    state: str
    position: int
    user_position: int
    waiting: int
    estimate_s: float | None


class Place(BaseModel):
    event_id: str
    state: str
    position: int
    waiting: int
    estimate_s: float | None
    enter_within_s: float | None
    event_state: str


class Inside(BaseModel):
    event_id: str
    state: str
    token: str
    expires_ms: int


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    for name, text in SCRIPTS.items():
        digests[name] = await client.script_load(text)
    yield
    await client.aclose()


app = FastAPI(lifespan=lifespan)


async def run(operation: str, named: list[str], *arguments: str | int) -> list[Any]:
    answer: list[Any] = await client.evalsha(digests[operation], len(named), *named, *arguments)
    if not answer[0]:
        code = answer[1].decode()
        raise HTTPException(STATUS.get(code, 409), code)
    return answer[1:]


def ticket_in(authorization: str) -> str:
    return authorization.removeprefix("Bearer ")


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/api/v1/queue/join", status_code=201)
async def join(asked: Join, response: Response, idempotency_key: Annotated[str, Header()] = "") -> Joined:
    event = asked.event_id
    ticket = f"{event}.{secrets.token_urlsafe(16)}"
    ticket_id = keys.ticket_id(ticket)
    user = asked.user_id or f"anonymous-{ticket_id}"
    named = [*keys.line(event), f"stream:event:{{{event}}}", keys.user(event, user), keys.ticket(event, ticket_id)]
    if key := idempotency_key or asked.dedupe_key:
        named.append(keys.dedupe(event, key))
    sid, given, whose, position, in_stream, waiting, rate, *again = await run(
        "join", named, 0, ticket_id, user, ticket, user if idempotency_key else ""
    )
    if again:
        response.status_code = 200
    return Joined(
        ticket=given.decode(), event_id=event, user_id=whose.decode(), stream_id=sid.decode(), state="waiting",
        position=int(position), user_position=int(in_stream), waiting=int(waiting),
        estimate_s=int(position) * 1000 / int(rate) if int(rate) else None,
    )  # fmt: skip


@app.get("/api/v1/queue/status")
async def status(authorization: Annotated[str, Header()]) -> Place:
    ticket = ticket_in(authorization)
    event, ticket_id = event_of(ticket), keys.ticket_id(ticket)
    (place,) = await run("status", [*keys.line(event), keys.ticket(event, ticket_id)], ticket_id)
    if not place:
        raise HTTPException(404, "NO_TICKET")
    state, event_state, position, waiting, rate, _, within_ms, _, _ = place
    return Place(
        event_id=event, state=state.decode(), position=position, waiting=waiting,
        estimate_s=position * 1000 / rate if rate else None,
        enter_within_s=within_ms / 1000 if state == b"admitted" else None, event_state=event_state.decode(),
    )  # fmt: skip


@app.post("/api/v1/queue/enter")
async def enter(authorization: Annotated[str, Header()]) -> Inside:
    ticket = ticket_in(authorization)
    event, ticket_id = event_of(ticket), keys.ticket_id(ticket)
    named = [*keys.room(event)[:6], keys.ticket(event, ticket_id)]
    user, issued_ms, expires_ms = await run("enter", named, 0, ticket_id)
    entered = Entered(event, user.decode(), ticket_id, issued_ms, expires_ms)
    return Inside(event_id=event, state="inside", token=signer.sign(entered), expires_ms=expires_ms)
