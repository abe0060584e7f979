"""`restore --at` from archives made by hand: which commands are in, what is refused, and what a user reads."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

import pyrage
import pytest
from isal import igzip

from conftest import Typed
from pitr_made import MadeArchive, MadeStream, second
from s3 import BUCKET
from understudy.backup.pitr.at import chosen
from understudy.backup.pitr.catalog import read_archive
from understudy.backup.pitr.fetch import Fetched, cut
from understudy.backup.pitr.objects import StoredObjects
from understudy.backup.pitr.stream import Head
from understudy.backup.pitr.when import length, second_of, told
from understudy.errors import IntegrityError, NotFoundError, UsageError
from understudy.lab import Lab
from understudy.lab.scratch import Scratch
from understudy.lab.servers.valkey import find_binary
from understudy.progress import Silent
from understudy.valkey.slots import key_slot
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import Wire

if TYPE_CHECKING:
    from understudy.backup.pitr.catalog import Stream

T = int(time.time()) - 1000  # the second that the archives of these tests are about
STREAM = "20261120T100000Z-00aa"
FUNCTION = "#!lua name=kept\nredis.register_function('one', function() return 1 end)"
_TORN = 7  # bytes of `#TS:1795183387`


@pytest.fixture(scope="module")
def rdb() -> bytes:
    """What a shard held when its stream began: a key, one that has expired since, one of database 3, a function."""
    with Scratch() as scratch:
        server = scratch.server("base")
        with contextlib.closing(server.wire()) as wire:
            wire.call("SET", "base", "yes")
            wire.call("SET", "gone", "yes", "PXAT", (T + 500) * 1000)
            wire.call("FUNCTION", "LOAD", FUNCTION)
            wire.call("SELECT", 3)
            wire.call("SET", "elsewhere", "yes")
            wire.call("SAVE")
        return (server.directory / "dump.rdb").read_bytes()


@pytest.fixture(scope="module")
def empty() -> bytes:
    """What a shard without keys holds."""
    with Scratch() as scratch:
        server = scratch.server("base")
        with contextlib.closing(server.wire()) as wire:
            wire.call("SAVE")
        return (server.directory / "dump.rdb").read_bytes()


@pytest.fixture
def archive(tmp_path: Path) -> MadeArchive:
    """A place for one."""
    return MadeArchive(tmp_path / "backups")


def history(archive: MadeArchive, rdb: bytes, **more: Any) -> MadeStream:
    """A list that grows by one each second from T to T + 9, in three pieces; the second ends within a second's mark."""
    stream = archive.stream(STREAM, T * 1000 - 500, rdb, **more)
    said = [second(T + at, ("SELECT", 0), ("RPUSH", "list", at), ("SET", "last", at)) for at in range(10)]
    stream.piece(b"".join(said[:4]), (T + 4) * 1000 + 10)
    stream.piece(b"".join(said[4:7]) + said[7][:_TORN], (T + 7) * 1000 + 10)
    stream.piece(said[7][_TORN:] + b"".join(said[8:]), (T + 10) * 1000 + 10)
    return stream


class At(Protocol):
    """Restores a second by the command line: exit code, output, errors."""

    def __call__(self, when: object, *words: str, **env: str) -> tuple[int, str, str]: ...


@pytest.fixture
def at(typed: Typed, archive: MadeArchive, valkey_standalone: Lab) -> At:
    """To an empty server."""
    seed = valkey_standalone.target().seeds[0]
    env = {"BACKUP_DIR": str(archive.directory), "REDIS_NODES": str(seed)}

    def run(when: object, *words: str, **more: str) -> tuple[int, str, str]:
        done = typed("restore", "--at", str(when), *words, env=env | more)
        assert not list(archive.directory.glob(".partial*")), "nothing of the work is left"
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def wire(valkey_standalone: Lab) -> Iterator[Wire]:
    """A connection to what is restored to."""
    target = valkey_standalone.target()
    with contextlib.closing(Wire(target.seeds[0], target)) as found:
        yield found


