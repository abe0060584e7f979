"""One suite for every repository, and what is particular to an object store."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rsyncd import needs_rsync
from s3 import BUCKET, S3Server
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repositories.objectstore import ObjectStoreRepository
from understudy.backup.repositories.rsync import RsyncRepository
from understudy.backup.repository import Repository, find
from understudy.backup.set import SetId
from understudy.errors import NotAuthorisedError, NotFoundError, UnderstudyError, UnreachableError, UsageError

NOTHING = lambda _: None  # noqa: E731


def new_id(day: int) -> SetId:
    return SetId.new("redis-backup", "local", datetime(2026, 11, day, 1, 2, 3, tzinfo=UTC))


@pytest.fixture(params=["local", "s3", pytest.param("rsync", marks=needs_rsync)])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    if request.param == "local":
        return LocalRepository(tmp_path / "sets")
    if request.param == "rsync":
        return RsyncRepository(request.getfixturevalue("rsyncd").uri(f"m/{tmp_path.name}"))
    request.getfixturevalue("s3_env")
    return ObjectStoreRepository(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(os.urandom(20 << 20))  # several parts of a multipart upload
    return path


def test_a_new_repository_is_empty(repository: Repository) -> None:
    assert repository.sets() == []
    with pytest.raises(NotFoundError) as refusal:
        find(repository, "latest")
    assert refusal.value.exit_code == 11


def test_what_is_put_is_listed_newest_first_and_comes_back_the_same(repository: Repository, archive: Path) -> None:
    ids = [new_id(day) for day in (3, 1, 2)]
    told: list[int] = []
    for set_id in ids:
        place = repository.put(archive, set_id, told.append)
        assert place.endswith(f"{set_id}.tar.gz")
    assert sum(told) == 3 * archive.stat().st_size
    assert [stored.id for stored in repository.sets()] == sorted(ids, reverse=True)
    assert find(repository, "latest").id == ids[0]
    assert find(repository, f"{ids[1]}.tar.gz").size == archive.stat().st_size
    with repository.open(find(repository, str(ids[1]))) as stream:
        assert stream.read() == archive.read_bytes()


def test_what_is_deleted_is_gone(repository: Repository, archive: Path) -> None:
    repository.put(archive, new_id(1), NOTHING)
    repository.put(archive, new_id(2), NOTHING)
    repository.delete(find(repository, "latest"))
    assert [stored.id.created.day for stored in repository.sets()] == [1]


def test_an_upload_that_breaks_off_is_never_listed(repository: Repository, archive: Path) -> None:
    sent = 0

    def pull_the_plug(count: int) -> None:
        nonlocal sent
        sent += count
        if sent > 12 << 20:
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017 - whatever it is, nothing may be there
        repository.put(archive, new_id(1), pull_the_plug)
    assert repository.sets() == []


# -- the object store in particular


@pytest.mark.parametrize(
    ("profile", "uri", "kind", "says"),
    [
        ("unknown", f"s3://{BUCKET}/x", NotAuthorisedError, "access key is not known"),
        ("wrong-secret", f"s3://{BUCKET}/x", NotAuthorisedError, "secret key does not fit"),
        ("no-such-profile", f"s3://{BUCKET}/x", NotAuthorisedError, "no-such-profile"),
        ("toy-root", "s3://no-such-bucket/x", NotFoundError, "bucket does not exist"),
        ("toy-root", "http://somewhere", UsageError, "not like s3://"),
    ],
)
def test_a_refusal_says_why(
    s3_env: S3Server,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    uri: str,
    kind: type[UnderstudyError],
    says: str,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", profile)
    acts: list[Callable[[Repository], object]] = [lambda r: r.sets(), lambda r: r.put(archive, new_id(1), NOTHING)]
    for act in acts:
        with pytest.raises(kind, match=says) as refusal:
            act(ObjectStoreRepository(uri))
        assert refusal.value.hint


def test_no_credentials_at_all_are_noticed_before_anything_is_sent(
    s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(NotAuthorisedError, match="no AWS credentials"):
        ObjectStoreRepository(f"s3://{BUCKET}/x")


def test_credentials_of_the_environment_work(s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = (line.split(" = ")[1] for line in s3_env.credentials.read_text().splitlines()[1:3])
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    assert ObjectStoreRepository(f"s3://{BUCKET}/nothing-here").sets() == []


@contextmanager
def answering(head: bytes, body: bytes) -> Iterator[str]:
    """A server that gives one answer to everything: for what a real store cannot be made to say."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    connection.recv(1 << 16)
                    connection.sendall(head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_a_wrong_clock_is_named(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"
    with answering(b"HTTP/1.1 403 Forbidden\r\n", body) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(NotAuthorisedError, match="clock") as refusal:
            ObjectStoreRepository(f"s3://{BUCKET}/x").sets()
    assert "Set the clock" in refusal.value.hint


def test_a_download_that_is_cut_off_is_an_error(
    s3_env: S3Server, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ObjectStoreRepository(f"s3://{BUCKET}/cut")
    repository.put(archive, new_id(1), NOTHING)
    stored = find(repository, "latest")
    s3_env.process.send_signal(19)  # SIGSTOP: it accepts and says nothing
    try:
        monkeypatch.setattr("understudy.backup.repositories.objectstore.REQUEST_TIMEOUT", "1s")
        monkeypatch.setattr("understudy.backup.repositories.objectstore.MOST_RETRIES", 1)
        with pytest.raises(UnreachableError) as refusal, repository_again("cut").open(stored) as stream:
            stream.read()
        assert refusal.value.exit_code == 10
    finally:
        s3_env.process.send_signal(18)


def repository_again(prefix: str) -> ObjectStoreRepository:
    return ObjectStoreRepository(f"s3://{BUCKET}/{prefix}")
