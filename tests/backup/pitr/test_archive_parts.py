"""Decisions of the archiver that need no server: what is deleted, which shard is whose, when a base is due."""

from __future__ import annotations

import gzip
import io
import os
import re
import urllib.request
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiving import ROOT
from understudy.backup.encryption import Lock
from understudy.backup.pitr import metrics, status
from understudy.backup.pitr.follow import Follower
from understudy.backup.pitr.generations import Rhythm
from understudy.backup.pitr.journal import Facts, PrimaryFacts, held_bytes
from understudy.backup.pitr.keeper import Keeper
from understudy.backup.pitr.lease import Lease
from understudy.backup.pitr.ledger import Ledger, Local, Mark, Point
from understudy.backup.pitr.meter import Meter, Troubles
from understudy.backup.pitr.objects import LocalObjects
from understudy.backup.pitr.pack import pack, pack_file
from understudy.backup.pitr.retention import Kept, archived_before, delete, expired, look, survey
from understudy.backup.pitr.service import Archived, Plan, Service
from understudy.backup.pitr.shards import Seen, matched, told
from understudy.backup.pitr.ship import About, Shipper
from understudy.backup.pitr.stream import ChunkName, Head, Slots
from understudy.errors import IntegrityError, RefusedError, UnreachableError
from understudy.valkey.target import Address, Mode, Target

DAY = 86_400_000
NOW = 100 * DAY


def kept(name: str, begins: float, until: float, whole: bool = True) -> Kept:
    return Kept(name, int(begins * DAY), int(until * DAY), whole)


WEEK = [
    kept("a", 90, 92.9),
    kept("b", 91, 93.1),
    kept("c", 93, 100),
    kept("half", 98, 98, False),
    kept("new", 99.9, 99.9, False),
]


@pytest.mark.parametrize(
    ("streams", "live", "days", "healthy", "gone"),
    [
        (WEEK, {"c"}, 7, True, ["a", "half"]),
        (WEEK, {"c"}, 7, False, []),
        (WEEK, {"c", "a", "half"}, 7, True, []),
        (WEEK, set(), 5, True, ["a", "b", "half"]),
        (WEEK, set(), 30, True, ["half"]),
        ([], set(), 7, True, []),
    ],
)
def test_a_stream_goes_when_no_second_of_it_is_wanted(
    streams: list[Kept], live: set[str], days: int, healthy: bool, gone: list[str]
) -> None:
    assert expired(streams, live, NOW, days, healthy) == gone


@given(st.lists(st.tuples(st.floats(80, 100), st.floats(0, 20))), st.floats(1, 30))
def test_no_second_of_the_days_that_are_kept_is_lost(spans: list[tuple[float, float]], days: float) -> None:
    streams = [kept(str(number), at, min(100.0, at + length)) for number, (at, length) in enumerate(spans)]
    gone = expired(streams, set(), NOW, days, True)
    assert all(one.until_ms < NOW - days * DAY for one in streams if one.id in gone)
    assert all(one.until_ms >= NOW - days * DAY for one in streams if one.id not in gone)


def stored(objects: LocalObjects, name: str) -> None:
    for path in ("base.rdb.gz", "stream.json", "head.json", str(ChunkName(0, 1, 17_000, 3, "0" * 16))):
        objects.put(f"{ROOT}/{name}/{path}", b"x")


def test_deleting_begins_with_what_makes_it_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LocalObjects(tmp_path)
    stored(objects, "20261121T140000Z-1f3a")
    order: list[str] = []
    whole = LocalObjects.delete
    monkeypatch.setattr(
        LocalObjects, "delete", lambda self, path: (order.append(path.split("/")[-1]), whole(self, path))
    )
    delete(objects, ROOT, "20261121T140000Z-1f3a")
    assert order[0] == "stream.json"
    assert len(order) == 4
    assert objects.folders(ROOT) == []
    delete(objects, ROOT, "20261121T140000Z-1f3a")


