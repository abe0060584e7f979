"""What is answered when nothing is done: a problem (RFC 9457) with a `code`, its status, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import Field

from understudy.http.answer import Answer, RawHeaders
from understudy.http.problem import MEDIA_TYPE, Problem

RETRY_AFTER_S = 1


@dataclass(frozen=True)
class Meaning:
    """What a code means: the status of its answer, why nothing was done, and what to try."""

    status: int
    why: str
    hint: str = ""


MEANINGS: Mapping[str, Meaning] = {
    "INVALID": Meaning(422, "the request is not as it must be", "/openapi.json says how it must be."),
    "UNAUTHORISED": Meaning(401, "the token is missing, wrong or expired", "Authorization: Bearer TOKEN"),
    "NOT_INSIDE": Meaning(403, "this ticket is not inside, or no more", "Enter first; a session ends after its time."),
    "NOT_HOLDER": Meaning(403, "somebody else holds one of these seats, or nobody does any more", "Hold them first."),
    "NO_SECRET": Meaning(
        403, "this gateway has no secret for administration", "Start it with WAITINGROOM_SECRET or --secret-file."
    ),
    "CROSS_SITE": Meaning(403, "the request comes from a page of another site", "Ask from the operator's page."),
    "NO_EVENT": Meaning(404, "there is no such event"),
    "NO_TICKET": Meaning(404, "there is no such ticket", "Join the line to get one."),
    "NO_SEAT": Meaning(404, "the event has no such seat", "GET /api/v1/seats names them."),
    "NO_PATH": Meaning(404, "there is nothing at this path", "/openapi.json says what there is."),
    "DUPLICATE": Meaning(409, "this person is in the line already", "Go on with the ticket that was given first."),
    "IDEMPOTENCY_CONFLICT": Meaning(
        409,
        "another request was made with this Idempotency-Key",
        "Use a key once, for one request and its repetitions.",
    ),
    "SEAT_UNAVAILABLE": Meaning(409, "somebody else has one of these seats", "Choose others."),
    "SOLD_OUT": Meaning(409, "no seats are left", "Held seats may become free again."),
    "SEAT_SOLD": Meaning(409, "one of these seats is sold", "What is sold cannot be released."),
    "TOO_MANY_SEATS": Meaning(409, "that is more seats than one ticket may have"),
    "NOT_ADMITTED": Meaning(409, "it is not this ticket's turn yet", "Wait until its state is admitted."),
    "EVENT_NOT_OPEN": Meaning(409, "the event is not open"),
    "EVENT_EXISTS": Meaning(409, "there is an event of this name already"),
    "WRONG_STATE": Meaning(409, "the event's state does not allow that"),
    "QUEUE_FULL": Meaning(409, "the line is full", "Try again later."),
    "TICKET_GONE": Meaning(410, "this ticket left, expired, was abandoned or has ended", "Join again."),
    "TOO_LARGE": Meaning(413, "the body is too large"),
    "TOO_MANY_REQUESTS": Meaning(429, "this address asks too often", "Wait as long as Retry-After says."),
    "INTERNAL": Meaning(500, "this is a bug in understudy", "The log of the gateway names it."),
    "UNAVAILABLE": Meaning(503, "the server did not answer in time", "Repeat the same request: nothing is done twice."),
}
_RETRYABLE = {429, 503}


class CodedProblem(Problem):
    """What went wrong, why, and what to try next. `code` is what programs go by."""

    code: str = Field(description="what went wrong, for programs", json_schema_extra={"enum": [*MEANINGS]})
    position: int | None = Field(None, description="with NOT_ADMITTED: 1 is next")
    estimate_s: float | None = Field(None, description="with NOT_ADMITTED: seconds until the turn, where that is known")


class ProblemError(Exception):
    """Ends a request with a problem. `why` is for one that can be said closer than by its code alone."""

    def __init__(
        self,
        code: str,
        *,
        status: int = 0,
        why: str = "",
        items: Sequence[str] = (),
        headers: RawHeaders = (),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.status = status
        self.why = why
        self.items = list(items)
        self.headers = headers
        self.more = more or {}
        super().__init__(code)


def refuse(doing: str, error: ProblemError) -> Answer:
    """Return the answer for a problem."""
    meaning = MEANINGS.get(error.code, MEANINGS["INTERNAL"])
    status = error.status or meaning.status
    why = error.why or meaning.why
    body = {
        "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": f"{doing}: {why}",
        "code": error.code, "error": "Refusal", "doing": doing, "why": why, "try": meaning.hint, "items": error.items,
        "retryable": status in _RETRYABLE, **error.more,
    }  # fmt: skip
    headers = error.headers
    if status in _RETRYABLE and not any(name == b"retry-after" for name, _ in headers):
        headers = (*headers, (b"retry-after", b"%d" % RETRY_AFTER_S))
    if status == HTTPStatus.UNAUTHORIZED:
        headers = (*headers, (b"www-authenticate", b"Bearer"))
    return Answer(status, orjson.dumps(body), MEDIA_TYPE.encode(), headers)
