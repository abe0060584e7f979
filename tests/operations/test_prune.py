"""`understudy prune`, here and in an object store: what it says, deletes, and leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nights import Nights, Tiny, begun, settings_for
from s3 import BUCKET, S3Server
from understudy.backup.repositories import open_repository
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX
from understudy.backup.set import METADATA, SetId
from understudy.backup.take import take
from understudy.errors import UnreachableError
from understudy.operations.audit import Audit
from understudy.operations.deeds import deeds
from understudy.operations.lock import held
from understudy.progress import Silent

Typed = Callable[..., subprocess.CompletedProcess[str]]
NOW = datetime.now(UTC).replace(microsecond=0)


def taken(directory: Path, days_ago: int, tier: str | None = "daily", name: str = "stack") -> SetId:
    """Take a set that many days ago."""
    at = NOW - timedelta(days=days_ago, minutes=1)
    nights = Nights(settings_for(directory), at)
    return take(
        [Tiny(nights)], LocalRepository(directory), None, "prd", Silent(), name=name, now=at, tier=tier  # type: ignore[list-item]
    ).backup.metadata.id  # fmt: skip


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with sets, of which two dailies and one weekly are too old."""
    directory = tmp_path / "sets"
    for days in (0, 6, 7, 8):
        taken(directory, days)
    for days in (3, 31):
        taken(directory, days, "weekly")
    taken(directory, 400, None)
    taken(directory, 500, "monthly")
    monkeypatch.setenv("BACKUP_DIR", str(directory))
    monkeypatch.setenv("ENV_PROFILE", "prd")
    monkeypatch.chdir(tmp_path)
    return directory


def ages(place: str | Path) -> list[int]:
    return sorted((NOW - created).days for created in begun(place))


