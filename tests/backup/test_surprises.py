"""Servers and settings that are not what one would think: a backup says so, or it has everything."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Typed
from support import backed_up, eventually
from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.backup.components.redis import RedisComponent
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import find
from understudy.backup.restore import restore
from understudy.backup.set import BackupSet, SetId
from understudy.backup.verify import verify
from understudy.errors import IncompleteError, NotFoundError, RefusedError, UsageError
from understudy.lab import Lab
from understudy.lab.ports import claim
from understudy.lab.sample import fill, load_function
from understudy.lab.servers.valkey import find_binary
from understudy.progress import Silent
from understudy.valkey.payload import all_fields_expired
from understudy.valkey.router import Router
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.wire import Wire


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[Target]:
    """One server with options that the lab does not offer."""
    block = claim([0, 10_000])  # its port, and that of the cluster bus
    port = block.first
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    process = subprocess.Popen([str(find_binary(None).path), *words], stdout=subprocess.DEVNULL)
    address = Address("127.0.0.1", port)

    def answers() -> bool:
        with contextlib.suppress(Exception), Wire(address, Target((address,))) as wire:
            return bool(wire.call("PING"))
        return False

    try:
        eventually(answers)
        yield Target((address,))
    finally:
        process.kill()
        process.wait()
        block.release()


def restored(backup: BackupSet, target: Target, **options: bool) -> RestoreReport:
    component = RedisComponent(target)
    try:
        return restore(backup, [component], RestoreOptions(**options), Silent())["redis"]
    finally:
        component.close()


def test_a_cluster_node_that_hides_a_command_is_not_taken_for_a_proxy(tmp_path: Path) -> None:
    with server(tmp_path, "--cluster-enabled", "yes", "--rename-command", "CLIENT", "") as target:
        with Wire(target.seeds[0], target) as wire:
            wire.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: b"cluster_state:ok" in wire.call("CLUSTER", "INFO"))
        backup = backed_up(target, tmp_path / "sets")
        assert backup.metadata.components["redis"]["mode"] == Mode.OSS_CLUSTER
        with pytest.raises(UsageError, match="oss-cluster"):
            backed_up(target.with_mode(Mode.ENTERPRISE), tmp_path / "sets")


def test_a_server_that_does_not_say_what_it_is_is_not_guessed_at(tmp_path: Path) -> None:
    with server(tmp_path, "--rename-command", "INFO", "") as target:
        with pytest.raises(UsageError) as refusal:
            backed_up(target, tmp_path / "sets")
        assert "REDIS_MODE" in refusal.value.hint


def test_a_replica_that_is_not_in_sync_is_refused(tmp_path: Path) -> None:
    with (
        server(tmp_path, "--replicaof", "127.0.0.1 1") as target,
        pytest.raises(IncompleteError, match="not in sync"),
    ):
        backed_up(target, tmp_path / "sets")


def test_a_restore_to_a_replica_is_refused_at_once(valkey_standalone: Lab, tmp_path: Path) -> None:
    with Router(valkey_standalone.target()) as router:
        fill(router, 10)
    backup = backed_up(valkey_standalone.target(), tmp_path / "sets")
    with server(tmp_path, "--replicaof", "127.0.0.1 1") as target, pytest.raises(RefusedError, match="replica"):
        restored(backup, target)


def test_several_standalone_servers_are_not_one(valkey_standalone: Lab, valkey_cluster: Lab, tmp_path: Path) -> None:
    seed = valkey_standalone.target().seeds[0]
    for mode in (Mode.AUTO, Mode.STANDALONE):
        with pytest.raises(UsageError, match="2 addresses"):
            backed_up(Target((seed, Address("127.0.0.1", 1)), mode), tmp_path)


def test_databases_that_are_swapped_meanwhile_start_it_over(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SET", f"a:{n}", "x") for n in range(4000)])
        wire.pipeline([("SELECT", 1), *(("SET", f"b:{n}", "x") for n in range(4000)), ("SELECT", 0)])
        swapped = False

        class Swap(Silent):
            def advance(self, amount: int) -> None:
                nonlocal swapped
                if not swapped and amount > 0:
                    swapped = True
                    wire.call("SWAPDB", 0, 1)

        from understudy.backup.components.redis import ReadOptions
        from understudy.backup.take import take

        component = RedisComponent(target, ReadOptions(keys_per_s=8000))
        taken = take([component], LocalRepository(tmp_path), None, "local", Swap()).backup
        component.close()
        assert swapped
        assert taken.metadata.keys == 8000
        assert verify(taken, target, Silent(), sample=None).clean


def test_a_function_that_stands_in_another_library_is_a_failure(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    other = b"#!lua name=other\nredis.register_function('understudy_echo', function() return 'wrong' end)"
    with Router(target) as router:
        load_function(router)
        backup = backed_up(target, tmp_path)
        wire = router.wire(target.seeds[0])
        for dry_run in (True, False):
            told = restored(backup, target, dry_run=dry_run)
            assert (told.functions, told.functions_kept) == (0, 1)
        assert restored(backup, target, dry_run=True, overwrite=True).functions == 1
        wire.pipeline([("FUNCTION", "FLUSH"), ("FUNCTION", "LOAD", other)])
        report = verify(backup, target, Silent(), sample=None)
        assert report.examples["missing"] == ["function library understudy_sample"]
        report_of_restore = restored(backup, target, overwrite=True)
        assert (report_of_restore.failed, report_of_restore.functions_kept) == (1, 0)
        wire.call("FUNCTION", "FLUSH")


def test_keys_in_a_database_that_the_set_lacks_are_extra(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.call("SET", "a", "1")
        backup = backed_up(target, tmp_path)
        wire.pipeline([("SELECT", 3), ("SET", "late", "1"), ("SELECT", 0)])
        assert verify(backup, target, Silent(), sample=None).examples == {"extra": ["late"]}


def test_all_that_differs_is_counted_where_not_all_is_named(
    typed: Typed, valkey_standalone: Lab, tmp_path: Path
) -> None:
    target = valkey_standalone.target()
    env = {"REDIS_NODES": str(target), "REDIS_MODE": "standalone", "BACKUP_DIR": str(tmp_path)}
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SET", f"k:{n}", "x") for n in range(250)])
        name = str(backed_up(target, tmp_path).metadata.id)
        wire.call("FLUSHALL")
    differs = typed("verify", name, env=env)
    assert differs.returncode == 12, differs.stderr
    assert differs.stdout.startswith("Verify sample=200 -> missing=200, ")
    assert "  … and 180 more (--json names 100 of 200)\n" in differs.stderr
    told = json.loads(typed("verify", "-i", name, "--json", env=env).stdout)
    assert (told["missing"], len(told["examples"]["missing"]), told["examples_at_most"]) == (200, 100, 100)
    assert typed("verify", "-i", name, name, env=env).returncode == 2


def test_what_the_target_evicts_is_not_called_restored(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SET", f"k:{n}", "x" * 1000) for n in range(3000)])
        backup = backed_up(target, tmp_path / "sets")
    small = ("--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru")
    with server(tmp_path, *small) as goal:
        report = restored(backup, goal)
        assert report.failed == 1
        assert "evicted" in report.failures[0]


def test_a_value_longer_than_the_target_takes_is_named_and_the_rest_restored(
    valkey_standalone: Lab, tmp_path: Path
) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SET", f"k:{n}", "x") for n in range(500)])
        wire.call("RPUSH", "long", *[bytes([n]) * 500_000 for n in range(4)])
        wire.call("CONFIG", "SET", "rdbcompression", "no")
        backup = backed_up(target, tmp_path / "sets")
        wire.call("CONFIG", "SET", "rdbcompression", "yes")
    with server(tmp_path, "--proto-max-bulk-len", "1mb") as goal:
        report = restored(backup, goal)
    assert (report.restored, report.failed) == (500, 1)
    assert report.failures[0].startswith("long: ")


def test_latest_is_of_the_profile(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    local = LocalRepository(tmp_path / "sets")
    archive = tmp_path / "x"
    archive.write_bytes(b"x")
    for profile, day in (("prd", 1), ("dev", 2)):
        local.put(archive, SetId.new("redis-backup", profile, datetime(2026, 11, day, tzinfo=UTC)), lambda _: None)
    assert find(local, "latest", "prd").id.profile == "prd"
    assert find(local, "latest").id.profile == "dev"
    with pytest.raises(NotFoundError, match="none of profile 'local' among 2"):
        find(local, "latest", "local")


def test_sets_of_one_second_sort_as_they_were_made() -> None:
    from datetime import UTC, datetime

    names = itertools.cycle(("redis-backup", "stack-backup", "safety"))
    ids = [SetId.new(next(names), "local", datetime(2026, 11, 1, 0, 0, 0, ms * 1000, UTC)) for ms in range(0, 999, 7)]
    assert sorted(ids, key=str) != ids
    assert sorted(ids) == ids


def test_a_name_that_does_not_fit_into_an_archive_is_refused(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    with pytest.raises(UsageError, match="at most 64") as refusal:
        SetId.new("redis-backup", "p" * 45, datetime(2026, 11, 1, tzinfo=UTC))
    assert "ENV_PROFILE" in refusal.value.hint


def test_a_profile_that_would_be_read_back_as_another_is_refused() -> None:
    from datetime import UTC, datetime

    # `eu-prd` would be the profile `prd`: its `latest`, and deleted by its retention
    with pytest.raises(UsageError, match="no dash in the profile"):
        SetId.new("redis-backup", "eu-prd", datetime(2026, 11, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "text", ["user:secret@host:port", "redis://:secret@host:6379", ":secret@h/x", "u:secret?x@h:99999999"]
)
def test_a_secret_in_a_bad_address_is_not_repeated(text: str) -> None:
    for read in (Address.parse, lambda one: Target.from_url(f"redis://{one}")):
        with contextlib.suppress(UsageError):
            found = read(text)
            assert isinstance(found, Target), "a password in an address is no address"
            continue
        with pytest.raises(UsageError) as refusal:
            read(text)
        assert "secret" not in str(refusal.value.as_data())


def test_a_user_without_a_password_is_not_the_default_user(tmp_path: Path) -> None:
    from understudy.errors import NotAuthorisedError

    with server(tmp_path) as target, pytest.raises(NotAuthorisedError, match="WRONGPASS"):
        backed_up(Target(target.seeds, username="nobody"), tmp_path / "sets")


def test_an_expiry_that_passed_in_a_hash_is_no_missing_key(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("HSET", "gone", "f", "1"), ("HPEXPIRE", "gone", 3000, "FIELDS", 1, "f")])
        backup = backed_up(target, tmp_path)
        assert backup.metadata.keys == 1
        eventually(lambda: wire.call("EXISTS", "gone") == 0)
        report = verify(backup, target, Silent(), sample=None)
        assert (report.missing, report.expired) == (0, 1)


def test_a_hash_without_a_field_left_removes_nothing_of_what_stands_there(
    valkey_standalone: Lab, tmp_path: Path
) -> None:
    with Router(valkey_standalone.target()) as router, router.wire(router.primaries[0]) as wire:
        words = [("a", "1"), ("-5", "70000"), ("c", "x" * 400), ("é", "y" * 70_000), ("n" * 100, "123456789")]
        wire.pipeline([("HSET", name, *itertools.chain(*words)) for name in ("gone", "kept", "some")])
        names = [word for word, _ in words]
        now_ms = 1000 * int(wire.call("TIME")[0])
        soon = now_ms + 1900
        for name, fields in (("gone", names), ("kept", names), ("some", names[1:])):
            wire.call("HPEXPIREAT", name, soon if name != "kept" else now_ms + 60_000, "FIELDS", len(fields), *fields)
        payload = wire.call("DUMP", "gone")
        assert not all_fields_expired(payload, soon - 1)
        assert all_fields_expired(payload, soon)
        assert not any(all_fields_expired(payload[:end] + payload[-10:], soon) for end in range(1, len(payload) - 10))
        backup = backed_up(valkey_standalone.target(), tmp_path)
        eventually(lambda: not wire.call("EXISTS", "gone"))
        wire.pipeline([("DEL", "kept", "some"), ("SET", "gone", "what stands there")])
        for dry_run in (True, False):
            report = restored(backup, valkey_standalone.target(), overwrite=True, dry_run=dry_run)
            assert (report.restored, report.expired, report.failed) == (2, 1, 0)
        assert wire.call("GET", "gone") == b"what stands there"
        assert (wire.call("HLEN", "kept"), wire.call("HKEYS", "some")) == (len(words), [b"a"])
