"""Keys too big for one DUMP: read, kept, checked, restored and compared in slices."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyrage
import pytest

from conftest import Typed
from every_value import plant, state_of
from support import backed_up, meanwhile
from understudy.backup.big import take as big_take
from understudy.backup.big.format import big_keys, commands
from understudy.backup.check import check
from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.frozen import Frozen, read_frozen
from understudy.backup.restore import restore
from understudy.backup.set import METADATA, BackupSet, FileEntry, Metadata, sums
from understudy.backup.tasks.compare_big import run as compare_big
from understudy.backup.tasks.read_keys import run as read_keys
from understudy.backup.verify import verify
from understudy.errors import IncompleteError, IntegrityError
from understudy.lab import Lab
from understudy.lab.reshard import move_slot
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges, key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire

SLICE_BYTES = 65_536
BIG = {b"string", b"list", b"set", b"zset", b"hash", b"stream"}


@pytest.fixture
def target(valkey_standalone: Lab) -> Target:
    return valkey_standalone.target()


@pytest.fixture
def wire(target: Target) -> Iterator[Wire]:
    with Wire(target.seeds[0], target) as found:
        yield found


@pytest.fixture
def planted(wire: Wire) -> dict[bytes, object]:
    """What stands in the server: big keys and small ones of every type."""
    plant(wire)
    wire.call("PEXPIREAT", "zset", 1_999_999_999_123)
    return {key: [state_of(wire, key), wire.call("PEXPIRETIME", key)] for key in wire.call("KEYS", "*")}


def there(wire: Wire) -> dict[bytes, object]:
    return {key: [state_of(wire, key), wire.call("PEXPIRETIME", key)] for key in wire.call("KEYS", "*")}


def brought_back(backup: BackupSet, target: Target, **options: Any) -> Any:
    with closing(RedisComponent(target)) as component:
        return restore(backup, [component], RestoreOptions(**options), Silent())["redis"]


def test_a_set_with_big_keys_restores_them_as_they_were(
    typed: Typed, planted: dict[bytes, object], wire: Wire, target: Target, tmp_path: Path
) -> None:
    secret = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{secret}\n")
    env = {
        "REDIS_URL": f"redis://{target.seeds[0]}",
        "BACKUP_DIR": str(tmp_path),
        "BACKUP_RECIPIENTS": str(secret.to_public()),
        "BACKUP_IDENTITY": str(tmp_path / "key"),
    }
    done = typed("backup", "--slice-bytes", "64KiB", env=env)
    assert done.returncode == 0, done.stderr
    (folder,) = (path.parent for path in tmp_path.glob("*/metadata.json"))
    metadata = json.loads((folder / "metadata.json").read_bytes())
    assert (metadata["version"], metadata["requires"]) == (3, ["slices"])
    assert metadata["components"]["redis"]["keys"] == len(planted)
    assert len(list((folder / "slices").glob("000-*.resp.gz.age"))) == len(BIG)
    wire.call("FLUSHALL")
    archive = next(tmp_path.glob("*.tar.gz"))
    done = typed("restore", str(archive), env=env)
    assert f"restored={len(planted)}" in done.stdout, done.stderr
    assert there(wire) == planted
    done = typed("verify", str(archive), "--full", env=env)
    assert (done.returncode, f"compared={len(planted)}" in done.stdout) == (0, True), done.stderr


def test_what_is_restored_is_what_was_asked_for(
    planted: dict[bytes, object], wire: Wire, target: Target, tmp_path: Path
) -> None:
    backup = backed_up(target, tmp_path, slice_bytes=SLICE_BYTES)
    assert {big.key for big in big_keys(backup)} == BIG
    assert check(backup, Silent()) == len(planted)
    report = brought_back(backup, target)
    assert (report.skipped, report.restored) == (len(planted), 0)
    wire.pipeline([("DEL", "list", "zset", "stream"), ("SET", "string", "newer")])
    report = brought_back(backup, target, dry_run=True)
    assert (report.restored, wire.call("EXISTS", "list")) == (3, 0)
    report = brought_back(backup, target, match="l*")
    assert (report.restored, wire.call("EXISTS", "list", "zset")) == (1, 1)
    report = brought_back(backup, target, recreate_stream_groups=False)
    assert (report.restored, wire.call("XINFO", "GROUPS", "stream")) == (2, [])
    assert wire.call("GET", "string") == b"newer"
    report = brought_back(backup, target, overwrite=True)
    assert report.restored == len(planted)
    assert there(wire) == planted


def test_verify_finds_one_changed_element_of_each_type(
    planted: dict[bytes, object], wire: Wire, target: Target, tmp_path: Path
) -> None:
    backup = backed_up(target, tmp_path, slice_bytes=SLICE_BYTES)
    assert verify(backup, target, Silent(), sample=None).examples == {}
    member = wire.call("SRANDMEMBER", "set")
    wire.pipeline(
        [
            ("SETRANGE", "string", 70_000, "xy"),
            ("LSET", "list", 500, "x"),
            ("SREM", "set", member),
            ("SADD", "set", "another"),
            ("ZADD", "zset", 1, wire.call("ZRANGE", "zset", 500, 500)[0]),
            ("HPERSIST", "hash", "FIELDS", 1, "field2"),
            ("XACK", "stream", "one", "20-1"),
            ("SADD", "more", "x"),
        ]
    )
    found = verify(backup, target, Silent(), sample=None)
    assert {name.encode() for name in found.examples["value_mismatch"]} == BIG
    assert found.examples["extra"] == ["more"]
    wire.pipeline([("DEL", "list"), ("PERSIST", "zset"), ("DEL", "hash"), ("SET", "hash", "x")])
    found = verify(backup, target, Silent(), sample=None)
    assert found.examples["missing"] == ["list"]
    assert found.examples["ttl_mismatch"] == ["zset"]
    assert verify(backup, target, Silent(), sample=3, chance=random.Random(1)).compared == 3 + 2


@pytest.mark.parametrize(
    "change",
    [
        ("HPEXPIRE", "hash", 99_999, "FIELDS", 1, "field5"), ("HPEXPIRE", "hash", 99_999, "FIELDS", 1, "field2"),
        ("HPERSIST", "hash", "FIELDS", 1, "field999"), ("HSET", "hash", "new", "x"), ("HSET", "hash", "field5", "x"),
        ("HDEL", "hash", "field7"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)  # fmt: skip
def test_a_hash_differs_by_one_field_or_its_expiry(
    wire: Wire, target: Target, tmp_path: Path, change: tuple[str | int, ...]
) -> None:
    plant(wire)
    (row,) = read_keys(plan_of(target, tmp_path, match="hash"), lambda _: None)["big"]
    plan = {"target": target.as_data(), "directory": str(tmp_path), "keys": [row], "seen": None}
    assert compare_big(plan, lambda _: None)["value_mismatch"] == 0
    wire.call(*change)
    assert compare_big(plan, lambda _: None)["value_mismatch"] == 1


def resealed(backup: BackupSet) -> BackupSet:
    """The same set, with sums that fit what lies there: as somebody would make it who wants to do harm."""
    entries = []
    for entry in backup.metadata.files:
        data = (backup.directory / entry.path).read_bytes()
        entries.append(FileEntry(entry.path, len(data), hashlib.sha256(data).hexdigest(), entry.keys))
    listed = [entry for entry in entries if entry.path != "SHA256SUMS"]
    text = sums(tuple(listed))
    (backup.directory / "SHA256SUMS").write_bytes(text)
    metadata = backup.metadata.with_files(
        (*listed, FileEntry("SHA256SUMS", len(text), hashlib.sha256(text).hexdigest()))
    )
    (backup.directory / METADATA).write_bytes(metadata.encode())
    return BackupSet(backup.directory, Metadata.decode(metadata.encode(), "it"))


def spoiled(data: bytes, how: str) -> bytes:
    return {
        "another command": data.replace(b"$3\r\nSET\r\n", b"$3\r\nDEL\r\n", 1),
        "a whole server": data + b"*1\r\n$8\r\nFLUSHALL\r\n",
        "another key": data.replace(b"$6\r\nstring\r\n", b"$6\r\nothers\r\n", 1),
        "cut off": data[:-7],
        "no commands": b"hello\r\n",
        "a number": data + b":5\r\n",
        "endless": b"*2147483647\r\n$9\r\n",
    }[how]


@pytest.mark.parametrize(
    "how", ["another command", "a whole server", "another key", "cut off", "no commands", "a number", "endless"]
)
def test_only_commands_that_build_the_key_are_let_through(wire: Wire, target: Target, tmp_path: Path, how: str) -> None:
    wire.pipeline([("SET", "string", "x" * 100_000)])
    backup = backed_up(target, tmp_path, slice_bytes=SLICE_BYTES)
    (big,) = big_keys(backup)
    place = backup.directory / big.file
    data = spoiled(place.read_bytes(), how)
    place.write_bytes(data)
    index = backup.directory / "slices/index-000.jsonl"
    row = json.loads(index.read_bytes())
    index.write_text(json.dumps(row | {"bytes": len(data)}) + "\n")
    with pytest.raises(IntegrityError, match=r"slices/000-00000\.resp"):
        check(resealed(backup), Silent())


@pytest.mark.parametrize(
    "change",
    [
        {"file": "metadata.json"}, {"file": "../x"}, {"bytes": 5}, {"type": "module"}, {"db": -1}, {"commands": 10**30},
        {"expire_at_ms": "x"}, {"key_b64": "!"}, {"commands": 1},
    ],
    ids=str,
)  # fmt: skip
def test_an_index_that_says_something_else_is_refused(
    wire: Wire, target: Target, tmp_path: Path, change: dict[str, Any]
) -> None:
    wire.pipeline([("SET", "string", "x" * 100_000)])
    backup = backed_up(target, tmp_path, slice_bytes=SLICE_BYTES)
    index = backup.directory / "slices/index-000.jsonl"
    row = json.loads(index.read_bytes()) | change
    if "key_b64" in change:
        del row["key"]
    index.write_text(json.dumps(row) + "\n")
    with pytest.raises(IntegrityError):
        check(resealed(backup), Silent())


def test_what_has_expired_since_is_not_written(wire: Wire, target: Target, tmp_path: Path) -> None:
    wire.pipeline([("SET", "string", "x" * 100_000), ("SET", "small", "x")])
    backup = backed_up(target, tmp_path, slice_bytes=SLICE_BYTES)
    index = backup.directory / "slices/index-000.jsonl"
    index.write_text(json.dumps(json.loads(index.read_bytes()) | {"expire_at_ms": 1}) + "\n")
    wire.call("SET", "string", "theirs")
    report = brought_back(resealed(backup), target, overwrite=True)
    assert (report.restored, report.expired, wire.call("GET", "string")) == (1, 1, b"theirs")


def plan_of(target: Target, work: Path, **more: Any) -> dict[str, Any]:
    return {
        "target": target.as_data(), "slots": None, "dbs": [0], "work": str(work), "stem": "all", "chunk_keys": 1000,
        "match": None, "keys_per_s": 0.0, "slice_bytes": SLICE_BYTES, **more,
    }  # fmt: skip


def test_a_key_that_never_stands_still_is_dumped_or_told(
    wire: Wire, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.pipeline([("RPUSH", "busy", *["x" * 1000] * 3000)])
    with Wire(target.seeds[0], target) as other, meanwhile(lambda: other.call("LSET", "busy", 0, os.urandom(9))):
        result = read_keys(plan_of(target, tmp_path), lambda _: None)
        assert (result["keys"], result["big"], result["types"]) == (1, [], {"list": 1})
        assert sum(part["keys"] for part in result["parts"]) == 1
        monkeypatch.setattr(big_take, "_MOST_WHOLE_BYTES", 1000)
        with pytest.raises(IncompleteError, match="big key") as error:
            read_keys(plan_of(target, tmp_path, stem="again"), lambda _: None)
    assert "busy" in error.value.items[0]
    assert error.value.exit_code == 13


def test_frozen_copies_are_read_in_slices_of_their_own_numbers(
    planted: dict[bytes, object], target: Target, tmp_path: Path
) -> None:
    work, into = tmp_path / "work", tmp_path / "into"
    work.mkdir()
    into.mkdir()
    plan = {"chunk_keys": 1000, "match": None, "slice_bytes": SLICE_BYTES, "shard": 7}
    taken = read_frozen([Frozen(target)], plan, work, into, Silent(), {})
    assert taken.requires == ("slices",)
    assert {entry.path for entry in taken.files} == {
        "slices/index-007.jsonl", *(f"slices/007-{number:05d}.resp" for number in range(len(BIG)))
    }  # fmt: skip
    assert taken.metadata["keys"] == len(planted) == sum(part.keys for part in taken.parts) + len(BIG)


def test_a_big_key_moves_with_its_slot_and_arrives_in_a_cluster_whose_slots_move(
    valkey_cluster: Lab, tmp_path: Path
) -> None:
    """The slot moves between two batches of each: when it is read, and when it is written."""
    target = valkey_cluster.target()
    with Router(target) as router:
        slot = key_slot(b"big")
        router.execute([(slot, ("RPUSH", b"big", *[b"%d-" % at + b"x" * 5000 for at in range(400)]))])
        before = router.execute([(slot, ("LRANGE", "big", 0, -1))]).values[0]
        backup = backed_up(target, tmp_path, slice_bytes=SLICE_BYTES)
        (big,) = big_keys(backup)
        router.execute([(slot, ("DEL", "big"))])
        goal = next(shard for shard in router.topology.shards if slot not in shard.slots and shard.primary)

        def moved() -> Iterator[list[Any]]:
            for number, command in enumerate(commands(backup.directory, big)):
                if number == 1:
                    assert goal.primary
                    move_slot(router, slot, goal.primary)
                yield [command]

        from understudy.valkey.slices import write

        assert write(router, b"big", moved).outcome == "written"
        assert router.execute([(slot, ("LRANGE", "big", 0, -1))]).values[0] == before
        plan = plan_of(target, tmp_path, slots=as_ranges([slot]))
        (row,) = read_keys(plan, lambda _: None)["big"]
        assert row["length"] == 400


MEASURE = """import resource, subprocess, sys
assert subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL) == 0
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True)
"""


def peak_bytes(task: str, plan: Mapping[str, Any]) -> int:
    """The most memory that a worker ever had, run as they are: it lives while its standard input is open."""
    words = [sys.executable, "-c", MEASURE, sys.executable, "-P", "-m", "understudy.backup.workers", task]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin and worker.stdout
        worker.stdin.write(json.dumps(plan).encode() + b"\n")
        worker.stdin.flush()
        return int(worker.stdout.readline()) * 1024


def test_memory_does_not_grow_with_the_key(wire: Wire, target: Target, tmp_path: Path) -> None:
    chunk = random.Random(3).randbytes(1 << 20)
    for at in range(64):
        wire.pipeline([("RPUSH", "list", *(chunk[:-at][start : start + 8000] for start in range(0, 500_000, 8000)))])
        wire.call("APPEND", "string", chunk[: 1 << 19])
    tasks = "understudy.backup.tasks"
    base = peak_bytes(f"{tasks}.read_keys:run", plan_of(target, tmp_path, match="nothing", slice_bytes=1 << 20))
    backup = backed_up(target, tmp_path, slice_bytes=1 << 20)
    rows = [big.as_data() for big in big_keys(backup)]
    assert sum(row["bytes"] for row in rows) > 60 << 20
    plan = plan_of(target, tmp_path, slice_bytes=1 << 20, stem="measured")
    common = {"target": target.as_data(), "directory": str(backup.directory), "keys": rows}
    writing = {"overwrite": True, "recreate_stream_groups": True, "dry_run": False}
    peaks = {
        "read": peak_bytes(f"{tasks}.read_keys:run", plan),
        "write": peak_bytes(f"{tasks}.write_big:run", common | writing),
        "compare": peak_bytes(f"{tasks}.compare_big:run", common | {"seen": None}),
    }
    assert max(peaks.values()) < base + (30 << 20), (base, peaks)


@pytest.mark.soak
def test_behind_a_proxy_a_big_stream_comes_back_with_its_groups(valkey_enterprise: Lab, tmp_path: Path) -> None:
    target = valkey_enterprise.target()
    with Router(target) as router:
        router.execute([(None, ("XGROUP", "CREATE", "stream", "group", 0, "MKSTREAM"))])
        router.execute([(None, ("XADD", "stream", f"{at}-1", "a", "b" * 1000)) for at in range(1, 300)])
        router.execute([(None, ("XREADGROUP", "GROUP", "group", "one", "COUNT", 9, "STREAMS", "stream", ">"))])
        backup = backed_up(target, tmp_path, slice_bytes=SLICE_BYTES)
        assert [big.key for big in big_keys(backup)] == [b"stream"]
        router.execute([(None, ("DEL", "stream"))])
        report = brought_back(backup, target)
        assert (report.restored, report.failures) == (1, [])
        assert router.execute([(None, ("XPENDING", "stream", "group"))]).values[0][0] == 9
    assert verify(backup, target, Silent(), sample=None).examples == {}


@pytest.mark.soak
def test_a_gigabyte_list_and_a_600_mb_string_take_less_than_300_mb_of_ours(tmp_path: Path) -> None:
    """The sum of the most memory that each of our processes ever had, parent and workers, of each command."""
    from understudy import lab

    chunk = random.Random(3).randbytes(1 << 20)
    with lab.standalone(password="long") as server, Wire(server.target().seeds[0], server.target(), 120) as wire:
        wire.call("CONFIG", "SET", "proto-max-bulk-len", "2gb")
        for at in range(1075):
            wire.pipeline([("RPUSH", "list", *(chunk[:-at][start : start + 8000] for start in range(0, 10**6, 8000)))])
        for _ in range(600):
            wire.call("APPEND", "string", chunk)
        before = [wire.call("DEBUG", "DIGEST-VALUE", key) for key in ("list", "string")]
        env = {"REDIS_URL": f"redis://:long@{server.target().seeds[0]}", "BACKUP_DIR": str(tmp_path)}
        assert peak_of(env, "backup") < 300 << 20
        wire.call("FLUSHALL")
        assert peak_of(env, "restore", "latest") < 300 << 20
        assert [wire.call("DEBUG", "DIGEST-VALUE", key) for key in ("list", "string")] == before
        assert peak_of(env, "verify", "latest", "--full") < 300 << 20


def peak_of(env: dict[str, str], *words: str) -> int:
    """The most memory that a command and its children ever had, added up; those that are Python."""
    peaks: dict[str, int] = {}
    command = [sys.executable, "-P", "-m", "understudy", *words]
    with subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for pid in family(process.pid):
                with suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes() and "VmHWM" in status:
                        peaks[pid] = int(status.partition("VmHWM:")[2].split()[0]) * 1024
            time.sleep(0.02)
    assert process.returncode == 0
    return sum(peaks.values())


def family(pid: int) -> list[str]:
    """A process and all that descend from it."""
    children: dict[str, list[str]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = place.read_text().rpartition(")")[2].split()[1]
            children.setdefault(parent, []).append(place.parent.name)
    found = [str(pid)]
    for one in found:
        found += children.get(one, [])
    return found
