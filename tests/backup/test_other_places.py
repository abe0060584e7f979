"""Sets are listed, checked and restored straight from any place that copies go to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import Typed
from understudy.backup.repositories import open_repository
from understudy.backup.repositories.objectstore import ObjectStoreRepository
from understudy.backup.repositories.rsync import RsyncRepository
from understudy.errors import UnreachableError, UsageError
from understudy.lab import Lab
from understudy.lab.sample import fill, wipe
from understudy.valkey.router import Router


def test_a_lost_machine_is_restored_from_a_directory(typed: Typed, valkey_standalone: Lab, tmp_path: Path) -> None:
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(tmp_path / "sets")}
    nas = tmp_path / "nas"
    nas.mkdir()
    with Router(valkey_standalone.target()) as router:
        wipe(router)
        fill(router, 50)
        done = typed("backup", "--s3-uri", str(nas), env=env)
        assert done.returncode == 0, done.stderr
        assert f"Uploaded: {nas}/" in done.stdout
        shutil.rmtree(tmp_path / "sets")
        wipe(router)
    env["S3_URI"] = str(nas)
    (one,) = json.loads(typed("list", "--json", env=env).stdout)
    assert one["components"] == ["redis"]
    assert typed("check", "--from-s3", "latest", env=env).returncode == 0
    restored = typed("restore", "--from-s3", one["id"], env=env)
    assert restored.returncode == 0, restored.stderr
    assert "restored=58" in restored.stdout
    elsewhere = {**env, "S3_URI": ""}
    same = typed("verify", "--full", "--from-s3", "latest", "--s3-uri", str(nas), env=elsewhere)
    assert (same.returncode, same.stdout.split("compared=")[1]) == (0, "58\n"), same.stderr
    for words in (("--s3-uri", str(nas)), ("--from-s3", "latest", "some-set"), ("--from-s3", "latest", "--at", "1")):
        assert typed("verify", *words, env=env).returncode == 2
    assert typed("rehearse", "--from-s3", "latest", env=env).returncode == 0
    assert [path.name for path in nas.iterdir() if path.suffix == ".gz"] == [f"{one['id']}.tar.gz"]


def test_a_place_that_is_not_there_is_not_made(typed: Typed, tmp_path: Path) -> None:
    for words in (("list",), ("check", "--from-s3", "latest"), ("upload",)):
        done = typed(*words, env={"S3_URI": str(tmp_path / "not" / "mounted"), "BACKUP_DIR": str(tmp_path / "sets")})
        assert done.returncode == 10
        assert "Is it mounted?" in done.stderr
    assert not (tmp_path / "not").exists()


def test_a_place_is_what_its_name_says(tmp_path: Path) -> None:
    for place in ("nas:/sets", "backup@nas:/sets", "rsync://nas/sets"):
        assert isinstance(open_repository(place), RsyncRepository)
    assert isinstance(open_repository("gs://x/y"), ObjectStoreRepository)
    for place in ("ftp://x", "s3://"):
        with pytest.raises(UsageError):
            open_repository(place)
    for place in ("bucket/prefix", "/nowhere/at/all", str(tmp_path / "x")):
        with pytest.raises(UnreachableError):
            open_repository(place)
