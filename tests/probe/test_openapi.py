"""The OpenAPI document says the truth: every answer to generated requests is as it is written there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation

from probe.conftest import Probe, serving
from understudy.lab import Lab

STREAMS = ("/redis/monitor", "/redis/failover-recovery")
SHORT_S, FEW, EXAMPLES, MANY = 0.1, 20, 6, 100


@pytest.fixture(scope="module")
def probed(valkey_standalone_lab: Lab) -> Iterator[Probe]:
    with serving(valkey_standalone_lab.target()) as probe:
        yield probe


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_the_document_says(probed: Probe, mode: GenerationMode) -> None:
    _try_all(probed, mode, EXAMPLES)


@pytest.mark.soak
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_each_of_many_answers_is_as_the_document_says(probed: Probe, mode: GenerationMode) -> None:
    _try_all(probed, mode, MANY)


def _try_all(probed: Probe, mode: GenerationMode, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{probed.url}openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.POSITIVE or operation.query:
            _try(operation, mode, examples)


def _try(operation: APIOperation, mode: GenerationMode, examples: int) -> None:
    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def check(case: schemathesis.Case) -> None:
        shortened = dict(case.query or {})
        if operation.path in STREAMS:
            shortened["duration"] = _at_most(shortened.get("duration", 1), SHORT_S)
        if "count" in shortened:
            shortened["count"] = _at_most(shortened["count"], FEW)
        case.query = shortened
        case.call_and_validate(timeout=20)

    check()


def _at_most(value: object, most: float) -> object:
    """Return a value that is in bounds as one that is done soon; one that is out of bounds as it is."""
    with suppress(TypeError, ValueError):
        if most < float(str(value)) <= 10_000:
            return most
    return value


def test_streams_and_problems_are_documented(probed: Probe) -> None:
    written = probed.get("/openapi.json")
    assert set(written["paths"]) >= {f"/redis/{name}" for name in ("status", "health", "test-keys")}
    for path in STREAMS:
        answers = written["paths"][path]["get"]["responses"]
        assert "application/x-ndjson" in answers["200"]["content"]
        assert "application/problem+json" in answers["429"]["content"]
    assert "try" in written["components"]["schemas"]["Problem"]["properties"]