def test_what_is_too_old_is_deleted_while_every_shard_is_archived_and_not_otherwise(tmp_path: Path) -> None:
    objects, healthy = LocalObjects(tmp_path), [False]
    old, living = "20200101T000000Z-0001", "20200101T000000Z-0002"
    for name in (old, living):
        stored(objects, name)
    troubles = Troubles(None, lambda _: None, "archive")
    keeper = Keeper(objects, ROOT, Lease(objects, ROOT), 7, [], lambda: {living}, lambda: healthy[0], troubles)
    keeper.delete()
    assert objects.folders(ROOT) == [old, living]
    healthy[0] = True
    keeper.delete()
    assert objects.folders(ROOT) == [living]


def test_a_stream_is_looked_at_whatever_state_it_is_in(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    stored(objects, "20261121T140000Z-1f3a")
    damaged = look(objects, ROOT, "20261121T140000Z-1f3a")
    assert (damaged.whole, damaged.begins_ms) == (True, 1_795_269_600_000)
    objects.delete(f"{ROOT}/20261121T140000Z-1f3a/stream.json")
    assert not look(objects, ROOT, "20261121T140000Z-1f3a").whole
    objects.put(f"{ROOT}/somebody-elses/file", b"x")
    assert [one.id for one in survey(objects, ROOT)] == ["20261121T140000Z-1f3a"]
    assert survey(objects, ROOT, ["20261121T140000Z-1f3a"]) == []


def test_a_shard_was_archived_before_where_its_slots_were() -> None:
    streams = [
        Kept("a", 0, 50, slots=frozenset({1, 2})),
        Kept("b", 0, 70, slots=frozenset({3})),
        Kept("c", 0, 90, False),
    ]
    assert archived_before(streams, frozenset({2, 9})) == 50
    assert archived_before(streams, frozenset({9})) is None
    assert archived_before(streams, None) == 70


def seen(port: int, node: str, nodes: str, slots: set[int] | None, moving: set[int] = frozenset()) -> Seen:  # type: ignore[assignment]
    return Seen(
        Address("h", port), node, frozenset(nodes), None if slots is None else frozenset(slots), frozenset(moving)
    )


def test_a_shard_is_the_same_after_failover_and_resharding_and_one_that_is_gone_is_told() -> None:
    before = {
        "one": seen(1, "a", "ax", {1, 2, 3}),
        "two": seen(2, "b", "by", {4, 5, 6}),
        "gone": seen(3, "c", "c", {7}),
    }
    now = [seen(9, "y", "by", {3, 4, 5, 6, 7}), seen(1, "a", "ax", {1, 2}), seen(5, "n", "n", set())]
    kept_ones, new, gone = matched(before, now)
    assert kept_ones == {"one": now[1], "two": now[0]}
    assert (new, gone) == ([now[2]], ["gone"])
    alone, new, gone = matched({"one": seen(1, "a", "a", None)}, [seen(2, "b", "b", None)])
    assert (alone["one"].primary.port, new, gone) == (2, [], [])


def test_slots_that_changed_between_two_looks_were_moving_since_the_first() -> None:
    old, new = seen(1, "a", "a", {1, 2, 3}, {3}), seen(1, "a", "a", {1, 4}, {5})
    assert told(old, 1000, new, 2000) == [
        Slots(1000, frozenset({1, 2, 3}), frozenset({2, 3, 4})),
        Slots(2000, frozenset({1, 4}), frozenset({5})),
    ]
    assert told(None, 1000, new, 1000) == [Slots(1000, frozenset({1, 4}), frozenset({5}))]
    assert told(None, 1000, seen(1, "a", "a", None), 1000) == [Slots(1000, None)]


def test_a_base_is_due_by_time_or_by_what_was_written() -> None:
    rhythm = Rhythm(86_400)
    assert not rhythm.due(86_399, 0, 64 << 20)
    assert rhythm.due(86_400, 0, 0)
    assert rhythm.due(0, 0, (64 << 20) + 1)
    assert not rhythm.due(0, 100 << 20, 200 << 20)
    assert rhythm.due(0, 100 << 20, (200 << 20) + 1)


def test_a_primary_says_how_far_its_clock_is_from_ours() -> None:
    facts = PrimaryFacts.from_replies(b"role:master\r\nmaster_repl_offset:17\r\n", [b"10", b"500000"], 9_000, 9_100)
    assert (facts.is_primary, facts.offset, facts.ahead_ms) == (True, 17, 1_450)


def test_packed_bytes_are_those_of_the_files_and_encrypted_ones_open_with_the_key(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(os.urandom(1_500_000))
    two.write_bytes(b"the other")
    extent = [(one, 10, 1_400_000), (two, 0, 3)]
    plain = one.read_bytes()[10:1_400_000] + b"the"
    packed = pack(extent, tmp_path / "packed", None)
    assert gzip.decompress(packed.path.read_bytes()) == plain
    assert (packed.plain_size, packed.size) == (len(plain), packed.path.stat().st_size)
    key = pyrage.x25519.Identity.generate()
    for again in (
        pack(extent, tmp_path / "locked", [key.to_public()]),
        pack(extent, tmp_path / "locked", [key.to_public()]),
    ):
        opened = io.BytesIO()
        pyrage.decrypt_io(io.BytesIO(again.path.read_bytes()), opened, [key])
        assert gzip.decompress(opened.getvalue()) == plain
        assert again.plain_size == len(plain)
    assert pack_file(two, tmp_path / "whole", [key.to_public()]).plain_size == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["locked", "one", "packed", "two", "whole"]
    with pytest.raises(IntegrityError, match="shorter than it was"):
        pack([(two, 0, 10)], tmp_path / "short", None)


class Unsure(LocalObjects):
    """A store that keeps an object and answers that it did not."""

    answers = True

    def put_file(self, path: str, file: Path, advance: object = None) -> None:
        super().put_file(path, file)
        if not self.answers and "incr-" in path:
            raise UnreachableError("storing", "no answer")


def shipper(
    objects: LocalObjects, tmp_path: Path, lock: Lock | None = None, last_ms: int | None = None
) -> tuple[Shipper, Ledger, Meter]:
    ledger, meter, work = Ledger(), Meter("shard-1"), tmp_path / "work"
    work.mkdir()
    about = About("redis-backup", "local", "standalone", "valkey 9.1.2", 16, "understudy")
    troubles = Troubles(meter, lambda _: None, "shard-1")
    return Shipper(objects, ROOT, about, lock, 1, ledger, work, meter, troubles, last_ms), ledger, meter


def local(tmp_path: Path, begins_ms: int = 500) -> Local:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "base").write_bytes(b"REDIS0011")
    (folder / "appendonly.aof.2.incr.aof").write_bytes(b"0123456789" * 10)
    return Local(
        "20261121T140000Z-1f3a", tmp_path, begins_ms, "h:1", "a" * 40, 17, {2: 0}, folder / "base", gap_why="why"
    )


def test_a_piece_whose_fate_is_unknown_is_stored_again_as_it_is(tmp_path: Path) -> None:
    objects = Unsure(tmp_path / "there")
    ship, ledger, meter = shipper(objects, tmp_path)
    stream = local(tmp_path)
    ledger.begin(stream)
    ledger.looked_ms = 100_000
    ship._bring_base(stream)
    ledger.mark(Mark(1000, 2, 10))
    objects.answers = False
    assert not ship._attempt()
    ledger.mark(Mark(2000, 2, 30))
    assert not ship._attempt()
    assert (ship.unshipped or "").endswith("no answer")
    objects.answers = True
    assert ship._attempt()
    ledger.mark(Mark(5000, 2, 40))
    assert ship._attempt(final=True)
    there = objects.sizes(f"{ROOT}/{stream.id}")
    chunks = sorted(chunk for text in there if (chunk := ChunkName.parse(text)))
    assert [(one.seq, one.from_ms, one.until_ms, one.size) for one in chunks] == [
        (0, 0, 1000, 10), (1, 1000, 2000, 20), (2, 4000, 5000, 10),
    ]  # fmt: skip
    head = Head.decode(objects.get(f"{ROOT}/{stream.id}/head.json"), "head.json")
    assert (head.until_ms, head.seq, head.ended) == (5000, 3, "the archiver was stopped")
    assert meter.missed_seconds == 2
    assert all(one.from_ms >= before.until_ms for before, one in pairwise(chunks))
    assert not (tmp_path / "appendonlydir" / "base").exists(), "a base that is shipped takes room for nothing"
    assert list((tmp_path / "work").iterdir()) == []


def test_an_encrypted_archive_opens_with_its_key_and_holds_the_sealed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.backup.encryption._seal", lambda task, progress: b"sealed")  # a second of scrypt
    key = pyrage.x25519.Identity.generate()
    objects = LocalObjects(tmp_path / "there")
    ship, ledger, _ = shipper(objects, tmp_path, Lock((str(key.to_public()),), "four words of a sentence"), last_ms=400)
    stream = local(tmp_path)
    ledger.begin(stream)
    ledger.looked_ms = 100_000
    ship._bring_base(stream)
    ledger.mark(Mark(1000, 2, 100))
    assert ship._attempt()
    folder = f"{ROOT}/{stream.id}"
    names = objects.sizes(folder)
    piece = next(name for name in names if name.startswith("incr-"))
    assert piece.endswith(".aof.gz.age")
    assert "base.rdb.gz.age" in names
    for name, plain in (("base.rdb.gz.age", b"REDIS0011"), (piece, b"0123456789" * 10)):
        opened = io.BytesIO()
        pyrage.decrypt_io(io.BytesIO(objects.get(f"{folder}/{name}")), opened, [key])
        assert gzip.decompress(opened.getvalue()) == plain
    said = objects.get(f"{folder}/stream.json")
    assert b'"method": "age"' in said
    assert b'"from_ms": 400' in said
    assert objects.get(f"{folder}/key.age") == b"sealed"


def test_metrics_are_answered_on_this_machine_and_say_what_is_known() -> None:
    meter = Meter("shard-1", connected=True, exact_ms=5000, shipped_ms=4000, gaps=2, errors={"shipping": 3})
    of_none = Meter("", errors={"retention": 1})
    text = metrics.text([meter, Meter("shard-2"), of_none], ["shard-1"], 7.5)
    assert re.findall('.*shard="".*', text) == ['understudy_archive_errors_total{shard="",kind="retention"} 1.0']
    assert 'understudy_archive_lag_seconds{shard="shard-1"} 2.5\n' in text
    assert 'understudy_archive_errors_total{shard="shard-1",kind="shipping"} 3.0\n' in text
    assert "understudy_archive_shards 1.0\n" in text
    assert 'restorable_until_timestamp_seconds{shard="shard-2"}' not in text
    exporter = metrics.Exporter(0, lambda _: text)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics") as answer:
            assert answer.read().decode() == text
        with pytest.raises(RefusedError, match="in use"):
            metrics.Exporter(exporter.port, lambda _: text)
    finally:
        exporter.close()


def test_the_line_of_status_names_what_matters() -> None:
    assert status.line([], 0) == "No shard is archived."
    good = Meter("a", connected=True, exact_ms=1_795_269_600_000, shipped_ms=1_795_269_600_000, shipped_bytes=1 << 20)
    assert status.line([good], 1_795_269_601) == "1 shard, restorable until 2026-11-21T13:59:59Z, 1.0 MiB shipped"
    late = Meter("b", exact_ms=1_795_269_590_000, gaps=1, missed_seconds=1200)
    assert status.line([good, late], 1_795_269_601) == (
        "2 shards, bases are on the way, copies 11.0 s behind, 1 not connected, 1.0 MiB shipped, 1 gap, 1,200 s missed"
    )


def test_a_trouble_is_told_when_it_begins_again_after_a_minute_and_when_it_is_over() -> None:
    said: list[str] = []
    now, meter = [0.0], Meter("a")
    troubles = Troubles(meter, said.append, "shard-1", lambda: now[0])
    error = UnreachableError("storing", "it is away", "Wait.")
    for moment in (0, 1, 59, 61):
        now[0] = moment
        troubles.have("shipping", error)
    troubles.over("shipping")
    troubles.over("shipping")
    first = "shard-1: trouble with shipping: storing: it is away. Try: Wait."
    assert said == [first, first, "shard-1: shipping works again."]
    assert meter.errors == {"shipping": 4}


def test_held_bytes_are_those_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"1")
    assert held_bytes(tmp_path) == 6