def test_a_second_is_what_was_done_up_to_its_end(archive: MadeArchive, rdb: bytes, at: At, wire: Wire) -> None:
    history(archive, rdb)
    for offset, expected in ((-1, 0), (6, 7), (7, 8)):
        wire.call("FLUSHALL")
        code, out, err = at(told(T + offset) if offset % 2 else T + offset)
        assert code == 0, err
        assert f"As it was when {told(T + offset)} ended" in out
        assert wire.call("LRANGE", "list", 0, -1) == [b"%d" % number for number in range(expected)]
        assert wire.call("GET", "base") == b"yes"
        assert wire.call("GET", "gone") is None and "expired=1" in out, "its time is over"
        assert wire.call("FUNCTION", "LIST")
        wire.call("SELECT", 3)
        assert wire.call("GET", "elsewhere") == b"yes"
        wire.call("SELECT", 0)


def test_what_stood_there_is_kept_and_a_dry_run_writes_nothing(
    archive: MadeArchive, rdb: bytes, at: At, wire: Wire, typed: Typed
) -> None:
    history(archive, rdb)
    wire.call("SET", "last", "now")
    code, out, err = at(T + 5, "--dry-run", "--overwrite", "--json")
    assert code == 0, err
    assert json.loads(out)["at"] == told(T + 5)
    assert wire.call("GET", "last") == b"now" and wire.call("DBSIZE") == 1
    code, out, err = at(T + 5, "--overwrite", "--force", "--match", "la*")
    assert code == 0, err
    assert wire.call("GET", "last") == b"5" and wire.call("DBSIZE") == 1
    assert "Kept what is there now: safety-local-" in err
    env = {"BACKUP_DIR": str(archive.directory), "REDIS_NODES": str(wire.address)}
    differing = typed("verify", "--full", "--at", told(T + 5), env=env)
    assert differing.returncode == 12 and "missing=4, ttl_mismatch=0, value_mismatch=0, extra=0" in differing.stdout
    assert "missing: list" in differing.stderr and "Extra keys" not in differing.stderr
    assert at(T + 5)[0] == 0
    wire.call("SET", "since", "then")
    differing = typed("verify", "--full", "--at", told(T + 5), env=env)
    assert "Extra keys are newer: a restore deletes none" in differing.stderr and "extra: since" in differing.stderr
    assert "brings back" not in differing.stderr, "nothing is missing"
    shown = typed("inspect", "--key", "list", "--json", "--at", str(T + 5), env=env)
    assert json.loads(shown.stdout)[0]["value"] == ["0", "1", "2", "3", "4", "5"], shown.stderr
    lacking = typed("inspect", "--key", "other", "--at", str(T + 5), env=env)
    assert lacking.returncode == 11 and f"the archive at {told(T + 5)} lacks it" in lacking.stderr
    assert f"`understudy inspect --at {T + 5} --keys" in lacking.stderr
    summary = typed("inspect", "--at", str(T + 5), env=env)
    assert summary.stdout.startswith(f"The archive at {told(T + 5)}, as it was when that second ended\n")


def test_a_second_that_cannot_be_had_is_refused_with_those_that_can(archive: MadeArchive, rdb: bytes, at: At) -> None:
    code, _, err = at(T)
    assert code == 11 and "there is no archive" in err
    stream = archive.stream(STREAM, T * 1000 - 500, rdb, gap=((T - 100) * 1000, "the archiver was not running"))
    stream.piece(second(T), (T + 2) * 1000)
    stream.piece(b"", (T + 9) * 1000, from_ms=(T + 5) * 1000)
    older = archive.stream("20261120T000000Z-00aa", (T - 200) * 1000 - 500, rdb)
    older.head((T - 100) * 1000)
    for when, why in (
        (T + 3, "it is in a gap: the copy lagged behind its primary, or was not connected"),
        (T - 50, "it is in a gap: the archiver was not running"),
    ):
        code, _, err = at(when)
        assert code == 11 and why in err
    assert f"the last one before is --at {told(T - 101)}, the first one after is --at {told(T - 1)}" in err
    code, _, err = at(T + 9)
    assert code == 11 and "it is after everything that is kept" in err and f"--at {told(T + 8)}" in err
    code, _, err = at(T - 300)
    assert code == 11 and "it is before everything that is kept" in err and f"--at {told(T - 201)}" in err


