"""Copies elsewhere are read back; what breaks off is told, and leaves nothing that is listed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from planted import planted
from rsyncd import Daemon, needs_rsync
from s3 import BUCKET, S3Server
from understudy.backup.repositories import objectstore, open_repository
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, Repository
from understudy.backup.set import SetId
from understudy.errors import IntegrityError, UnreachableError
from understudy.operations.copies import copy, copy_with_missing
from understudy.progress import Silent

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def archive_of(directory: Path, set_id: SetId) -> Path:
    return directory / f"{set_id}{ARCHIVE_SUFFIX}"


@pytest.fixture(params=["directory", "s3", pytest.param("rsync", marks=needs_rsync)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        (tmp_path / "nas").mkdir()
        return str(tmp_path / "nas")
    if request.param == "rsync":
        daemon: Daemon = request.getfixturevalue("rsyncd")
        return daemon.uri(f"m/{tmp_path.name}")
    request.getfixturevalue("s3_env")
    return f"s3://{BUCKET}/{tmp_path.name}"


def test_a_copy_is_read_back_and_not_sent_twice(place: str, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    set_id = planted(sets, NOW, "daily")
    archive = archive_of(sets, set_id)
    (first,) = copy(archive, set_id, [place], Silent())
    assert (first.outcome, first.error) == ("copied", None)
    assert first.where
    assert first.where.endswith(archive.name)
    repository = open_repository(place)
    (stored,) = repository.sets()
    with repository.open(stored) as stream:
        assert stream.read() == archive.read_bytes()
    (again,) = copy(archive, set_id, [place], Silent())
    assert again.outcome == "there already"


def test_a_copy_that_is_damaged_there_is_replaced(place: str, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    set_id = planted(sets, NOW, "daily")
    archive = archive_of(sets, set_id)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(archive.read_bytes()[:-1] + b"?")
    repository = open_repository(place)
    repository.put(damaged, set_id, lambda _: None)
    (result,) = copy(archive, set_id, [place], Silent())
    assert result.outcome == "copied"
    with repository.open(repository.sets()[0]) as stream:
        assert stream.read() == archive.read_bytes()


class Lossy(LocalRepository):
    """A place whose disk changes a byte of what it is given."""

    def put(self, archive: Path, set_id: SetId, advance: object) -> str:
        where = super().put(archive, set_id, lambda _: None)
        data = bytearray(Path(where).read_bytes())
        data[len(data) // 2] ^= 1
        Path(where).write_bytes(data)
        return where


def test_a_copy_that_reads_back_differently_is_a_failure_that_keeps_no_other_place_from_its_copy(
    tmp_path: Path,
) -> None:
    sets = tmp_path / "sets"
    set_id = planted(sets, NOW, "daily")
    archive = archive_of(sets, set_id)
    before = archive.read_bytes()

    def opened(name: str) -> Repository:
        return Lossy(tmp_path / name) if name == "lossy" else LocalRepository(tmp_path / name)

    bad, good = copy(archive, set_id, ["lossy", "good"], Silent(), opened)
    assert (bad.outcome, good.outcome) == ("failed", "copied")
    assert isinstance(bad.error, IntegrityError)
    assert "not what was sent" in bad.line
    assert archive.read_bytes() == before


def test_what_an_earlier_run_could_not_copy_is_sent_later_the_newest_of_each_tier(tmp_path: Path) -> None:
    sets, nas = tmp_path / "sets", tmp_path / "nas"
    nas.mkdir()
    ids = {day: planted(sets, NOW + timedelta(days=day), "daily" if day % 2 else "weekly") for day in range(10)}
    by_hand = planted(sets, NOW + timedelta(days=8, hours=1))
    tiers = {set_id: "daily" if day % 2 else "weekly" for day, set_id in ids.items()}
    copy(archive_of(sets, ids[7]), ids[7], [str(nas)], Silent())
    results = copy_with_missing(LocalRepository(sets), ids[9], [str(nas)], Silent(), tiers.get, catch_up=2)
    # the newest itself; of the two newest daily ones before it 5 (7 is there), of the weekly ones 8 and 6
    assert [one.id for one in results] == [ids[9], ids[8], ids[6], ids[5]]
    assert by_hand not in {one.id for one in LocalRepository(nas).sets()}


def test_after_a_failure_nothing_more_is_tried_there_and_the_next_place_is(tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    ids = [planted(sets, NOW + timedelta(days=day), "daily") for day in range(3)]
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "nas").mkdir()
    results = copy_with_missing(
        LocalRepository(sets), ids[2], [str(tmp_path / "file"), str(tmp_path / "nas")], Silent(), lambda _: "daily"
    )
    assert [one.outcome for one in results] == ["failed", "copied", "copied", "copied"]
    assert isinstance(results[0].error, UnreachableError)


def test_a_full_disk_there_is_a_failure_with_a_reason_and_leaves_nothing(tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    set_id = planted(sets, NOW, "daily")

    class Full(LocalRepository):
        def put(self, archive: Path, set_id: SetId, advance: object) -> str:
            raise OSError(28, "No space left on device")

    (result,) = copy(archive_of(sets, set_id), set_id, ["nas"], Silent(), lambda _: Full(tmp_path / "nas"))
    assert isinstance(result.error, UnreachableError)
    assert "No space left" in result.line
    assert LocalRepository(tmp_path / "nas").sets() == []


@contextmanager
def wire_that_breaks(server: S3Server, after_bytes: int) -> Iterator[str]:
    """A relay to the S3 server; it goes dead for good when so many bytes were sent through it."""
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    left = [after_bytes]
    lock = threading.Lock()
    ends: list[socket.socket] = []
    pumps: list[threading.Thread] = []

    def pump(source: socket.socket, sink: socket.socket, *, counted: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                with lock:
                    left[0] -= len(data) if counted else 0
                    if left[0] <= 0:
                        break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if left[0] <= 0:
                near.close()
                continue
            far = socket.create_connection((host, int(port)))
            ends.extend((near, far))
            for pair, counted in (((near, far), True), ((far, near), False)):
                pumps.append(threading.Thread(target=pump, args=pair, kwargs={"counted": counted}, daemon=True))
                pumps[-1].start()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        serving.join(5)
        for one in ends:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in pumps:
            thread.join(5)
        for one in ends:
            one.close()


def test_a_store_that_is_gone_half_way_leaves_the_local_set_whole_and_nothing_listed(
    s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tmp_path / "sets"
    set_id = planted(sets, NOW, "daily", content=os.urandom(40 << 20))
    archive = archive_of(sets, set_id)
    before = archive.read_bytes()
    monkeypatch.setattr(objectstore, "MOST_RETRIES", 1)
    monkeypatch.setattr(objectstore, "REQUEST_TIMEOUT", "5s")
    monkeypatch.setattr(objectstore, "_RETRY_FOR", timedelta(seconds=2))
    with wire_that_breaks(s3_env, 20 << 20) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        (result,) = copy(archive, set_id, [f"s3://{BUCKET}/{tmp_path.name}"], Silent())
    assert result.outcome == "failed"
    assert result.error
    assert result.error.exit_code == 10
    assert result.error.hint
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_env.endpoint)
    assert open_repository(f"s3://{BUCKET}/{tmp_path.name}").sets() == []
    assert archive.read_bytes() == before
    (again,) = copy(archive, set_id, [f"s3://{BUCKET}/{tmp_path.name}"], Silent())
    assert again.outcome == "copied"


def test_an_upload_that_we_end_ourselves_is_taken_back_by_the_store(s3_env: S3Server, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    set_id = planted(sets, NOW, "daily", content=os.urandom(40 << 20))
    sent = 0

    class Stopping(Silent):
        def advance(self, amount: int) -> None:
            nonlocal sent
            sent += amount
            if sent > 20 << 20:
                raise UnreachableError("reading", "another component failed")

    prefix = tmp_path.name
    (result,) = copy(archive_of(sets, set_id), set_id, [f"s3://{BUCKET}/{prefix}"], Stopping())
    assert result.outcome == "failed"
    client = boto3.Session().client("s3", endpoint_url=s3_env.endpoint, region_name="us-east-1")
    uploads = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert [one for one in uploads if one["Key"].startswith(prefix)] == []