def test_a_second_is_not_marked_before_the_server_has_written_what_it_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = SimpleNamespace(server=SimpleNamespace(directory=tmp_path), wire=None)
    increment = tmp_path / "appendonlydir" / "appendonly.aof.2.incr.aof"
    stream = local(tmp_path)
    increment.write_bytes(b"0123456789")
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text(
        "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
    )
    ledger, meter = Ledger(), Meter("shard-1")
    ledger.begin(stream)
    troubles = Troubles(meter, lambda _: None, "shard-1")
    follower = Follower(None, None, Address("h", 1), "shard-1", ledger, meter, troubles, Rhythm(9e9), "why")  # type: ignore[arg-type]
    follower._generations.attached(copy)  # type: ignore[arg-type]
    follower._generations._current = stream
    answers = iter([(999, 10, 0), (1001, 10, 5), (1002, 10, 5), (1003, 15, 0)])

    def facts(_: object) -> Facts:
        at_ms, written, buffered = next(answers)
        if written == 15:
            increment.write_bytes(b"0123456789-----")
        return Facts(at_ms, True, 0, "", written, buffered, 0, 0, False, False, False)

    monkeypatch.setattr("understudy.backup.pitr.follow._facts", facts)
    follower._look(copy, 1000, True)  # type: ignore[arg-type]
    assert ledger.streams()[0].points == [Point(1000, 15)]
    assert next(answers, None) is None


