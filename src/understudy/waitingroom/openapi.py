"""The OpenAPI document, written from the same table and models that serve."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from understudy import __version__
from understudy.http.problem import MEDIA_TYPE
from understudy.waitingroom.bodies import Settings
from understudy.waitingroom.refusals import MEANINGS, CodedProblem
from understudy.waitingroom.route import Parameter, Route
from understudy.waitingroom.values import EVENT_NAME

_REFERENCE = "#/components/schemas/{model}"
_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    # a ticket may stand in the body or the query instead
    "ticket": [{"ticket": []}, {}],
    "token": [{"entryToken": []}],
    "secret": [{"secret": []}],
}
_SCHEMES = {
    "ticket": {"type": "http", "scheme": "bearer", "description": "a ticket, as `join` gives it"},
    "entryToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "as `enter` gives it"},
    "secret": {"type": "http", "scheme": "bearer", "description": "WAITINGROOM_SECRET"},
}
_DESCRIPTION = (
    "A line before a sale. People join once, see their exact place, are admitted at a rate that can be changed while "
    "it runs, and hold or buy seats. Every request may be repeated; with an Idempotency-Key it is answered the same."
)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document of these routes."""
    shown = [one for one in routes if one.documented]
    models: set[type[BaseModel]] = {CodedProblem}
    bodies = {one.body for one in shown if one.body}
    for one in shown:
        models |= {answer for answer in one.answers.values() if isinstance(answer, type)}
    _, replies = models_json_schema([(one, "serialization") for one in _sorted(models)], ref_template=_REFERENCE)
    _, asked = models_json_schema([(one, "validation") for one in _sorted(bodies)], ref_template=_REFERENCE)
    schemas = {**asked["$defs"], **replies["$defs"]}
    schemas["Problem"] = schemas.pop("CodedProblem")
    for changed in schemas[Settings.__name__]["properties"].values():
        changed.pop("default", None)  # what is left out is left as it is
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for one in shown:
        paths[one.path][one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Understudy waiting room", "version": __version__, "description": _DESCRIPTION},
        "paths": dict(paths),
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [_parameter(one) for one in route.parameters]
    if "{event}" in route.path:
        parameters.insert(0, {"name": "event", "in": "path", "required": True, "schema": _text(EVENT_NAME)})
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": re.sub(r"[^a-z0-9]+", "_", f"{route.method} {route.path}".lower()).strip("_"),
        "tags": [route.path.strip("/").removeprefix("api/v1/").partition("/")[0]],
        "responses": _responses(route),
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        content: dict[str, Any] = {"schema": {"$ref": _REFERENCE.format(model=route.body.__name__)}}
        if route.example:
            content["example"] = dict(route.example)
        operation["requestBody"] = {
            "required": route.access != "ticket", "content": {"application/json": content},
        }  # fmt: skip
    if route.access != "anyone":
        operation["security"] = _SECURITY[route.access]
    return operation


def _responses(route: Route) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for status, model in route.answers.items():
        told[str(status)] = answer = {"description": HTTPStatus(status).phrase}
        if isinstance(model, str):
            answer["content"] = {model: {"schema": {"type": "string"}}}  # type: ignore[assignment]
        elif model:
            schema = {"$ref": _REFERENCE.format(model=model.__name__)}
            answer["content"] = {"application/json": {"schema": schema}}  # type: ignore[assignment]
        if route.headers and status == HTTPStatus.OK:
            answer["headers"] = {  # type: ignore[assignment]
                name: {"description": text, "schema": {"type": "string"}} for name, text in route.headers.items()
            }
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys(route.codes):
        by_status[MEANINGS[code].status].append(code)
        if code == "INVALID" and route.body:
            by_status[HTTPStatus.BAD_REQUEST].append(code)
    if route.codes:
        by_status[HTTPStatus.INTERNAL_SERVER_ERROR].append("INTERNAL")
    for status, codes in sorted(by_status.items()):
        told[str(status)] = {
            "description": "; ".join(f"`{code}`: {MEANINGS[code].why}" for code in codes),
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
        }
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            told[str(status)]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    return told


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name, "in": one.where, "required": one.required, "description": one.text,
        "schema": _text(one.pattern),
    }  # fmt: skip


def _text(pattern: str) -> dict[str, str]:
    return {"type": "string", "pattern": pattern}


def _sorted(models: set[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(models, key=lambda model: model.__name__)
