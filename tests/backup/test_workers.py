"""How many workers a restore and a comparison take, and what each gets."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from support import backed_up, digests
from understudy import lab
from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.set import FileEntry
from understudy.backup.verify import verify
from understudy.backup.workers import jobs_for, shares
from understudy.lab import Lab
from understudy.progress import Silent
from understudy.valkey.router import Router


@pytest.mark.parametrize(
    ("parts", "keys", "size", "jobs"),
    [
        (0, 0, 0, 1), (8, 100, 9_000, 1), (8, 250, 9_000, 1), (8, 251, 9_000, 2), (8, 1_000, 9_000, 4),
        (8, 1, 2 << 20, 4), (2, 100_000, 1 << 30, 2),
    ],
)  # fmt: skip
def test_a_worker_is_started_only_for_what_is_worth_it(
    parts: int, keys: int, size: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    entries = [FileEntry(f"part-{number}", size, "", keys) for number in range(parts)]
    assert jobs_for(entries) == jobs
    found = shares(entries)
    assert len(found) == jobs
    assert [entry for share in found for entry in share] == entries
    assert all(found) or not entries


def test_what_several_restore_and_compare_is_whole(valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    with Router(target) as router:
        router.execute([(None, ("SET", f"key:{number}", f"{number}")) for number in range(2_500)])
    before = digests(target)
    backup = backed_up(target, tmp_path, chunk_keys=500)
    assert jobs_for(backup.parts()) >= 2
    valkey_standalone.call("node-1", "FLUSHALL")
    with contextlib.closing(RedisComponent(target)) as component:
        assert component.restore(backup, RestoreOptions(), Silent()).restored == 2_500
    assert digests(target) == before
    found = verify(backup, target, Silent(), sample=None)
    assert (found.compared, found.missing, found.value_mismatch, found.extra) == (2_500, 0, 0, 0)


def test_a_worker_compares_its_own_values_and_no_others(valkey_standalone: Lab, tmp_path: Path) -> None:
    """What differs byte by byte is settled by a scratch server, which all workers ask at the same time."""
    target = valkey_standalone.target()
    changed = range(0, 2_500, 25)
    with Router(target) as router:
        router.execute([(None, ("HSET", f"h:{n}", "name", f"{n}", "plan", "basic")) for n in range(2_500)])
    backup = backed_up(target, tmp_path, chunk_keys=250)
    assert jobs_for(backup.parts()) >= 2
    with lab.standalone() as other, contextlib.closing(RedisComponent(other.target())) as component:
        other.call("node-1", "CONFIG", "SET", "hash-max-listpack-entries", "0")  # every payload is another there
        component.restore(backup, RestoreOptions(), Silent())
        component.router.execute([(None, ("HSET", f"h:{n}", "name", "other")) for n in changed])
        found = verify(backup, other.target(), Silent(), sample=None)
    assert (found.compared, found.missing, found.value_mismatch, found.unsure) == (2_500, 0, len(changed), 0)
