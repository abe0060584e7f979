"""An S3 server, an rsync daemon and the stores of a stack for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgres import postgres_18  # noqa: F401 - a fixture
from rsyncd import Daemon, rsync_daemon
from s3 import S3Server, s3_server
from stack import PostgresSubject, RedisSubject, Subject
from stack import qdrant_subject as run_qdrant
from understudy.lab import Lab
from understudy.lab.servers.postgres import ScratchPostgres


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A credential-checking S3 server, for the whole session."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_env(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The same, with the environment set in which it is found."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture(scope="session")
def rsyncd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An rsync daemon, for the whole session; a test that asks for it is marked `needs_rsync`."""
    with rsync_daemon(tmp_path_factory.mktemp("rsyncd")) as daemon:
        yield daemon


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
