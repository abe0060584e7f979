"""The bodies that requests have: what is checked here is what the OpenAPI document says."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from understudy.waitingroom.refusals import ProblemError
from understudy.waitingroom.values import EVENT_NAME, KEY, MOST_SEATS, SEAT_NAME, TICKET, USER_NAME, EventSettings

MOST_BODY_BYTES = 16 * 1024
MOST_EVENT_BODY_BYTES = 4 * 1024 * 1024
MOST_SEATS_AT_ONCE = 100
_MOST_SAID = 20
_KEY = re.compile(KEY.rstrip("$"))
_KINDS = ("constrained-", "function-after[")  # pydantic's names for the kinds that seats may be of
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

EventName = Annotated[str, Field(pattern=EVENT_NAME, description="a sale", examples=["concert"])]
SeatName = Annotated[str, Field(pattern=SEAT_NAME, examples=["A1"])]
StreamId = Annotated[str, Field(pattern=r"^[0-9]{1,20}-[0-9]{1,20}$", examples=["1759657663602-0"])]
Consumer = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$", description="the worker", examples=["worker-1"])]


def _different(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise ValueError("each may be named once")
    return names


class Join(BaseModel):
    """Who wants into which line."""

    model_config = _STRICT
    event_id: EventName
    user_id: Annotated[str, Field(pattern=USER_NAME, examples=["user-123"])] | None = Field(
        None, description="whose ticket; one is made up where none is given"
    )
    dedupe_key: Annotated[str, Field(pattern=KEY)] | None = Field(
        None, description="a second ticket with the same key is a DUPLICATE, whoever asks"
    )


class Ticket(BaseModel):
    """A ticket, where the Authorization header does not give one."""

    model_config = _STRICT
    ticket: Annotated[str, Field(pattern=TICKET.pattern)] | None = None


class SeatNames(BaseModel):
    """Seats: all of them, or none."""

    model_config = _STRICT
    seats: Annotated[
        list[SeatName],
        Field(min_length=1, max_length=MOST_SEATS_AT_ONCE, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_different),
    ]


class Numbered(BaseModel):
    """A body with whole numbers, which JSON may also write as 3.0."""

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Settings(Numbered, EventSettings):
    """Settings, any of them."""

    model_config = _STRICT


class NewEvent(Settings):
    """A new event: its name, its seats, and settings where they differ from the defaults."""

    event_id: EventName
    seats: (
        Annotated[int, Field(ge=0, le=MOST_SEATS, description="so many, named 1, 2, 3 …", examples=[500])]
        | Annotated[
            list[SeatName],
            Field(max_length=MOST_SEATS, json_schema_extra={"uniqueItems": True}),
            AfterValidator(_different),
        ]
    )

    def seat_names(self) -> list[str]:
        """Return the names of the seats."""
        return [str(1 + one) for one in range(self.seats)] if isinstance(self.seats, int) else self.seats

    def settings(self) -> EventSettings:
        """Return the settings."""
        return EventSettings(**self.model_dump(include=set(EventSettings.model_fields)))


class Dequeue(Numbered):
    """Take tickets from the front of the line, to work on them."""

    model_config = _STRICT
    consumer: Consumer
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    visibility_s: Annotated[
        float,
        Field(
            gt=0,
            le=86_400,
            description="what another worker took longer ago than this, and did not acknowledge, is taken too",
        ),
    ] = 60.0


class Acknowledge(BaseModel):
    """Messages that a worker is done with."""

    model_config = _STRICT
    consumer: Consumer
    stream_ids: Annotated[list[StreamId], Field(min_length=1, max_length=1000)]


class Cleanup(BaseModel):
    """Remove tickets by their age."""

    model_config = _STRICT
    older_than_s: Annotated[float, Field(ge=0, le=10 * 365 * 86_400)]


Body = TypeVar("Body", bound=BaseModel)


def read(kind: type[Body], body: bytes) -> Body:
    """Return what a body says.

    Raises:
        ProblemError: `INVALID`: 400 where it is no JSON, 422 where something in it is not as it must be.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> ProblemError:
    """Return the problem for values that are wrong. What was sent is not repeated."""
    told = error.errors(include_url=False, include_context=False, include_input=False)
    items = [f"{_where(one['loc']) or 'body'}: {one['msg']}" for one in told[:_MOST_SAID]]
    return ProblemError("INVALID", status=400 if told[0]["type"] == "json_invalid" else 422, items=items)


def _where(place: tuple[int | str, ...]) -> str:
    """Return where a wrong value stands, in the words of whoever sent it."""
    return ".".join(str(one) for one in place if not str(one).startswith(_KINDS))


def key_of(header: str) -> str:
    """Return the Idempotency-Key of a request; empty where it has none.

    Raises:
        ProblemError: `INVALID`: it is too long, or has characters that it may not have.
    """
    if header and not _KEY.fullmatch(header):
        raise ProblemError("INVALID", items=["Idempotency-Key: 1 to 128 printable ASCII characters without spaces"])
    return header


def changes_of(settings: Settings) -> dict[str, Any]:
    """Return what was asked to be changed."""
    return settings.model_dump(exclude_unset=True)
