"""Sets of RDB files: what frozen copies write, read again through a server of our own; refused where it is damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyrage
import pytest

from conftest import Typed
from support import digests
from understudy.backup import rdb_expand
from understudy.backup.check import check
from understudy.backup.component import RestoreOptions, Taken
from understudy.backup.components.redis import ReadOptions, RedisComponent
from understudy.backup.encryption import Key, Lock, unlocked
from understudy.backup.frozen import Frozen, read_frozen
from understudy.backup.rdb_check import unread
from understudy.backup.rdb_expand import expanded
from understudy.backup.record import Records, decode
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, sums
from understudy.backup.take import take
from understudy.errors import IntegrityError, RefusedError, UnderstudyError, UsageError
from understudy.lab import Lab
from understudy.lab.sample import fill, load_function
from understudy.lab.scratch import Scratch
from understudy.progress import Progress, Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.topology import SLOTS

KEYS = 60
IDLE_S = 5000
BIG = b"big" * 60_000


class Standing(RedisComponent):
    """A redis component whose copies are servers of the test."""

    def __init__(self, copies: list[Frozen], formats: tuple[str, ...]) -> None:
        super().__init__(copies[0].target)
        self._copies, self._formats = copies, formats

    def connect(self) -> None:
        pass

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:
        plan = {"chunk_keys": 40, "match": None, "formats": self._formats, "slice_bytes": 64 << 20}
        account = {"engine": "replica", "mode": "standalone", "server": {"name": "valkey", "version": "9.1.2"}}
        return read_frozen(self._copies, plan, work, into, progress, account)


def taken(copies: list[Frozen], directory: Path, *formats: str, lock: Lock | None = None) -> BackupSet:
    return take([Standing(copies, formats)], LocalRepository(directory), None, "local", Silent(), lock=lock).backup


@dataclasses.dataclass
class Held:
    """A server that stands still, and what was in its database 0, without what has expired."""

    target: Target
    before: dict[bytes, bytes]
    keys: int


@pytest.fixture(scope="module")
def held() -> Iterator[Held]:
    """Every kind of key, another database, a function; a key, and a field of a hash, whose time is over."""
    with Scratch() as scratch:
        server = scratch.server("held", lines=["maxmemory-policy allkeys-lru"])
        with Router(server.target) as router:
            wire = router.wire(server.address)
            fill(router, KEYS)
            load_function(router)
            before = digests(server.target)
            wire.pipeline([
                ("HSET", "half", "stays", "1", "gone", "2"), ("HPEXPIRE", "half", 1, "FIELDS", 1, "gone"),
                ("SET", "gone", "x", "PX", 1), ("SELECT", 9), ("SET", "ninth", "9"), ("SELECT", 0), ("SET", "old", "x"),
            ])  # fmt: skip
            wire.call("RESTORE", "old", 0, wire.call("DUMP", "old"), "REPLACE", "IDLETIME", IDLE_S)
            time.sleep(0.005)  # until their time is over
        yield Held(server.target, before, KEYS + 8 + 4)


@pytest.fixture(scope="module")
def rdb_set(held: Held, tmp_path_factory: pytest.TempPathFactory) -> BackupSet:
    """A set that holds nothing but an RDB file."""
    return taken([Frozen(held.target)], tmp_path_factory.mktemp("rdb"), "rdb")


def copied(backup: BackupSet, directory: Path) -> BackupSet:
    place = directory / backup.directory.name
    shutil.copytree(backup.directory, place)
    return BackupSet.open(place)


def changed(
    backup: BackupSet, directory: Path, files: Mapping[str, bytes], recorded: Mapping[str, Any] | None = None
) -> BackupSet:
    """A copy of a set with other bytes and all sums right, as somebody would make it who wants to be believed."""
    place = copied(backup, directory).directory
    entries = []
    for entry in backup.metadata.files:
        if entry.path in files:
            (place / entry.path).write_bytes(files[entry.path])
        data = (place / entry.path).read_bytes()
        entries.append(dataclasses.replace(entry, size=len(data), sha256=hashlib.sha256(data).hexdigest()))
    text = sums(tuple(entry for entry in entries if entry.path != SUMS))
    (place / SUMS).write_bytes(text)
    entries = [entry for entry in entries if entry.path != SUMS]
    redis = {**backup.metadata.components["redis"], **(recorded or {})}
    metadata = dataclasses.replace(
        backup.metadata,
        files=(*entries, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest())),
        components={"redis": redis},
    )
    (place / METADATA).write_bytes(metadata.encode())
    return BackupSet.open(place)


def lines_of(backup: BackupSet) -> Records:
    return decode(b"".join((backup.directory / part.path).read_bytes() for part in backup.parts()), "here")


def test_a_set_of_rdb_files_says_what_it_requires_and_counts_its_keys(rdb_set: BackupSet, held: Held) -> None:
    metadata = rdb_set.metadata
    recorded = metadata.components["redis"]
    assert (metadata.version, [*metadata.requires], metadata.keys) == (3, ["rdb"], held.keys)
    assert [entry.path for entry in metadata.files] == ["rdb/shard-000.rdb", "functions/libraries.jsonl", SUMS]
    (file,) = recorded["rdb"]
    assert (file["keys"], file["databases"], file["policy"], file["slots"]) == (held.keys, [0, 9], "allkeys-lru", None)
    assert "types" not in recorded
    assert (recorded["rdb_versions"], recorded["functions"]) == ([80], 1)
    assert rdb_set.directory.joinpath("rdb/shard-000.rdb").stat().st_mode & 0o777 == 0o600


def test_what_is_read_again_is_exactly_what_stood_there_with_what_has_expired_and_how_idle_it_was(
    rdb_set: BackupSet, held: Held, tmp_path: Path
) -> None:
    local = LocalRepository(tmp_path)
    with expanded(rdb_set, local, Silent()) as backup:
        check(backup, Silent())
        records = lines_of(backup)
        assert (backup.metadata.keys, backup.metadata.version) == (held.keys, 1)
        assert (backup.directory / "functions/libraries.jsonl").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with Router(held.target) as router:
        wire = router.wire(held.target.seeds[0])
        rows = zip(records.keys, records.dbs, records.types, records.payloads, records.expire_at_ms, strict=True)
        for key, db, kind, payload, expiry in rows:
            wire.call("SELECT", db)
            assert wire.call("PEXPIRETIME", key) == (-1 if expiry is None else expiry)
            # hash tables are dumped in the order of their buckets, which is another server's
            assert payload == wire.call("DUMP", key) or kind in {"hash", "set", "zset"}
        wire.call("SELECT", 0)
    idle = dict(zip(records.keys, records.idle_s or (), strict=True))
    assert IDLE_S <= (idle[b"old"] or 0) < IDLE_S + 600
    assert (idle[b"gone"] or 0) < 600
    assert {b"gone", b"half", b"ninth"} <= set(records.keys)


def test_only_what_matches_is_loaded_into_lines(rdb_set: BackupSet, tmp_path: Path) -> None:
    with expanded(rdb_set, LocalRepository(tmp_path), Silent(), match="{tag}:*") as backup:
        assert sorted(lines_of(backup).keys) == [b"{tag}:a", b"{tag}:b"]
    with expanded(rdb_set, LocalRepository(tmp_path), Silent(), components=["postgres"]) as backup:
        assert backup is rdb_set


def test_every_command_takes_a_set_of_rdb_files(
    typed: Typed, rdb_set: BackupSet, held: Held, valkey_standalone: Lab, tmp_path: Path
) -> None:
    sets, other = tmp_path / "sets", tmp_path / "other"
    sets.mkdir()
    other.mkdir()
    copied(rdb_set, sets)
    shutil.copy(f"{rdb_set.directory}.tar.gz", sets)
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(sets)}

    def said(*words: str) -> dict[str, Any]:
        done = typed(*words, "--json", env=env)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    told = said("check")
    assert (told["keys"], told["whole"], told["read"]) == (held.keys, True, True)
    inspected = said("inspect")["redis"]
    assert sum(row["keys"] for row in inspected["types"]) == held.keys
    assert {row["type"] for row in inspected["types"]} == {"string", "list", "set", "zset", "hash", "stream"}
    assert inspected["expiry"]["now"][1]["keys"] == 1  # `gone`
    (half,) = json.loads(typed("inspect", "--key", "half", "--json", env=env).stdout)
    assert (half["value"], [*half["field_expire_at_ms"]]) == ({"stays": "1", "gone": "2"}, ["gone"])
    dry = typed("restore", "--dry-run", "--match", "{tag}:*", env=env)
    assert dry.returncode == 0, dry.stderr
    assert f"from: rdb/ ({held.keys} keys), functions/libraries.jsonl" in dry.stdout
    assert f"Keys that match '{{tag}}:*': 2 of the set's {held.keys}" in dry.stdout
    report = said("restore")["components"]["redis"]
    assert (report["restored"], report["expired"], report["failed"], report["functions"]) == (held.keys - 1, 1, 0, 1)
    after = digests(valkey_standalone.target())
    assert {key: after[key] for key in held.before} == held.before
    assert said("verify", "--full")["compared"] == held.keys
    with Router(valkey_standalone.target()) as router:
        router.wire(router.primaries[0]).pipeline([("SET", "{tag}:a", "else"), ("SET", "{tag}:c", "else")])
    differs = typed("verify", "--match", "{tag}:*", "--full", env=env)
    assert differs.returncode == 12
    assert "value_mismatch=1, extra=1, compared=2" in differs.stdout
    report = said("restore", "--match", "{tag}:a", "--overwrite", "--force")["components"]["redis"]
    assert (report["restored"], report["functions"], report["functions_kept"]) == (1, 0, 0)
    assert said("rehearse", rdb_set.directory.name)["verdict"] == "passed"
    assert said("upload", rdb_set.directory.name, "--s3-uri", str(other))["uploaded"]
    listed = typed("list", "--long", "--s3-uri", str(other), env=env)
    assert "by hand  redis" in listed.stdout


def test_idle_times_come_back_where_the_target_keeps_them(
    rdb_set: BackupSet, valkey_standalone: Lab, tmp_path: Path
) -> None:
    component = RedisComponent(valkey_standalone.target())
    with Router(valkey_standalone.target()) as router:
        wire = router.wire(router.primaries[0])
        wire.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with expanded(rdb_set, LocalRepository(tmp_path), Silent()) as backup:
                component.restore(backup, RestoreOptions(match="old"), Silent())
            assert IDLE_S <= wire.call("OBJECT", "IDLETIME", "old") < IDLE_S + 600
            assert wire.call("DBSIZE") == 1
        finally:
            wire.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
            component.close()


def test_a_set_of_both_is_read_by_its_lines_and_checked_in_both(
    held: Held, valkey_standalone: Lab, tmp_path: Path
) -> None:
    backup = taken([Frozen(held.target)], tmp_path, "jsonl", "rdb")
    assert (backup.metadata.version, [*backup.metadata.requires], backup.metadata.keys) == (1, [], held.keys)
    assert backup.metadata.components["redis"]["part_keys"] == [40, held.keys - 40]
    with expanded(backup, LocalRepository(tmp_path), Silent()) as same:
        assert same is backup
    check(backup, Silent())
    component = RedisComponent(valkey_standalone.target())
    for options, keys in ((RestoreOptions(dry_run=True), 0), (RestoreOptions(), 2), (RestoreOptions(dry_run=True), 2)):
        report = component.restore(backup, dataclasses.replace(options, match="{tag}:*"), Silent())
        assert (report.restored + report.skipped, report.functions, component.existing()) == (2, 0, keys)
    component.close()
    data = bytearray((backup.directory / "rdb/shard-000.rdb").read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(IntegrityError, match="does not read it"):
        check(changed(backup, tmp_path / "bad", {"rdb/shard-000.rdb": bytes(data)}), Silent())


def test_what_no_server_can_read_is_refused_with_the_reason_and_nothing_is_written(
    typed: Typed, rdb_set: BackupSet, valkey_standalone: Lab, tmp_path: Path
) -> None:
    path = "rdb/shard-000.rdb"
    data = (rdb_set.directory / path).read_bytes()
    bit = bytearray(data)
    bit[len(bit) // 2] ^= 1
    cases: dict[str, tuple[bytes, str, str]] = {
        "cut": (data[: len(data) // 2], "(?i)unexpected EOF|short read", "(?i)unexpected EOF|short read|end of file"),
        "bit": (bytes(bit), "CRC|RDB", "(?i)checksum|error|wrong"),
        "newer": (b"VALKEY081" + data[9:], "it is of RDB version 81", "format version 81"),
        "text": (b"hello", "(?i)signature|EOF", "it is no RDB file"),
    }
    for name, (content, of_the_tool, of_the_server) in cases.items():
        backup = changed(rdb_set, tmp_path / name, {path: content})
        with pytest.raises(IntegrityError, match=of_the_tool) as refusal:
            check(backup, Silent())
        assert "UNDERSTUDY_SERVER" in refusal.value.hint
        with pytest.raises(IntegrityError, match=of_the_server), expanded(
            backup, LocalRepository(tmp_path / "sets"), Silent()
        ):  # fmt: skip
            pass
    assert [one.name for one in (tmp_path / "sets").iterdir()] == [".lock"]
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(tmp_path / "sets")}
    refused = typed("restore", "-i", str(tmp_path / "newer" / rdb_set.directory.name), env=env)
    assert refused.returncode == 12, refused.stderr
    assert "Can't handle RDB format version 81" in refused.stderr
    assert "UNDERSTUDY_SERVER" in refused.stderr
    with Router(valkey_standalone.target()) as router:
        assert router.wire(router.primaries[0]).call("DBSIZE") == 0


def test_a_number_of_keys_that_is_not_what_was_recorded_is_noticed(rdb_set: BackupSet, tmp_path: Path) -> None:
    (file,) = rdb_set.metadata.components["redis"]["rdb"]
    more = {"rdb": [{**file, "keys": file["keys"] + 1}], "keys": file["keys"] + 1}
    backup = changed(rdb_set, tmp_path, {}, more)
    with pytest.raises(IntegrityError, match="the metadata says"):
        check(backup, Silent())
    with (
        pytest.raises(IntegrityError, match="the metadata says"),
        expanded(backup, LocalRepository(tmp_path), Silent()),
    ):
        pass
    two = {**file, "keys": file["keys"] - 1}
    for wrong in ([], [{"path": "rdb/shard-001.rdb", "keys": 1}], [{**file, "keys": "1"}], ["rdb"], 7, [two],
                  [two, {**file, "keys": 1}]):  # fmt: skip
        shutil.rmtree(backup.directory)
        backup = changed(rdb_set, tmp_path, {}, {"rdb": wrong})
        with pytest.raises(IntegrityError, match="damaged"):
            check(backup, Silent())


def test_what_a_hostile_set_says_of_its_policy_stands_in_no_configuration(rdb_set: BackupSet, tmp_path: Path) -> None:
    (file,) = rdb_set.metadata.components["redis"]["rdb"]
    for policy in ("noeviction\nloadmodule /etc/passwd", ["allkeys-lru"], "allkeys-lru "):
        backup = changed(rdb_set, tmp_path / str(len(str(policy))), {}, {"rdb": [{**file, "policy": policy}]})
        with expanded(backup, LocalRepository(tmp_path), Silent(), match="old") as found:
            assert lines_of(found).idle_s is None  # it was loaded, without any policy


def test_an_encrypted_set_of_rdb_files_opens_like_others(held: Held, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    backup = taken([Frozen(held.target)], tmp_path, "rdb", lock=Lock((str(identity.to_public()),)))
    assert (backup.metadata.version, backup.metadata.keys) == (3, held.keys)
    assert b"VALKEY" not in (backup.directory / "rdb/shard-000.rdb.gz.age").read_bytes()
    local = LocalRepository(tmp_path)
    with pytest.raises(RefusedError, match="encrypted"), expanded(backup, local, Silent()):
        pass
    with unlocked(backup, Key(tmp_path / "key"), local, Silent()) as plain:
        check(plain, Silent())
        with expanded(plain, local, Silent(), match="ni*") as found:
            assert lines_of(found).keys == [b"ninth"]


def test_without_a_server_the_bytes_are_proved_and_it_says_that_no_key_was_read(
    typed: Typed, rdb_set: BackupSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_SERVER", str(tmp_path / "absent"))
    check(rdb_set, Silent())
    assert "were not read" in unread(rdb_set)
    with pytest.raises(UsageError, match="it takes a server to read"), expanded(
        rdb_set, LocalRepository(tmp_path), Silent()
    ):  # fmt: skip
        pass
    done = typed("check", str(rdb_set.directory), "--json", env={"BACKUP_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["whole"], told["read"]) == (True, False)


def test_memory_and_disk_are_looked_at_before_anything_is_loaded(
    rdb_set: BackupSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rdb_expand, "available_bytes", lambda: 1 << 20)
    with pytest.raises(RefusedError, match="bytes of memory"), expanded(rdb_set, LocalRepository(tmp_path), Silent()):
        pass
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 100))
    with pytest.raises(RefusedError, match="are free in"), expanded(rdb_set, LocalRepository(tmp_path), Silent()):
        pass


def test_shards_write_their_own_slots_only_and_one_after_the_other_is_loaded_with_its_big_keys_in_slices(
    valkey_standalone: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = [frozenset(range(SLOTS // 2)), frozenset(range(SLOTS // 2, SLOTS))]
    names = [b"key:%d" % number for number in range(300)]
    with Scratch() as scratch:
        servers = [scratch.server(f"shard{number}") for number in range(2)]
        for number, server in enumerate(servers):
            with server.wire() as wire:
                ours = [name for name in names if key_slot(name) in halves[number]]
                wire.pipeline([("SET", name, "x") for name in ours])
                if number == 0:  # keys of the other shard, which it has not deleted yet
                    wire.pipeline([("SET", name, "stale") for name in names if name not in ours])
                wire.call(
                    "SET", next(f"big:{at}" for at in range(99) if key_slot(b"big:%d" % at) in halves[number]), BIG
                )
        copies = [Frozen(server.target, half) for server, half in zip(servers, halves, strict=True)]
        backup = taken(copies, tmp_path, "rdb")
    assert backup.metadata.keys == len(names) + len(halves)
    assert [file["slots"] for file in backup.metadata.components["redis"]["rdb"]] == [["0-8191"], ["8192-16383"]]
    monkeypatch.setattr(rdb_expand, "_SLICE_BYTES", 1 << 16)
    component = RedisComponent(valkey_standalone.target())
    with expanded(backup, LocalRepository(tmp_path), Silent()) as found:
        check(found, Silent())
        assert (found.metadata.version, [*found.metadata.requires]) == (3, ["slices"])
        assert (found.metadata.keys, component.restore(found, RestoreOptions(), Silent()).restored) == (302, 302)
    component.close()
    with Router(valkey_standalone.target()) as router:
        wire = router.wire(router.primaries[0])
        values = wire.call("MGET", *names)
        assert values == [b"x"] * len(names)
        big = wire.call("KEYS", "big:*")
        assert wire.call("MGET", *big) == [BIG, BIG]


def test_a_file_that_cannot_be_written_ends_the_backup_with_the_servers_reason(tmp_path: Path) -> None:
    with Scratch() as scratch:
        server = scratch.server("full")
        (server.directory / "dump.rdb").mkdir()  # where its file is to go
        with pytest.raises(RefusedError, match=r"the server could not: .*(Error moving|Is a directory)") as refusal:
            taken([Frozen(server.target)], tmp_path, "rdb")
    assert "--format jsonl" in refusal.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("engine", "match", "why"),
    [
        ("scan", None, "the engine scan makes none"),
        ("replica", "u*", "holds every key"),
        ("auto", "u*", "every"),
    ],
)
def test_rdb_files_are_refused_where_there_can_be_none(engine: str, match: str | None, why: str) -> None:
    nowhere = Target.from_url("redis://127.0.0.1:1")
    for formats in (("rdb",), ("jsonl", "rdb")):
        with pytest.raises(UsageError, match=why) as refusal:
            RedisComponent(nowhere, ReadOptions(match=match, engine=engine, formats=formats)).connect()
        assert "--format jsonl" in refusal.value.hint
    with pytest.raises(UnderstudyError, match="none answered"):
        RedisComponent(nowhere, ReadOptions(match=match, engine=engine)).connect()


def test_a_backup_is_taken_as_rdb_files_and_a_safety_set_never_is(
    typed: Typed, valkey_standalone: Lab, tmp_path: Path
) -> None:
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(tmp_path), "BACKUP_ENGINE": "replica", "BACKUP_FORMAT": "rdb"}
    with Router(valkey_standalone.target()) as router:
        router.wire(router.primaries[0]).pipeline([("SET", f"key:{number}", "x") for number in range(50)])
    refused = typed("backup", "--match", "key:1", env=env)
    assert (refused.returncode, "restore --match" in refused.stderr) == (2, True)
    done = typed("backup", "--json", env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["keys"], [file["keys"] for file in told["components"]["redis"]["rdb"]]) == (50, [50])
    del env["BACKUP_ENGINE"]  # what a backup could not do with these settings does not keep anybody from a restore
    done = typed("restore", "--overwrite", "--force", "--json", env=env)
    assert done.returncode == 0, done.stderr
    safety = BackupSet.open(tmp_path / json.loads(done.stdout)["safety_set"])
    assert (safety.metadata.version, len(safety.parts())) == (1, 1)
