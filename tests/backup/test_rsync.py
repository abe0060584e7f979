"""What is particular to rsync: its addresses, its refusals, and what is left when it is cut off."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rsyncd import Daemon, needs_rsync
from understudy.backup.repositories import open_repository
from understudy.backup.repositories.rsync import RsyncRepository, is_rsync
from understudy.backup.repository import Repository, find
from understudy.backup.set import SetId
from understudy.errors import NotAuthorisedError, NotFoundError, UnderstudyError, UnreachableError, UsageError

NOTHING = lambda _: None  # noqa: E731


def new_id(day: int) -> SetId:
    return SetId.new("stack-backup", "local", datetime(2026, 11, day, 1, 2, 3, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("backup@nas:/mnt/backups", True),
        ("backup-server:/mnt/backups/stack", True),
        ("nas.example.com:backups", True),
        ("rsync://nas/module/path", True),
        ("rsync://backup@nas:8730/module", True),
        ("root@[fe80::1]:/x", True),
        ("/mnt/backups", False),
        ("./odd:name", False),
        ("s3://bucket/prefix", False),
        ("-oProxyCommand=touch${IFS}x:/y", False),
        ("me@-oProxyCommand=x:/y", False),
        ("host:", False),
    ],
)
def test_addresses_are_told_apart_from_directories_and_options(text: str, is_one: bool) -> None:
    assert is_rsync(text) is is_one


def test_an_address_that_is_an_option_is_refused() -> None:
    with pytest.raises(UsageError, match="not like user@host:/path"):
        RsyncRepository("-oProxyCommand=x:/y")


def test_without_rsync_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="not installed here") as refusal:
        RsyncRepository("nas:/backups")
    assert "apt install rsync" in refusal.value.hint


@needs_rsync
@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("ro/x", NotAuthorisedError, "read only"),
        ("nope/x", NotFoundError, "no such module"),
        ("locked/x", NotAuthorisedError, "user or the password"),
        ("m/a/b/c", NotFoundError, "no such file or directory"),
    ],
)
def test_a_refusal_says_why(rsyncd: Daemon, tmp_path: Path, path: str, kind: type[UnderstudyError], says: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"x")
    with pytest.raises(kind, match=says) as refusal:
        open_repository(rsyncd.uri(path)).put(archive, new_id(1), NOTHING)
    assert refusal.value.hint


@needs_rsync
def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match="nobody listens"):
        RsyncRepository("rsync://127.0.0.1:1/m/x").sets()


@needs_rsync
def test_ssh_is_never_asked_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program stands for ssh: it notes how it was called, and runs the command here, as ssh does there."""
    shell = tmp_path / "ssh stand-in"
    shell.write_text(
        f'#!{sys.executable}\nimport os, sys\nopen({str(tmp_path / "called")!r}, "a").write(repr(sys.argv) + "\\n")\n'
        'words = sys.argv[sys.argv.index("nas") + 1:]\nos.execvp("sh", ["sh", "-c", " ".join(words)])\n'
    )
    shell.chmod(0o700)
    monkeypatch.setenv("RSYNC_RSH", f"'{shell}' -p 2222")
    archive = tmp_path / "archive"
    archive.write_bytes(os.urandom(100_000))
    repository: Repository = RsyncRepository(f"backup@nas:{tmp_path}/there")
    assert repository.sets() == []
    repository.put(archive, new_id(1), NOTHING)
    with repository.open(find(repository, "latest")) as stream:
        assert stream.read() == archive.read_bytes()
    (there,) = (tmp_path / "there").iterdir()
    assert there.stat().st_mode & 0o777 == 0o600
    called = (tmp_path / "called").read_text().splitlines()
    assert len(called) == 4
    for line in called:
        assert "'-p', '2222', '-oBatchMode=yes', '-oConnectTimeout=10'" in line
        assert "'-l', 'backup', 'nas'" in line


@needs_rsync
def test_only_the_set_that_is_named_is_deleted(rsyncd: Daemon, tmp_path: Path) -> None:
    repository = RsyncRepository(rsyncd.uri(f"m/{tmp_path.name}"))
    archive = tmp_path / "archive"
    archive.write_bytes(b"x" * 1000)
    for day in (1, 2):
        repository.put(archive, new_id(day), NOTHING)
    there = rsyncd.folder / tmp_path.name
    (there / "somebody-else's").write_text("stays")
    (there / "folder").mkdir()
    (there / "folder" / "inside").write_text("stays")
    repository.delete(find(repository, "latest"))
    assert [one.id.created.day for one in repository.sets()] == [1]
    assert (there / "somebody-else's").exists()
    assert (there / "folder" / "inside").exists()


@needs_rsync
def test_what_lies_there_damaged_is_replaced_also_with_the_same_size_and_time(rsyncd: Daemon, tmp_path: Path) -> None:
    repository = RsyncRepository(rsyncd.uri(f"m/{tmp_path.name}"))
    archive = tmp_path / "archive"
    archive.write_bytes(b"right" * 1000)
    set_id = new_id(1)
    repository.put(archive, set_id, NOTHING)
    (there,) = (rsyncd.folder / tmp_path.name).iterdir()
    there.write_bytes(b"wrong" * 1000)
    os.utime(there, (archive.stat().st_atime, archive.stat().st_mtime))
    repository.put(archive, set_id, NOTHING)
    assert there.read_bytes() == archive.read_bytes()
