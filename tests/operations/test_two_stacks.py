"""Two stacks with one directory and one profile: each BACKUP_NAME is a line of sets of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nights import Nights, Tiny, settings_for
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import SetId
from understudy.backup.take import take
from understudy.progress import Silent

Typed = Callable[..., subprocess.CompletedProcess[str]]
TODAY = datetime.now(UTC).replace(microsecond=0)


def taken(directory: Path, name: str, days_ago: int, tier: str | None = "daily") -> SetId:
    at = TODAY - timedelta(days=days_ago, minutes=1)
    nights = Nights(settings_for(directory), at)
    return take(
        [Tiny(nights)], LocalRepository(directory), None, "prd", Silent(), name=name, now=at, tier=tier  # type: ignore[list-item]
    ).backup.metadata.id  # fmt: skip


def test_latest_and_retention_keep_to_the_name(typed: Typed, tmp_path: Path) -> None:
    sets = {(name, days): taken(tmp_path, name, days) for name in ("shop", "forum") for days in (20, 10)}
    newest = taken(tmp_path, "forum", 1)
    safety = [taken(tmp_path, "safety", days, "safety") for days in (30, 20)]
    env = {"BACKUP_DIR": str(tmp_path), "ENV_PROFILE": "prd", "BACKUP_NAME": "shop"}

    def pruned() -> dict[str, str]:
        (place,) = json.loads(typed("prune", "--json", "--dry-run", env=env).stdout)["places"]
        return {row["id"]: row["reason"] for row in place["sets"] if not row["keep"]}

    first = typed("check", "latest", "--json", env=env)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["id"] == str(sets["shop", 10])
    assert set(pruned()) == {str(sets["shop", 20]), str(safety[0])}
    env["BACKUP_NAME"] = "forum"
    assert json.loads(typed("check", "latest", "--json", env=env).stdout)["id"] == str(newest)
    assert set(pruned()) == {str(sets["forum", 20]), str(sets["forum", 10]), str(safety[0])}
    env["BACKUP_NAME"] = "other"
    none = typed("check", "latest", env=env)
    assert none.returncode == 11
    assert "named 'other'" in none.stderr
    told = typed("check", str(newest), env=env)
    assert "this set is named forum, and BACKUP_NAME is other" in told.stderr
