"""A clock that was wrong, or slept, makes no set look older, newer or safer than it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nights import Nights, Tiny, settings_for
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import SetId
from understudy.backup.take import take
from understudy.operations.audit import Audit
from understudy.operations.tier import Tier
from understudy.progress import Silent

Typed = Callable[..., subprocess.CompletedProcess[str]]
TODAY = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def taken(directory: Path, days_ago: float, tier: str | None = "daily") -> SetId:
    at = TODAY - timedelta(days=days_ago, minutes=1)
    nights = Nights(settings_for(directory), at)
    return take(
        [Tiny(nights)], LocalRepository(directory), None, "prd", Silent(), name="stack", now=at, tier=tier  # type: ignore[list-item]
    ).backup.metadata.id  # fmt: skip


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKUP_DIR", str(tmp_path / "sets"))
    monkeypatch.setenv("ENV_PROFILE", "prd")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sets"


def test_a_set_of_the_future_protects_nothing_and_is_not_latest(typed: Typed, sets: Path) -> None:
    newest = [taken(sets, days) for days in (20, 15, 11)][-1]
    future = taken(sets, -1800)
    done = typed("prune", "--json")
    assert done.returncode == 0, done.stderr
    (place,) = json.loads(done.stdout)["places"]
    assert len(place["deleted"]) == 2
    kept = {row["id"]: row["reason"] for row in place["sets"] if row["keep"]}
    assert "but the newest good daily set" in kept[str(newest)]
    assert "after now: was the clock wrong" in kept[str(future)]

    checked = typed("check", "latest")
    assert checked.returncode == 0
    assert str(newest) in checked.stdout
    assert f"Warning: {future} is dated after now" in checked.stderr
    assert str(future) in typed("check", str(future)).stdout, "by its name it can be had"
    items = json.loads(typed("health-check", "--json").stdout)["items"]
    assert {one["name"] for one in items if one["state"] == "bad"} >= {"clock", "daily", "sets"}
    assert "dated" in next(one["text"] for one in items if one["name"] == "daily")


def test_where_there_is_no_other_latest_is_one_of_the_future(typed: Typed, sets: Path) -> None:
    """A machine in an emergency may think that it is 2000: its sets must come back all the same."""
    future = taken(sets, -3, None)
    done = typed("check", "latest")
    assert done.returncode == 0
    assert str(future) in done.stdout
    assert "for there is no other" in done.stderr


def test_after_a_pause_longer_than_the_retention_nothing_is_deleted(typed: Typed, sets: Path) -> None:
    """The clock jumps ahead a year, or the machine sleeps: all sets look too old at once."""
    when = TODAY - timedelta(days=360)
    nights = Nights(settings_for(sets), when)
    for number in range(3):
        nights.now = when + number * DAY
        nights.run(Tier.DAILY)
    nights.now = TODAY - timedelta(minutes=1)
    ran = nights.run(Tier.DAILY)
    assert ran.pruned[0].deleted == ()
    dry = typed("prune", "--dry-run")
    assert dry.stdout.count("nothing was done from") == 3, dry.stdout
    assert "0 would be deleted" in dry.stdout
    # so it stays for the days of the tier, and then all goes its way
    for number in range(1, 9):
        nights.now = TODAY + number * DAY - timedelta(minutes=2)
        ran = nights.run(Tier.DAILY)
        assert bool(ran.pruned[0].deleted) == (number > 7)
    assert len(ran.pruned[0].deleted) == 3 + 1


def test_a_full_disk_is_no_dead_end(typed: Typed, sets: Path) -> None:
    old, newer = taken(sets, 12), taken(sets, 10)
    with pytest.raises(OSError), Audit(sets).recorded("backup", tier="daily"):
        raise OSError(28, "No space left on device")
    refused = typed("prune")
    assert "0 deleted" in refused.stdout
    dry = typed("prune", "--despite-failure", "--dry-run")
    assert f"would delete  {old}" in dry.stdout
    done = typed("prune", "--despite-failure")
    assert done.returncode == 0, done.stderr
    assert not (sets / str(old)).exists()
    assert (sets / str(newer)).exists(), "the newest good one stays"
