"""What is left of a set must not let whole ones be deleted; and a set that is being restored stays."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from planted import planted
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX
from understudy.backup.restore import opened
from understudy.errors import RefusedError
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


def test_a_set_that_is_being_read_is_not_deleted(tmp_path: Path) -> None:
    old = planted(tmp_path, datetime(2026, 10, 1, 2, tzinfo=UTC), "daily")
    planted(tmp_path, datetime(2026, 11, 20, 2, tzinfo=UTC), "daily")
    local, audit = LocalRepository(tmp_path), Audit(tmp_path)

    def deleted() -> tuple[object, ...]:
        policy = Policy("local", {"daily": 7})
        pruned = prune("local", local, policy, NOW, (), audit, Silent(), newest_failed=False)
        assert not pruned.failures
        return pruned.deleted

    with opened(str(old), local, None, Silent()) as backup:
        assert deleted() == ()
        with pytest.raises(RefusedError, match="being read"):
            local.delete(local.sets()[1])
        assert (backup.directory / "postgres" / "app.dump").is_file()
    assert deleted() == (old,)
