"""An S3 server for the tests of this folder, and an rsync daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rsyncd import Daemon, rsync_daemon
from s3 import S3Server, s3_server


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