def test_a_glob_that_matches_nothing_is_said_of_that_second(
    archive: MadeArchive, rdb: bytes, at: At, wire: Wire
) -> None:
    history(archive, rdb)
    code, out, err = at(T + 5, "--match", "lost*")
    assert code == 11 and "no key matched 'lost*' when that second ended" in err and told(T + 5) in err, out
    code, out, err = at(T + 5, "--match", "la*", "--dry-run")
    assert code == 0 and "Keys that match 'la*': 1\n" in out and "Warning" not in err


def test_what_was_just_now_comes_in_a_few_seconds_where_the_archiver_runs(archive: MadeArchive, rdb: bytes) -> None:
    now = int(time.time())
    stream = archive.stream(STREAM, T * 1000 - 500, rdb)
    stream.piece(b"", (now - 3) * 1000)
    for written, why in ((now, "so far, and goes on"), (now - 300, "it is after everything that is kept")):
        (stream.folder / "head.json").write_bytes(Head((now - 3) * 1000, 1, written * 1000).encode())
        with pytest.raises(NotFoundError, match=why) as refused:
            chosen(read_archive(archive.objects, archive.root), now - 2, "here")
        assert f"--at {told(now - 4)}" in refused.value.hint
    ended = Head((now - 3) * 1000, 1, now * 1000, ended="the archiver was stopped")
    (stream.folder / "head.json").write_bytes(ended.encode())
    with pytest.raises(NotFoundError, match="it is after everything"):
        chosen(read_archive(archive.objects, archive.root), now - 2, "here")


def test_what_is_damaged_is_named_with_the_last_second_that_does_not_need_it(
    archive: MadeArchive, rdb: bytes, at: At, wire: Wire
) -> None:
    history(archive, rdb)
    folder = archive.directory / archive.root / STREAM
    first, second_piece, third = sorted(folder.glob("incr-*"))
    good = second_piece.read_bytes()
    plain = igzip.decompress(good)
    second_piece.write_bytes(igzip.compress(plain.replace(b"last", b"lust")))
    code, _, err = at(T + 5)
    assert code == 12 and second_piece.name in err and f"--at {told(T + 3)}" in err
    assert wire.call("DBSIZE") == 0
    assert at(T + 3, "--dry-run")[0] == 0
    second_piece.unlink()
    code, _, err = at(T + 5)
    assert code == 11 and "nothing" not in err and f"--at {told(T + 3)}" in err
    second_piece.write_bytes(good)
    base = folder / "base.rdb.gz"
    base.write_bytes(base.read_bytes()[:-1])
    code, _, err = at(T + 3)
    assert code == 12 and "base.rdb.gz" in err and "Nothing before it can be restored either" in err
    assert {first, second_piece, third} == set(folder.glob("incr-*")), "a reader changes nothing"


def test_a_piece_may_end_anywhere_behind_the_second(tmp_path: Path) -> None:
    """Within a mark, a command, a transaction, or a value that looks like a mark."""
    before = second(T, ("SELECT", 0), ("SET", "key", b"\r\n#TS:1\r\n")) + second(T + 1, ("SET", "other", b"\r\n#TS:"))
    after = second(T + 2, ("MULTI",), ("SET", "key", b"\r\n#TS:9"), ("INCR", "n"), ("EXEC",)) + second(T + 3, ("PING",))
    ends = [0, 1, 4, 9, len(after), *random.SystemRandom().sample(range(16, len(after)), 30)]
    for end in ends:
        file = tmp_path / "incr.aof"
        file.write_bytes(before + after[:end])
        cut(Fetched(cast("Stream", None), tmp_path / "base.rdb", file), T + 1, find_binary(), Silent())
        assert file.read_bytes() == before, f"{end} bytes of the seconds after it were there"


