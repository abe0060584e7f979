"""What is left of a set must not let whole ones be deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from planted import planted
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX
from understudy.operations.audit import Audit
from understudy.operations.prune import prune
from understudy.operations.retention import Policy
from understudy.progress import Silent

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize("damage", ["removed", "cut short", "none"])
def test_a_set_that_lost_files_is_not_the_newest_good_one(tmp_path: Path, damage: str) -> None:
    whole = planted(tmp_path, datetime(2026, 10, 1, 2, tzinfo=UTC), "daily")
    newest = planted(tmp_path, datetime(2026, 11, 20, 2, tzinfo=UTC), "daily")
    dump = tmp_path / str(newest) / "postgres" / "app.dump"
    if damage != "none":
        (tmp_path / f"{newest}{ARCHIVE_SUFFIX}").unlink()
    if damage == "removed":
        dump.unlink()
    elif damage == "cut short":
        dump.write_bytes(dump.read_bytes()[:-1])
    pruned = prune(
        "local", LocalRepository(tmp_path), Policy("local", {"daily": 7}), NOW, (), Audit(tmp_path), Silent(),
        newest_failed=False,
    )  # fmt: skip
    assert pruned.deleted == ((whole,) if damage == "none" else ())
    assert (tmp_path / str(whole)).is_dir() == (damage != "none")
