"""Slots in the states that clusters leave them in: half-way moved, crowded, full of big values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import backed_up
from understudy import lab
from understudy.backup.check import check
from understudy.backup.record import decode
from understudy.backup.set import BackupSet
from understudy.errors import IncompleteError
from understudy.lab import Lab
from understudy.progress import Silent
from understudy.valkey import keyspace
from understudy.valkey.keyspace import list_slots
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.topology import Node


@pytest.fixture
def cluster() -> Iterator[Lab]:
    with lab.cluster(replicas=0) as running:
        yield running


def keys_in(backup: BackupSet) -> list[bytes]:
    check(backup, Silent())
    return [key for entry in backup.parts() for key in decode((backup.directory / entry.path).read_bytes(), "").keys]


def half_moved(router: Router, slot: int, keys: list[bytes]) -> tuple[Node, Node]:
    """Write keys of a slot, begin to move it, and stop when half of them are on the other side."""
    router.execute([(slot, ("SET", key, "x")) for key in keys])
    source = router.topology.by_slot()[slot].primary
    goal = next(shard.primary for shard in router.topology.shards if shard.primary and shard.primary != source)
    assert source and goal
    here, there = router.wire(source.address), router.wire(goal.address)
    there.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
    here.call("CLUSTER", "SETSLOT", slot, "MIGRATING", goal.node_id)
    gone = here.call("CLUSTER", "GETKEYSINSLOT", slot, len(keys) // 2)
    here.call("MIGRATE", goal.address.host, goal.address.port, "", 0, 5000, "KEYS", *gone)
    return source, goal


def test_a_slot_that_is_half_way_moved_is_backed_up_whole(cluster: Lab, tmp_path: Path) -> None:
    keys = [b"{moving}:%d" % n for n in range(100)]
    with Router(cluster.target()) as router:
        half_moved(router, key_slot(b"moving"), keys)
        assert sorted(keys_in(backed_up(cluster.target(), tmp_path))) == sorted(keys)
        assert sorted(keys_in(backed_up(cluster.target(), tmp_path, match="*"))) == sorted(keys)


def test_a_slot_that_nobody_serves_is_refused_by_number(
    cluster: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = key_slot(b"lost")
    with Router(cluster.target()) as router:
        source = router.topology.by_slot()[slot].primary
        assert source
        router.wire(source.address).call("CLUSTER", "DELSLOTS", slot)
        monkeypatch.setattr(keyspace, "PATIENCE_S", 0.5)
        with pytest.raises(IncompleteError) as refusal:
            list(list_slots(router, range(16384)))
        assert refusal.value.items == [str(slot)]


def test_a_crowded_slot_is_backed_up_whole(cluster: Lab, tmp_path: Path) -> None:
    crowd = [b"{crowd}:%d" % n for n in range(keyspace.HUGE_SLOT_KEYS + 500)]
    others = [b"other:%d" % n for n in range(300)]
    with Router(cluster.target()) as router:
        for start in range(0, len(crowd), 10_000):
            router.execute([(key_slot(key), ("SET", key, "x")) for key in crowd[start : start + 10_000]])
        router.execute([(key_slot(key), ("SET", key, "x")) for key in others])
    assert sorted(keys_in(backed_up(cluster.target(), tmp_path))) == sorted(crowd + others)


def test_big_values_in_one_slot_are_fetched_within_the_budget(cluster: Lab, tmp_path: Path) -> None:
    keys = [b"{big}:%d" % n for n in range(60)]
    with Router(cluster.target()) as router:
        for key in keys:
            router.execute([(key_slot(key), ("SETRANGE", key, 300_000, "end"))])
    assert sorted(keys_in(backed_up(cluster.target(), tmp_path))) == sorted(keys)
    assert sorted(keys_in(backed_up(cluster.target(), tmp_path, match="{big}*"))) == sorted(keys)
