"""What was backed up comes back the same: every type and encoding, from and to every arrangement."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import backed_up, digests, eventually, names
from understudy import lab
from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.backup.components.redis import RedisComponent
from understudy.backup.restore import restore
from understudy.backup.set import BackupSet
from understudy.backup.verify import verify
from understudy.lab import Lab
from understudy.lab.sample import fill, load_function, wipe
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode, Target


def restored(backup: BackupSet, target: Target, **options: bool) -> RestoreReport:
    component = RedisComponent(target)
    report = restore(backup, [component], RestoreOptions(**options), Silent())["redis"]
    component.close()
    return report


def streams(target: Target) -> dict[bytes, object]:
    """Everything that `XINFO STREAM … FULL` tells, but for how long ago consumers were seen."""
    found = {}
    with Router(target) as router:
        keys = [name for name in names(router) if b"stream" in name]
        for key in keys:
            info = router.execute([(key_slot(key), ("XINFO", "STREAM", key, "FULL", "COUNT", 0))]).values[0]
            fields = dict(zip(info[::2], info[1::2], strict=True))
            groups = [dict(zip(group[::2], group[1::2], strict=True)) for group in fields.pop(b"groups")]
            for group in groups:
                group[b"consumers"] = sorted(
                    str({k: v for k, v in zip(one[::2], one[1::2], strict=True) if b"-time" not in k})
                    for one in group[b"consumers"]
                )
            # how the radix tree is laid out is not part of the value
            fields = {k: v for k, v in fields.items() if not k.startswith(b"radix")}
            found[key] = (fields, groups)
    return found


def expiries(target: Target) -> dict[bytes, object]:
    with Router(target) as router:
        keys = names(router)
        commands = [(key_slot(key), ("PEXPIRETIME", key)) for key in keys]
        fields = [(key_slot(key), ("HPEXPIRETIME", key, "FIELDS", 1, "goes")) for key in keys if b"field-ttl" in key]
        return dict(zip(keys, router.execute(commands).values, strict=True)) | {
            command[1][1] + b"/goes": value
            for command, value in zip(fields, router.execute(fields).values, strict=True)  # type: ignore[operator]
        }


@pytest.fixture
def five_shards() -> object:
    with lab.cluster(primaries=5, replicas=0) as running:
        yield running


@pytest.mark.parametrize(
    ("source", "goal"),
    [
        ("valkey_cluster", "valkey_cluster"),
        ("valkey_cluster", "valkey_standalone"),
        ("valkey_standalone", "valkey_cluster"),
        ("valkey_cluster", "five_shards"),
        ("valkey_sentinel", "valkey_cluster"),
        ("valkey_standalone", "valkey_sentinel"),
    ],
)
def test_every_type_survives_the_way(source: str, goal: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    here, there = request.getfixturevalue(source).target(), request.getfixturevalue(goal).target()
    with Router(here) as router:
        written = fill(router, 1200)
        load_function(router)
    before = (digests(here), streams(here), expiries(here))
    assert len(before[0]) == written
    backup = backed_up(here, tmp_path)
    assert backup.metadata.keys == written
    with Router(here) as router:
        wipe(router)
    report = restored(backup, there)
    assert (report.restored, report.skipped, report.failed, report.functions) == (written, 0, 0, 1)
    assert (digests(there), streams(there), expiries(there)) == before
    with Router(there) as router:
        for shard in router.topology.shards:
            assert shard.primary
            wire = router.wire(shard.primary.address)
            assert wire.pipeline([("FCALL", "understudy_echo", 0, "still here")]) == [b"still here"]
    assert verify(backup, there, Silent(), sample=None).clean


def test_the_enterprise_endpoint_is_backed_up_whole(valkey_enterprise: Lab, tmp_path: Path) -> None:
    behind = valkey_enterprise.target(Mode.OSS_CLUSTER)
    with Router(behind) as router:
        written = fill(router, 600)
        before = digests(behind)
        backup = backed_up(valkey_enterprise.target(), tmp_path)
        assert backup.metadata.keys == written
        assert backup.metadata.components["redis"]["slots"]["covered"] == 16384
        wipe(router)
    assert restored(backup, valkey_enterprise.target()).restored == written
    assert digests(behind) == before


def test_a_standalone_server_is_backed_up_with_all_its_databases(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SELECT", 3), ("SET", "same", "three"), ("SELECT", 9), ("SET", "same", "nine"), ("SELECT", 0)])
        backup = backed_up(target, tmp_path)
        assert backup.metadata.components["redis"]["databases"] == [3, 9]
        wipe(router)
        assert restored(backup, target).restored == 2
        replies = wire.pipeline([("SELECT", 3), ("GET", "same"), ("SELECT", 9), ("GET", "same"), ("DBSIZE",)])
        assert replies == [b"OK", b"three", b"OK", b"nine", 1]
    assert verify(backup, target, Silent(), sample=None).clean


def test_a_value_of_100_mb_and_its_neighbours_come_back(valkey_cluster: Lab, tmp_path: Path) -> None:
    target = valkey_cluster.target()
    with Router(target) as router:
        big = [(key_slot(b"big"), ("SETRANGE", b"big", 100_000_000, b"end"))]
        router.execute([*big, (key_slot(b"{big}small"), ("SET", b"{big}small", b"x"))])
        before = digests(target)
        backup = backed_up(target, tmp_path)
        wipe(router)
    assert restored(backup, target).restored == 2
    assert digests(target) == before


def test_without_their_groups_streams_come_back_with_their_entries(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        fill(router, 48)
        backup = backed_up(target, tmp_path)
        wipe(router)
    before = digests(target)
    restored(backup, target, recreate_stream_groups=False)
    assert streams(target)
    assert all(groups == [] for _, groups in streams(target).values())  # type: ignore[misc]
    assert before == {}


def test_only_keys_that_match_are_taken(valkey_cluster: Lab, tmp_path: Path) -> None:
    target = valkey_cluster.target()
    with Router(target) as router:
        keys = [b"user:%d" % n for n in range(50)] + [b"order:%d" % n for n in range(50)]
        router.execute([(key_slot(key), ("SET", key, "x")) for key in keys])
    backup = backed_up(target, tmp_path, match="user:*")
    assert backup.metadata.keys == 50
    assert backup.metadata.components["redis"]["match"] == "user:*"


def test_parts_hold_at_most_as_many_keys_as_asked(valkey_cluster: Lab, tmp_path: Path) -> None:
    target = valkey_cluster.target()
    with Router(target) as router:
        fill(router, 500)
    backup = backed_up(target, tmp_path, chunk_keys=100)
    keys = [entry.keys for entry in backup.parts()]
    assert max(keys) == 100  # type: ignore[type-var]
    assert sum(keys) == 508  # type: ignore[arg-type]
    lines = [len((backup.directory / entry.path).read_bytes().splitlines()) for entry in backup.parts()]
    assert lines == keys


def test_an_empty_stack_gives_an_empty_set_that_restores(valkey_cluster: Lab, tmp_path: Path) -> None:
    backup = backed_up(valkey_cluster.target(), tmp_path)
    assert backup.metadata.keys == 0
    assert restored(backup, valkey_cluster.target()).restored == 0


def test_keys_that_expired_since_are_counted_and_not_brought_back(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SET", "soon", "x", "PX", 500), ("SET", "late", "x", "PX", 100_000)])
        backup = backed_up(target, tmp_path)
        assert backup.metadata.keys == 2
        eventually(lambda: wire.call("EXISTS", "soon") == 0)
        wipe(router)
        wire.call("SET", "soon", "written since")
        report = restored(backup, target, overwrite=True)
        assert (report.restored, report.expired) == (1, 1)
        assert wire.pipeline([("GET", "soon"), ("EXISTS", "late")]) == [b"written since", 1]
