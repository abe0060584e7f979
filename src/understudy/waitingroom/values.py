"""What the waiting room's operations take and give, as frozen values; and its one error, a refusal with a code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from understudy.errors import UnderstudyError

EVENT_NAME = r"^[A-Za-z0-9_-]{1,64}$"
USER_NAME = r"^[A-Za-z0-9._@:+-]{1,128}$"
SEAT_NAME = r"^[A-Za-z0-9._:-]{1,64}$"
KEY = r"^[\x21-\x7e]{1,128}$"  # an idempotency or a dedupe key
TICKET = re.compile(r"^([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{22})$")
MOST_SEATS = 100_000
MOST_PEOPLE = 1_000_000_000

State = Literal[
    "waiting", "admitted", "inside", "ended", "left", "expired", "abandoned", "aged", "serving", "done"
]  # fmt: skip
EventState = Literal["creating", "created", "open", "paused", "closed"]
Action = Literal["open", "pause", "resume", "close"]
SeatState = Literal["AVAILABLE", "HELD", "SOLD"]


class RefusalError(UnderstudyError):
    """The operation answered `{0, CODE, data…}`: nothing was changed."""

    exit_code: ClassVar[int] = 14

    def __init__(self, doing: str, code: str, data: Sequence[str] = ()) -> None:
        self.code = code
        self.data = tuple(data)
        super().__init__(doing, code, items=list(data))


class EventSettings(BaseModel):
    """What an operator sets, and may change while the sale runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate_per_s: Annotated[float, Field(ge=0, le=100_000, description="admissions per second; 0 admits nobody")] = 10.0
    burst: Annotated[
        int, Field(ge=0, le=1_000_000, description="admissions that may be saved up; 0: one second's, at least one")
    ] = 0
    max_inside: Annotated[int, Field(ge=0, le=MOST_PEOPLE, description="called and inside at once; 0: no limit")] = 0
    max_waiting: Annotated[int, Field(ge=0, le=MOST_PEOPLE, description="tickets in the line; 0: no limit")] = 1_000_000
    entry_ttl_s: Annotated[float, Field(gt=0, le=86_400, description="time to enter once called")] = 60.0
    session_ttl_s: Annotated[float, Field(gt=0, le=86_400, description="life of the entry token")] = 600.0
    hold_ttl_s: Annotated[float, Field(gt=0, le=86_400, description="life of a hold")] = 120.0
    abandon_after_s: Annotated[float, Field(ge=0, le=86_400, description="silence that ends a ticket; 0: never")] = (
        120.0
    )
    dedupe_ttl_s: Annotated[float, Field(gt=0, le=86_400, description="how long a key is remembered")] = 300.0
    tickets_per_user: Annotated[int, Field(ge=1, le=1000)] = 1
    seats_per_ticket: Annotated[int, Field(ge=1, le=100)] = 4


@dataclass(frozen=True)
class Counts:
    """How many there are of what, at one instant."""

    waiting: int
    admitted: int  # called, not yet inside
    inside: int
    held: int
    sold: int
    remaining: int
    seats_total: int
    joined: int  # from here on: since the event was created
    called: int
    entered: int
    left: int
    expired: int
    abandoned: int
    aged: int
    ended: int
    stream_length: int
    pending: int  # taken by a worker, not acknowledged


@dataclass(frozen=True)
class Event:
    """An event as it stands."""

    event_id: str
    state: EventState
    settings: EventSettings
    counts: Counts
    now_ms: int  # by the server's clock


@dataclass(frozen=True)
class Place:
    """Where a ticket stands. `position` is 1 for who is next, 0 for who waits no more."""

    event_id: str
    state: State
    event_state: EventState
    position: int
    waiting: int
    rate_per_s: float
    called: int  # admissions since the event was created: two of these and a clock give the rate in fact
    enter_within_ms: int  # only while admitted
    seen_ago_ms: int  # since the last sign of life; only while waiting
    abandon_after_ms: int


@dataclass(frozen=True)
class Joined:
    """A ticket, new or (replayed) the one that the same request got before."""

    ticket: str
    event_id: str
    user_id: str
    stream_id: str
    position: int
    user_position: int
    waiting: int
    rate_per_s: float
    replayed: bool


@dataclass(frozen=True)
class Entered:
    """Who is inside; the same, however often it is asked for. Times are the server's, in ms since 1970."""

    event_id: str
    user_id: str
    token_id: str
    issued_ms: int
    expires_ms: int


@dataclass(frozen=True)
class Seats:
    """What a seat operation did. `expires_ms` is 0 but for a hold; `now_ms` is the server's clock."""

    event_id: str
    seats: tuple[str, ...]
    remaining: int
    expires_ms: int
    now_ms: int
    replayed: bool = False


@dataclass(frozen=True)
class Message:
    """A ticket that a worker took from the line, until it acknowledges it."""

    stream_id: str
    ticket_id: str
    user_id: str
    deliveries: int


@dataclass(frozen=True)
class SeatMap:
    """Every seat of an event and its state."""

    event_id: str
    total: int
    remaining: int
    seats: dict[str, SeatState] = field(default_factory=dict)


def event_of(ticket: str) -> str:
    """Return the event that a ticket is for.

    Raises:
        RefusalError: `NO_TICKET`: that is no ticket at all.
    """
    if found := TICKET.match(ticket):
        return found[1]
    raise RefusalError("reading a ticket", "NO_TICKET")
