"""What is answered: the same objects for those who poll and those who are told; and their shapes, for the document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from understudy.waitingroom.values import Counts, Event, EventSettings, EventState, Place, SeatState, State

_ESTIMATE = "seconds until the turn; null while nobody is called (paused, closed, a rate of 0)"


class PlaceReply(BaseModel):
    """Where a ticket stands."""

    event_id: str
    state: State
    position: int = Field(description="1 is next; 0 for who waits no more")
    waiting: int = Field(description="how many wait")
    estimate_s: float | None = Field(description=_ESTIMATE)
    enter_within_s: float | None = Field(description="while admitted: how long there is to enter")
    event_state: EventState


class JoinReply(BaseModel):
    """A ticket."""

    ticket: str = Field(description="whoever has it is that person")
    event_id: str
    user_id: str
    stream_id: str
    state: State
    position: int
    user_position: int = Field(description="among the tickets of this person")
    waiting: int
    estimate_s: float | None = Field(description=_ESTIMATE)


class EnterReply(BaseModel):
    """An entry token, the same however often it is asked for."""

    event_id: str
    state: State
    token: str
    expires_at: datetime
    expires_in_s: float


class LeaveReply(BaseModel):
    """How a ticket ended."""

    event_id: str
    state: str


class SeatsReply(BaseModel):
    """What was done to seats, and how many are free now."""

    event_id: str
    seats: list[str]
    remaining: int


class HoldReply(SeatsReply):
    """Seats that are held."""

    expires_at: datetime
    expires_in_s: float


class SeatMapReply(BaseModel):
    """Every seat of an event."""

    event_id: str
    total: int
    remaining: int
    seats: dict[str, SeatState]


class EventReply(BaseModel):
    """An event as it stands."""

    event_id: str
    state: EventState
    settings: EventSettings
    counts: Counts
    now: datetime = Field(description="by the server's clock")


class EventsReply(BaseModel):
    """All events."""

    events: list[EventReply]


class MessageReply(BaseModel):
    """A ticket that a worker took."""

    stream_id: str
    ticket_id: str
    user_id: str
    deliveries: int


class MessagesReply(BaseModel):
    """Tickets that a worker took."""

    messages: list[MessageReply]


class AcknowledgedReply(BaseModel):
    """How many were acknowledged."""

    acknowledged: int


class CleanedReply(BaseModel):
    """How many were removed."""

    cleaned: int


class HealthReply(BaseModel):
    """Whether all is well."""

    status: str
    why: str = Field(description="empty where all is well")


class KeysReply(BaseModel):
    """The public keys that entry tokens are signed with (RFC 7517)."""

    keys: list[dict[str, str]]


def place(stands: Place, estimate_s: float | None) -> dict[str, Any]:
    """Return where a ticket stands, as `PlaceReply`."""
    return {
        "event_id": stands.event_id,
        "state": stands.state,
        "position": stands.position,
        "waiting": stands.waiting,
        "estimate_s": estimate_s,
        "enter_within_s": stands.enter_within_ms / 1000 if stands.state == "admitted" else None,
        "event_state": stands.event_state,
    }


def event(stands: Event) -> dict[str, Any]:
    """Return an event, as `EventReply`."""
    return {
        "event_id": stands.event_id, "state": stands.state, "settings": stands.settings.model_dump(),
        "counts": stands.counts, "now": moment(stands.now_ms),
    }  # fmt: skip


def moment(ms: int) -> str:
    """Return a time of the server in RFC 3339."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def until(expires_ms: int, now_ms: float) -> dict[str, Any]:
    """Return when something ends, and in how many seconds."""
    return {"expires_at": moment(expires_ms), "expires_in_s": max(0.0, round((expires_ms - now_ms) / 1000, 3))}
