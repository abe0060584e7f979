"""How a FastAPI application answers and documents its errors as problems (`problem.py`)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from understudy.errors import UnderstudyError, UsageError
from understudy.http.problem import MEDIA_TYPE, Problem, TooManyError, problem


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
