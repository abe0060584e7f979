"""The stores of a stack, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgres import postgres_18  # noqa: F401 - a fixture
from stack import PostgresSubject, RedisSubject, Subject
from stack import qdrant_subject as run_qdrant
from understudy.lab import Lab
from understudy.lab.servers.postgres import ScratchPostgres


@pytest.fixture
def postgres_subject(postgres_18: ScratchPostgres) -> Iterator[Subject]:  # noqa: F811
    """A database on the session's PostgreSQL; gone after the test, since others look at all that the server holds."""
    found = PostgresSubject(postgres_18, "stack_app")
    yield found
    found.destroy()


@pytest.fixture
def redis_subject(valkey_cluster: Lab) -> Subject:
    """The session's Valkey cluster, emptied."""
    return RedisSubject(valkey_cluster)


@pytest.fixture(scope="session")
def qdrant_subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A stand-in for Qdrant, for the whole session."""
    with run_qdrant(tmp_path_factory.mktemp("qdrant")) as found:
        yield found
