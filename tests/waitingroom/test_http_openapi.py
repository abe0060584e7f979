"""The OpenAPI document says the truth: every answer to generated requests is as it is written there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation

from understudy.lab import Lab
from understudy.waitingroom.refusals import MEANINGS
from understudy.waitingroom.routes import ROUTES
from waitingroom.conftest import SECRET, Served, serving

STREAM = "/api/v1/queue/updates"
EXAMPLES, MANY = 4, 100


@pytest.fixture(scope="module")
def described(valkey_standalone_lab: Lab) -> Iterator[Served]:
    with serving(valkey_standalone_lab.target()) as one:
        yield one


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_the_document_says(described: Served, mode: GenerationMode) -> None:
    _try_all(described, mode, EXAMPLES)


@pytest.mark.soak
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_each_of_many_answers_is_as_the_document_says(described: Served, mode: GenerationMode) -> None:
    _try_all(described, mode, MANY)


def _try_all(described: Served, mode: GenerationMode, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{described.url}openapi.json")
    event = described.event(seats=["A1"], rate_per_s=1000)
    ticket = described.join(event)["ticket"]
    token = described.inside(event)["Authorization"]
    for found in schema.get_all_operations():
        operation = found.ok()
        known = {"secret": f"Bearer {SECRET}", "entryToken": token, "ticket": f"Bearer {ticket}"}
        names = [name for one in operation.definition.raw.get("security", []) for name in one]
        raw = operation.definition.raw
        if operation.path != STREAM and (mode is GenerationMode.POSITIVE or raw.keys() & {"parameters", "requestBody"}):
            _try(operation, mode, {"Authorization": known[names[0]]} if names else {}, event, examples)


def _try(operation: APIOperation, mode: GenerationMode, headers: dict[str, str], event: str, examples: int) -> None:
    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def check(case: schemathesis.Case) -> None:
        if mode is GenerationMode.POSITIVE and "event" in (case.path_parameters or {}):
            case.path_parameters = {"event": event}
        case.call_and_validate(timeout=20, headers=headers)

    check()


def test_every_route_and_every_code_is_documented(described: Served) -> None:
    written: dict[str, Any] = described.get("/openapi.json")
    for one in ROUTES:
        if one.documented:
            operation = written["paths"][one.path][one.method.lower()]
            told = "".join(answer["description"] for answer in operation["responses"].values())
            assert all(f"`{code}`" in told for code in one.codes)
    assert set(written["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(MEANINGS)
    assert set(written["components"]["securitySchemes"]) == {"ticket", "entryToken", "secret"}
    assert "text/event-stream" in written["paths"][STREAM]["get"]["responses"]["200"]["content"]


def test_leaving_is_refused_for_few_reasons(described: Served) -> None:
    told = str(described.get("/openapi.json")["paths"]["/api/v1/queue/leave"]["post"]["responses"])
    assert "`NO_TICKET`" in told and "`NO_EVENT`" not in told and "`TICKET_GONE`" not in told


def test_examples_are_answered(described: Served) -> None:
    for one in ROUTES:
        if one.example and one.access == "secret" and "{" not in one.path:
            body = {**one.example, "event_id": "of-an-example"}
            assert described.http.post(one.path, json=body, headers=described.operator).status_code in one.answers
