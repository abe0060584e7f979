"""Servers of other versions, in clusters too; every type and every pair of versions is in `test_matrix.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import backed_up, digests, names
from understudy import lab
from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.restore import restore
from understudy.errors import RefusedError
from understudy.lab import Lab
from understudy.lab.sample import fill
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from versions import older


def values(target: Target) -> dict[bytes, object]:
    """Digests, but scores themselves for sorted sets: servers print them differently into a digest."""
    with Router(target) as router:
        zsets = [name for name in names(router) if b":zset" in name or b":geo" in name]
        scores = router.execute([(key_slot(key), ("ZRANGE", key, 0, -1, "WITHSCORES")) for key in zsets]).values
    rows = [[(m, float(s)) for m, s in zip(one[::2], one[1::2], strict=True)] for one in scores]
    return {**digests(target), **dict(zip(zsets, rows, strict=True))}


def test_what_an_older_server_cannot_hold_is_refused_by_name_and_nothing_is_written(
    valkey_cluster: Lab, tmp_path: Path
) -> None:
    with Router(valkey_cluster.target()) as router:
        fill(router, 100)
    backup = backed_up(valkey_cluster.target(), tmp_path)
    with lab.standalone(server=older("7.0")) as old:
        component = RedisComponent(old.target())
        with pytest.raises(RefusedError) as refusal:
            restore(backup, [component], RestoreOptions(), Silent())
        component.close()
        assert refusal.value.exit_code == 14
        assert "to redis 7.0" in str(refusal.value)
        assert any("(hash): the expiry of its fields" in item for item in refusal.value.items)
        assert refusal.value.of == len(refusal.value.items) > 0
        with Router(old.target()) as router:
            assert names(router) == []


@pytest.mark.parametrize("version", ["6.2", "7.0"])
def test_an_older_server_is_backed_up_and_restored_to_a_newer_one(
    version: str, valkey_cluster: Lab, tmp_path: Path
) -> None:
    with lab.standalone(server=older(version)) as old:
        with Router(old.target()) as router:
            written = fill(router, 400)
        backup = backed_up(old.target(), tmp_path)
        before = values(old.target())
    assert backup.metadata.keys == written == len(before)
    component = RedisComponent(valkey_cluster.target())
    report = restore(backup, [component], RestoreOptions(), Silent())["redis"]
    component.close()
    assert (report.restored, report.failed) == (written, 0)
    assert values(valkey_cluster.target()) == before


def test_an_older_cluster_is_backed_up_slot_by_slot(tmp_path: Path) -> None:
    with lab.cluster(replicas=0, server=older("6.2")) as old:
        with Router(old.target()) as router:
            written = fill(router, 400)
        backup = backed_up(old.target(), tmp_path)
    assert backup.metadata.keys == written
    assert backup.metadata.components["redis"]["slots"]["covered"] == 16384