@pytest.mark.parametrize(
    "lost", [b"*1\r\n", b"x\r\n", b"\0" * 99, b"*2\r\n$3\r\nGETx\r\n", b"*1\r\n$-1\r\n"]
)  # fmt: skip
def test_what_is_no_command_in_the_middle_is_refused_not_cut_off(tmp_path: Path, lost: bytes) -> None:
    file = tmp_path / "incr.aof"
    file.write_bytes(second(T, ("SET", "key", 1)) + lost + second(T, ("SET", "key", 2)))
    fetched = Fetched(cast("Stream", SimpleNamespace(folder="archive/a-b/one")), tmp_path / "base.rdb", file)
    with pytest.raises(IntegrityError, match="they are none"):
        cut(fetched, T + 1, find_binary(), Silent())


def test_an_encrypted_archive_opens_with_its_key_alone(
    archive: MadeArchive, rdb: bytes, at: At, wire: Wire, tmp_path: Path
) -> None:
    ours, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    history(archive, rdb, recipients=[ours.to_public()])
    for name, identity in (("ours", ours), ("other", other)):
        (tmp_path / name).write_text(f"{identity}\n")
    assert at(T + 5)[0] == 14
    code, _, err = at(T + 5, "--identity", str(tmp_path / "other"))
    assert code == 14 and "not one of those" in err
    assert at(T + 5, "--identity", str(tmp_path / "ours"))[0] == 0
    assert wire.call("LLEN", "list") == 6


def test_each_shard_gives_the_slots_that_it_served(archive: MadeArchive, empty: bytes, at: At, wire: Wire) -> None:
    """Two shards; slot of `{b}` was sent from the first to the second, and has half arrived at T + 5."""
    low, high = range(SLOTS // 2), range(SLOTS // 2, SLOTS)
    mine = next(f"key:{number}" for number in range(99) if key_slot(b"key:%d" % number) in low)
    moving = next(one for one in "abcdefgh" if key_slot(one.encode()) in low)
    slot = key_slot(moving.encode())
    one = archive.stream(STREAM, T * 1000 - 500, empty, mode="oss-cluster", node="10.0.0.1:6379")
    two = archive.stream("20261120T100000Z-00bb", T * 1000 - 500, empty, mode="oss-cluster", node="10.0.0.2:6379")
    one.serves(T * 1000 - 500, low)
    two.serves(T * 1000 - 500, high)
    for stream in (one, two):
        stream.serves((T + 4) * 1000 + 1, low if stream is one else high, [slot])
    one.serves((T + 9) * 1000, set(low) - {slot}, [slot])
    two.serves((T + 9) * 1000, {*high, slot}, [slot])
    here, there = f"here:{{{moving}}}", f"there:{{{moving}}}"
    said = [("SELECT", 0), ("SET", mine, "1"), ("SET", here, "1"), ("SET", there, "old")]
    one.piece(second(T, *said) + second(T + 6, ("DEL", there)) + second(T + 8, ("DEL", here)), (T + 12) * 1000)
    arrived = second(T + 5, ("SET", there, "new")) + second(T + 7, ("SET", here, "1"))
    two.piece(second(T, ("SELECT", 0), ("SET", mine, "left over")) + arrived, (T + 12) * 1000)
    for offset, value in ((3, b"old"), (5, b"new")):
        wire.call("FLUSHALL")
        code, _, err = at(T + offset)
        assert code == 0, err
        assert (wire.call("GET", mine), wire.call("GET", here), wire.call("GET", there)) == (b"1", b"1", value)
        assert ("1 slot" in err and "moved between shards" in err) == (offset > 3)
    two.serves((T + 11) * 1000, set(high) - {9_000})
    code, _, err = at(T + 11)
    assert code == 11


def test_a_past_second_is_what_is_typed_and_nothing_else(archive: MadeArchive, rdb: bytes, at: At) -> None:
    history(archive, rdb)
    for words, code, said in (
        (("2026-11-20T14:03:07",), 2, "2026-11-20T14:03:07Z is UTC"),
        (("yesterday",), 2, "neither ISO 8601 nor"),
        ((told(T), "latest", "-i", "x"), 2, "a set is named as well"),
        ((told(T), "--component", "postgres"), 2, "an archive holds redis alone"),
        ((told(T), "--from-s3", "latest"), 11, "neither --s3-uri nor S3_URI"),
    ):
        found, _, err = at(*words)
        assert (found, said in err) == (code, True), err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T14:03:07Z", 1795183387), ("2026-11-20T15:03:07+01:00", 1795183387), ("1795183387", 1795183387),
        (" 20261120T140307Z ", 1795183387), ("1970-01-01T00:00:00Z", 0),
    ],
)  # fmt: skip
def test_a_second_is_read_with_its_offset(text: str, expected: int) -> None:
    assert second_of(text) == expected