def test_a_dry_run_explains_every_set_in_a_line_and_deletes_nothing(typed: Typed, sets: Path) -> None:
    done = typed("prune", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "local: 8 sets, 3 would be deleted"
    assert len(lines) == 9
    assert sum(line.startswith("  would delete") for line in lines) == 3
    assert "taken by hand" in done.stdout
    assert "the newest good monthly set" in done.stdout
    assert len(begun(sets)) == 8
    assert not (sets / "audit.jsonl").exists()


def test_old_sets_are_deleted_here_and_in_every_place_alike(typed: Typed, sets: Path, s3_env: S3Server) -> None:
    uri = f"s3://{BUCKET}/pruned"
    remote = open_repository(uri)
    for archive in sets.glob(f"*{ARCHIVE_SUFFIX}"):
        remote.put(archive, SetId.parse(archive.name.removesuffix(ARCHIVE_SUFFIX)), lambda _: None)
    assert len(begun(uri)) == 8
    done = typed("prune", "--json", env={"S3_URI": uri})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["places"]
    assert [(one["place"], len(one["deleted"])) for one in found] == [("local", 3), (uri, 3)]
    assert ages(sets) == ages(uri) == [0, 3, 6, 400, 500]
    deleted = [deed for deed in deeds(Audit(sets).entries()) if deed.action == "prune"]
    assert [deed.outcome for deed in deleted] == ["ok"] * 6
    assert [deed.set for deed in deleted[:3]] == sorted(str(deed.set) for deed in deleted[:3])  # oldest first
    again = typed("prune", env={"S3_URI": uri})
    assert [line.partition(", ")[2] for line in again.stdout.splitlines()] == ["0 deleted"] * 2


def test_nothing_is_deleted_after_a_run_that_failed_or_never_ended(typed: Typed, sets: Path) -> None:
    with pytest.raises(UnreachableError), Audit(sets).recorded("backup", tier="weekly"):
        raise UnreachableError("asking", "nobody answers")
    done = typed("prune")
    assert (done.returncode, done.stdout) == (0, "local: 8 sets, 0 deleted\n")
    assert "the newest run failed" in typed("prune", "--dry-run").stdout
    with Audit(sets).recorded("backup", tier="daily"):
        pass
    assert "local: 8 sets, 3 deleted" in typed("prune").stdout


@pytest.mark.parametrize(("profile", "deleted"), [("dev", 3), ("prd", 0), (None, 0)])
def test_a_failed_run_of_another_profile_keeps_nothing_here(sets: Path, profile: str | None, deleted: int) -> None:
    from understudy.operations.prune import prune_settings

    with pytest.raises(UnreachableError), Audit(sets, profile=profile).recorded("backup", tier="weekly"):
        raise UnreachableError("asking", "nobody answers")
    [pruned] = prune_settings(settings_for(sets), [], Silent())
    assert len(pruned.deleted) == deleted
    assert {deed.profile for deed in deeds(Audit(sets).entries()) if deed.action == "prune"} <= {"prd"}


def test_what_cannot_be_read_is_named_and_kept(typed: Typed, sets: Path) -> None:
    folders = sorted(path for path in sets.glob("stack-*") if path.is_dir())
    oldest, newest = folders[0], folders[-1]
    for folder in (oldest, newest):
        (folder / METADATA).write_bytes(b"{}")
    done = typed("prune", "--dry-run")
    assert done.stdout.count("damaged: check it again") == 2
    # the newest daily is not good, so another one is the newest good of its tier; the old ones go all the same
    assert typed("prune").returncode == 0
    assert {oldest, newest} <= set(sets.iterdir())


def test_a_set_that_cannot_be_deleted_is_told_and_the_others_go(
    typed: Typed, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.errors import IncompleteError
    from understudy.operations.prune import prune_settings, raise_failures

    plain = LocalRepository.delete
    stuck = min(
        (one for one in LocalRepository(sets).sets() if (NOW - one.id.created).days == 31), key=lambda one: one.id
    )

    def delete(self: LocalRepository, stored: object) -> None:
        if stored.id == stuck.id:  # type: ignore[attr-defined]
            raise PermissionError(13, "Permission denied")
        plain(self, stored)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalRepository, "delete", delete)
    results = prune_settings(settings_for(sets), [], Silent())
    assert ages(sets) == [0, 3, 6, 31, 400, 500]
    with pytest.raises(IncompleteError) as told:
        raise_failures(results)
    assert told.value.items == [f"{stuck.id} in local: Permission denied"]


def test_a_place_that_does_not_answer_is_told_and_the_others_are_pruned(typed: Typed, sets: Path) -> None:
    done = typed("prune", env={"BACKUP_OFFSITE": "/dev/null/nas", "S3_URI": ""})
    assert done.returncode == 10
    assert "/dev/null/nas" in done.stderr
    assert ages(sets) == [0, 3, 6, 400, 500]


def test_a_run_at_work_is_not_disturbed(typed: Typed, sets: Path) -> None:
    with held(sets, "the daily run", NOW):
        done = typed("prune")
        assert done.returncode == 14
        assert f"the daily run (process {os.getpid()}" in done.stderr
        assert typed("prune", "--dry-run").returncode == 0
    assert len(begun(sets)) == 8


def test_safety_sets_have_days_of_their_own(typed: Typed, sets: Path) -> None:
    for days in (2, 8, 9):
        taken(sets, days, "safety", "safety")
    assert typed("prune", env={"BACKUP_SAFETY_RETENTION": "8"}).returncode == 0
    assert [(NOW - one.id.created).days for one in LocalRepository(sets).sets() if one.id.name == "safety"] == [2]


def test_a_rehearsal_of_a_part_proves_no_set(typed: Typed, sets: Path) -> None:
    ids = {(NOW - one.id.created).days: one.id for one in LocalRepository(sets).sets()}
    for components in ((), ("redis",)):
        with Audit(sets).recorded("rehearse", set=str(ids[8]), components=components or ("postgres",)):
            pass
        kept = "the last set that a rehearsal passed" in typed("prune", "--dry-run").stdout
        assert kept == bool(components), "the set holds redis"


def test_a_place_of_copies_that_is_the_directory_itself_is_no_place(typed: Typed, sets: Path) -> None:
    env = {"BACKUP_OFFSITE": f"{sets}/../{sets.name}/."}
    before = ages(sets)
    assert typed("prune", env=env).returncode == 2
    items = json.loads(typed("health-check", "--json", env=env).stdout)["items"]
    offsite = next(item for item in items if item["name"] == "offsite")
    assert offsite["state"] == "bad"
    assert "is BACKUP_DIR itself" in offsite["text"]
    assert ages(sets) == before
