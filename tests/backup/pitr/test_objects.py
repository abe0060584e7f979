"""The port of an archive's objects: one suite over a directory and an object store, and what is kept in them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3 import BUCKET, S3Server
from understudy.backup.pitr import stream
from understudy.backup.pitr.objects import LocalObjects, Objects, open_objects
from understudy.backup.pitr.stream import (
    Base,
    ChunkName,
    Gap,
    Head,
    Slots,
    StreamInfo,
    is_stream_id,
    root_of,
    slots_from_ms,
    stream_id,
)
from understudy.backup.repositories.objectstore import ObjectStoreRepository
from understudy.errors import IntegrityError, NotFoundError, UnreachableError, UsageError
from understudy.valkey.topology import SLOTS

ROOT = "archive/redis-backup-local"
INFO = StreamInfo(
    "20261121T140000Z-1f3a", "redis-backup", "local", "127.0.0.1:7001", "a" * 40, 17, "standalone", "valkey 9.1.2",
    16, Base("base.rdb.gz", 5, "b" * 64, 9), 1_795_269_600_017,
)  # fmt: skip


@pytest.fixture(params=["directory", "store"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Objects]:
    """Both kinds of places, empty."""
    if request.param == "directory":
        yield open_objects(tmp_path / "place")
    else:
        request.getfixturevalue("s3_env")
        yield open_objects(f"s3://{BUCKET}/{uuid4()}")


def test_objects_are_put_listed_read_and_deleted(objects: Objects, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"0123456789" * 300_000)
    assert objects.folders(ROOT) == []
    assert objects.sizes(f"{ROOT}/one") == {}
    objects.put(f"{ROOT}/one/head.json", b"first")
    objects.put(f"{ROOT}/one/head.json", b"second")
    objects.put_file(f"{ROOT}/one/base", large)
    objects.put_file(f"{ROOT}/two/base", large)
    objects.put(f"{ROOT}/lock.json", b"me")
    assert objects.folders(ROOT) == ["one", "two"]
    assert objects.sizes(f"{ROOT}/one") == {"head.json": 6, "base": 3_000_000}
    assert objects.sizes(ROOT) == {"lock.json": 2}
    assert objects.get(f"{ROOT}/one/head.json") == b"second"
    seen: list[int] = []
    objects.fetch(f"{ROOT}/one/base", tmp_path / "fetched", seen.append)
    assert (tmp_path / "fetched").read_bytes() == large.read_bytes()
    assert sum(seen) == 3_000_000
    for name in objects.sizes(f"{ROOT}/one"):
        objects.delete(f"{ROOT}/one/{name}")
    objects.remove_folder(f"{ROOT}/one")
    objects.delete(f"{ROOT}/one/head.json")
    objects.remove_folder(f"{ROOT}/one")
    assert objects.folders(ROOT) == ["two"]


def test_an_object_is_created_once(objects: Objects) -> None:
    assert objects.create(f"{ROOT}/lock.json", b"mine")
    assert not objects.create(f"{ROOT}/lock.json", b"theirs")
    assert objects.get(f"{ROOT}/lock.json") == b"mine"
    assert objects.sizes(ROOT) == {"lock.json": 4}


def test_of_many_that_create_one_at_once_one_has_it_with_its_own_bytes(tmp_path: Path) -> None:
    there = LocalObjects(tmp_path)
    for n in range(20):
        path, ready = f"archive/a-b/{n}.json", Barrier(8)

        def create(who: int, path: str = path, ready: Barrier = ready) -> bool:
            ready.wait()
            return there.create(path, b"%d" % who)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert sum(won) == 1
        assert there.get(path) == b"%d" % won.index(True)


def test_what_is_not_there_is_not_found(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        objects.get(f"{ROOT}/none")
    with pytest.raises(NotFoundError):
        objects.fetch(f"{ROOT}/none", tmp_path / "none")


def test_sets_are_listed_at_the_same_cost_whatever_lies_in_an_archive(s3_env: S3Server) -> None:
    uri = f"s3://{BUCKET}/{uuid4()}"
    one = "redis-backup-local-20261120T234000Z-1f3a"
    objects = open_objects(uri)
    objects.put(f"{one}.tar.gz", b"a set")
    objects.put(f"{ROOT}/20261121T140000Z-1f3a/{one}.tar.gz", b"none")
    assert [(str(stored.id), stored.size) for stored in ObjectStoreRepository(uri).sets()] == [(one, 5)]


def test_a_directory_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    objects = LocalObjects(tmp_path / "file")
    with pytest.raises(UnreachableError, match="Not a directory"):
        objects.put("a/b", b"")


@pytest.mark.parametrize("place", ["host:/path", "user@host:/path", "rsync://host/module"])
def test_a_place_by_rsync_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="every few seconds"):
        open_objects(place)


@given(*[st.integers(0, 10**14)] * 4, st.integers(0, 10**8), st.booleans())
def test_a_chunks_name_says_what_is_in_it(start: int, length: int, seq: int, size: int, digest: int, age: bool) -> None:
    name = ChunkName(seq % 10**11, start, start + length, size, f"{digest:016x}", age)
    assert ChunkName.parse(str(name)) == (name if start + length < 10**14 else None)


@given(st.text("incr-0123456789abcdef.aofgz", max_size=80))
def test_other_names_are_no_chunks(text: str) -> None:
    assert ChunkName.parse(text) is None
    assert slots_from_ms(text) is None
    assert not is_stream_id(text)


def test_chunks_sort_as_they_are_numbered_and_never_run_backwards() -> None:
    assert ChunkName.parse("incr-00000001-5000-4000-3-0123456789abcdef.aof.gz") is None
    assert ChunkName.parse("incr-00000001-4000-5000-3-0123456789abcdef.aof.gz.new") is None
    assert ChunkName.parse("incr-1-4000-5000-3-0123456789abcdef.aof.gz") is None
    assert str(ChunkName(9, 1, 2, 3, "0" * 16)) < str(ChunkName(10, 1, 2, 3, "0" * 16))


@pytest.mark.parametrize(
    "info",
    [
        INFO,
        StreamInfo(**{**vars(INFO), "previous": "20261120T140000Z-0000", "encryption": {"method": "age"}}),
        StreamInfo(**{**vars(INFO), "gap": Gap(None, "full resync")}),
        StreamInfo(**{**vars(INFO), "gap": Gap(1_795_269_000_000, "archiver restarted")}),
    ],
)
def test_a_streams_document_is_read_as_it_was_written(info: StreamInfo) -> None:
    assert StreamInfo.decode(info.encode(), "stream.json") == info


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"17", b"18", "checksum"),
        (b'"version": 1', b'"version": 2', "checksum"),
        (b"{", b"", "damaged"),
    ],
)
def test_a_damaged_document_is_refused(old: bytes, new: bytes, why: str) -> None:
    with pytest.raises(IntegrityError, match=why):
        StreamInfo.decode(INFO.encode().replace(old, new, 1), "stream.json")


def test_a_newer_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.backup.pitr.stream.VERSION", 2)
    newer = INFO.encode()
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="it is of version 2, and we read 1"):
        StreamInfo.decode(newer, "stream.json")


def test_a_document_that_lies_is_refused() -> None:
    for wrong in (
        {"base": Base("../base.rdb.gz", 5, "b" * 64, 9)},
        {"base": Base("base.rdb.gz", -1, "b" * 64, 9)},
        {"base": Base("base.rdb.gz", 1, "b" * 63, 9)},
        {"id": "../../etc"},
        {"previous": "../../etc"},
        {"begins_ms": -1},
        {"begins_ms": 10**14},
        {"databases": 10**7},
        {"gap": Gap(10**14, "a calendar ends")},
        {"offset": "1"},
    ):
        with pytest.raises(IntegrityError, match="damaged"):
            StreamInfo.decode(StreamInfo(**{**vars(INFO), **wrong}).encode(), "stream.json")


def test_no_document_breaks_a_terminal_a_calendar_or_memory() -> None:
    hostile = StreamInfo(**{**vars(INFO), "gap": Gap(None, "\x1b[31mred\nwindow")})
    found = StreamInfo.decode(hostile.encode(), "stream.json").gap
    assert found == Gap(None, r"'\x1b[31mred\nwindow'")
    with pytest.raises(IntegrityError, match="a number is none"):
        Head.decode(Head(10**14, 0, 0).encode(), "head.json")
    for lying in (b'"0-99999999999"', b'"16384"', b'"-1"', b'"1-2-3"'):
        one = Slots(17, frozenset({5}))
        sealed = one.encode().replace(b'"5"', lying)
        document = {name: value for name, value in orjson.loads(sealed).items() if name != "checksum"}
        with pytest.raises(IntegrityError, match="a slot is none"):
            Slots.decode(stream._sealed(document), one.path)


@given(st.none() | st.frozensets(st.integers(0, SLOTS - 1), max_size=20), st.frozensets(st.integers(0, SLOTS - 1)))
def test_slots_and_heads_are_read_as_they_were_written(slots: frozenset[int] | None, moving: frozenset[int]) -> None:
    one = Slots(17, slots, moving)
    assert Slots.decode(one.encode(), one.path) == one
    assert slots_from_ms(one.path) == 17
    head = Head(5000, 3, 5100, 17, 18, 19, None if slots else "the archiver was stopped")
    assert Head.decode(head.encode(), "head.json") == head
    with pytest.raises(IntegrityError):
        Head.decode(one.encode(), "head.json")


def test_a_streams_id_is_its_time_and_a_random_word() -> None:
    made = stream_id(1_795_269_600_017)
    assert is_stream_id(made)
    assert made.startswith("20261121T140000Z-")


@pytest.mark.parametrize(("name", "profile"), [("a/b", "local"), ("..", "local"), ("redis", "a-b"), ("redis", "")])
def test_an_archives_name_can_stand_in_a_path(name: str, profile: str) -> None:
    with pytest.raises(UsageError, match="no dash in the profile"):
        root_of(name, profile)
    assert root_of(None, "prd") == "archive/redis-backup-prd"
