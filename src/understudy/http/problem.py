"""Errors as `application/problem+json`, the same whether a path, a value or a server behind us was wrong.

Source: RFC 9457. Beside its members stand ours: `error`, `doing`, `why`, `try`, `items`, `retryable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response

from understudy.errors import NotFoundError, RefusedError, UnderstudyError, UsageError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1


class TooManyError(UnderstudyError):
    """As much as we allow is under way already."""

    retryable = True


class TooSlowError(UnderstudyError):
    """The answer did not come in the time that a request may take."""

    retryable = True


class Problem(BaseModel):
    """What went wrong, why, and what to try next."""

    type: str = Field(description="`about:blank`: the status says what kind of problem it is")
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what was being done, and why it failed")
    error: str = Field(description="the kind of error, for programs")
    doing: str = Field(description="what was being done, and to what")
    why: str = Field(description="the cause in one sentence")
    hint: str = Field(alias="try", description="what to try next; may be empty")
    items: list[str] = Field(description="what failed, where there are many")
    retryable: bool = Field(description="whether the same request can succeed later")


_STATUS: Mapping[type[UnderstudyError], HTTPStatus] = {
    TooManyError: HTTPStatus.TOO_MANY_REQUESTS,
    UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    RefusedError: HTTPStatus.CONFLICT,
}


def problem(error: UnderstudyError, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response for an error; without a status the one of its class, and 503 where that has none."""
    code = HTTPStatus(status or _STATUS.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE))
    told = error.as_data()
    told.pop("exit_code")
    body = {"type": "about:blank", "title": code.phrase, "status": code.value, "detail": str(error), **told}
    more = dict(headers or {})
    if error.retryable and code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        more.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(orjson.dumps(body), code.value, more, MEDIA_TYPE)