_NO_YEAR = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59")


@pytest.mark.parametrize(
    "text", ["", "2026-11-20", "14:03:07Z", "2026-11-20T14:03:07.5Z", "-5", "1e9", "179518338700", "٣", *_NO_YEAR]
)
def test_what_is_no_whole_second_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        second_of(text)


def test_of_the_hour_that_an_autumn_night_has_twice_both_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        with pytest.raises(UsageError) as caught:
            second_of("2026-10-25T02:30:00")
        assert "T02:30:00+02:00 and 2026-10-25T02:30:00+01:00 are" in caught.value.hint
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (14_580, "4 h 3 min"), (86_400, "1 day"), (180_001, "2 days 2 h")],
)
def test_a_length_has_two_units(seconds: int, said: str) -> None:
    assert length(seconds) == said


def test_list_shows_what_can_be_restored_below_the_sets(
    archive: MadeArchive, rdb: bytes, typed: Typed, s3_env: None, tmp_path: Path, valkey_standalone: Lab
) -> None:
    then = T - 14_000
    stream = archive.stream(STREAM, then * 1000 - 500, rdb)
    stream.piece(second(then), (then + 2) * 1000)
    stream.piece(b"", (then + 14_000) * 1000, from_ms=(then + 5) * 1000)
    env = {"BACKUP_DIR": str(archive.directory)}
    lagged = "the copy lagged behind its primary, or was not connected"
    listed = typed("list", env=env)
    assert listed.stdout == (
        f"archive redis-backup-local: {told(then - 1)} to {told(then + 13_999)} (3 h 53 min), "
        f"gaps: {told(then + 2)} to {told(then + 4)} (3 s: {lagged})\n"
    )
    assert json.loads(typed("list", "--json", env=env).stdout) == [], "scripts read an array of sets"
    lines = typed("list", "--archive", env=env).stdout.splitlines()
    assert [line.split("\t")[1:] for line in lines] == [
        ["window", told(then - 1), told(then + 1), "3 s"],
        ["gap", told(then + 2), told(then + 4), "3 s", lagged],
        ["window", told(then + 5), told(then + 13_999), "3 h 53 min"],
    ]
    told_as_data = json.loads(typed("list", "--archive", "--json", env=env).stdout)["archives"]
    assert told_as_data[0]["gaps"] == [{"from": told(then + 2), "until": told(then + 4), "seconds": 3, "why": [lagged]}]
    uri = f"s3://{BUCKET}/archives-{archive.directory.parent.name}"
    stored = StoredObjects(uri)
    for path in sorted((archive.directory / archive.root / STREAM).iterdir()):
        stored.put(str(path.relative_to(archive.directory)), path.read_bytes())
    elsewhere = {"BACKUP_DIR": str(tmp_path / "other"), "S3_URI": uri}
    assert typed("list", env=elsewhere).stdout == listed.stdout
    seed = str(valkey_standalone.target().seeds[0])
    restored = typed("restore", "--at", told(then), "--from-s3", "latest", env=elsewhere | {"REDIS_NODES": seed})
    assert restored.returncode == 0 and "restored=2, skipped=0, expired=1" in restored.stdout
    (archive.directory / archive.root / STREAM / "stream.json").write_text("{}")
    broken = typed("list", env=env)
    assert broken.returncode == 0 and "stream.json" in broken.stderr
