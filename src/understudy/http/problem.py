"""Errors as `application/problem+json`, the same whether a path, a value or a server behind us was wrong.

Source: RFC 9457. Beside its members stand ours: `error`, `doing`, `why`, `try`, `items`, `retryable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
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


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how FastAPI writes these statuses, answered with a problem, into the OpenAPI document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"model": None, "description": HTTPStatus(status).phrase, "content": content} for status in statuses
    }


def answer_problems(app: FastAPI, upstream: int = HTTPStatus.SERVICE_UNAVAILABLE) -> None:
    """Have an application answer every error as a problem; errors of ours with `upstream`, but for `TooManyError`."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, UnderstudyError)  # noqa: S101 - as it was registered
        return problem(error, None if isinstance(error, TooManyError) else upstream)

    async def wrong_value(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        said = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return problem(
            UsageError(f"reading the parameters of {request.url.path}", "; ".join(said), "/openapi.json", said)
        )

    async def by_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        why = HTTPStatus(error.status_code).phrase
        return problem(
            UsageError(f"{request.method} {request.url.path}", why, "/openapi.json says what there is"),
            error.status_code,
            error.headers,
        )

    app.add_exception_handler(UnderstudyError, ours)
    app.add_exception_handler(RequestValidationError, wrong_value)
    app.add_exception_handler(HTTPException, by_status)


def with_problem_schema(app: FastAPI) -> None:
    """Have the OpenAPI document define the schema that `documented` refers to."""
    write = app.openapi

    def openapi() -> dict[str, Any]:
        document = write()
        schema = Problem.model_json_schema(by_alias=True)
        document.setdefault("components", {}).setdefault("schemas", {}).setdefault("Problem", schema)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