def test_a_file_that_is_gone_is_told_of_for_no_trying_again_brings_it_back(tmp_path: Path) -> None:
    objects = Unsure(tmp_path / "there")
    ship, ledger, _ = shipper(objects, tmp_path)
    stream = local(tmp_path)
    ledger.begin(stream)
    ledger.looked_ms = 100_000
    ship._bring_base(stream)
    ledger.mark(Mark(1000, 2, 10))
    objects.answers = False
    assert not ship._attempt() and ship.lost is None, "the repository is away: that passes"
    (tmp_path / "work" / f"{stream.id}.piece").unlink()
    objects.answers = True
    assert not ship._attempt()
    assert ship.lost == f"{stream.id}.piece, which was still to be shipped, is gone from this disk"
    ledger.drop(ship.lost)
    assert ship._attempt() and ship.lost is None
    assert ledger.streams() == [] and list((tmp_path / "work").iterdir()) == []


def test_an_increment_or_a_base_that_is_gone_is_told_of_too(tmp_path: Path) -> None:
    ship, ledger, _ = shipper(LocalObjects(tmp_path / "there"), tmp_path)
    stream = local(tmp_path)
    ledger.begin(stream)
    ledger.looked_ms = 100_000
    base = (tmp_path / "appendonlydir" / "base").rename(tmp_path / "aside")
    ship._bring_base(stream)
    assert ship.lost == "base, a base that was still to be shipped, is gone from this disk"
    base.rename(tmp_path / "appendonlydir" / "base")
    ship._bring_base(stream)
    ledger.mark(Mark(1000, 2, 10))
    (tmp_path / "appendonlydir" / "appendonly.aof.2.incr.aof").unlink()
    assert not ship._attempt()
    assert ship.lost == "appendonly.aof.2.incr.aof, which was still to be shipped, is gone from this disk"


@pytest.mark.parametrize(("free", "most", "why"), [(1 << 40, 1 << 20, "was away for too long"), (1, 1 << 40, "full")])
def test_what_is_given_up_for_want_of_room_says_whose_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, most: int, why: str
) -> None:
    target = Target((Address("127.0.0.1", 1),), Mode.STANDALONE)
    service = Service(target, LocalObjects(tmp_path), Plan(None, "local", 1, 7, 86_400, most), print)
    service._work = tmp_path / "work"
    (service._work / "shard-1").mkdir(parents=True)
    (service._work / "shard-1" / "held").write_bytes(b"x" * (2 << 20))
    ledger, said = Ledger(), list[str]()
    stream = local(tmp_path)
    ledger.begin(stream)
    stream.points.append(Point(1000, 2 << 20))
    follower = SimpleNamespace(directories=[], drop=said.append)
    one = SimpleNamespace(meter=Meter("shard-1"), follower=follower, ledger=ledger)
    service._shards["shard-1"] = cast("Archived", one)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    service._watch_disk()
    assert len(said) == 1 and why in said[0] and ("268,435,456 are left to others" in said[0]) == (why == "full")
