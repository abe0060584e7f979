"""`understudy archive` at the command line: what a user reads, how it ends, and what is there after it was killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiving import ROOT, infos, last_second, windows
from conftest import Typed
from support import eventually, started
from understudy import lab
from understudy.backup.pitr.lease import LOCK, Holder, Lease, is_over
from understudy.backup.pitr.objects import LocalObjects
from understudy.errors import RefusedError
from understudy.lab import Lab
from understudy.valkey.wire import Wire


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    """One server for the tests of this file, with a password."""
    with lab.standalone(password="archive's secret") as found:
        yield found


@pytest.fixture
def env(server: Lab, tmp_path: Path) -> dict[str, str]:
    """It and a repository of the test's own."""
    return {**server.env(), "BACKUP_DIR": str(tmp_path / "backups"), "ARCHIVE_EVERY": "0.3"}


@contextlib.contextmanager
def running(*words: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The command at work; killed at the end of the block if it still is."""
    process = started("archive", *words, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_killed_and_started_again_it_says_so_and_terminated_it_ships_what_is_new(
    typed: Typed, env: dict[str, str], server: Lab
) -> None:
    objects = LocalObjects(Path(env["BACKUP_DIR"]))
    with running(env=env) as first:
        eventually(lambda: last_second(objects))
        refused = typed("archive", env=env)
        assert refused.returncode == 14
        assert f"process {first.pid} on" in refused.stderr
        first.send_signal(signal.SIGKILL)

    with running("--metrics-port", "0", env=env) as second:
        eventually(lambda: len(infos(objects)) == 2)
        before, begun = infos(objects)
        assert begun.gap is not None
        assert begun.gap.why == "the archiver was restarted"
        eventually(lambda: last_second(objects) * 1000 > begun.begins_ms)
        second.send_signal(signal.SIGTERM)
        out, err = second.communicate(timeout=60)
        code = second.returncode
    assert (code, err) == (0, "")
    assert "shard-1: archiving" in out
    assert "Ended: 1 shard, restorable until" in out
    assert server.options.password not in out
    found = windows(objects)
    assert [gap.why for gap in found.gaps] == [("the archiver was restarted",)]
    assert (begun.gap.from_ms or 0) // 1000 - 1 == found.spans[0].last
    assert before.id != begun.id
    assert not [path for path in objects.sizes(ROOT) if path == LOCK]
    left = [path.name for path in Path(env["BACKUP_DIR"]).iterdir()]
    assert sorted(left) == [".lock", "archive", "audit.head", "audit.jsonl"]


def test_it_ends_after_the_time_that_was_asked_for_and_ships_what_is_new(typed: Typed, env: dict[str, str]) -> None:
    done = typed("archive", "--for", "4s", "--every", "1h", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.time() - 4 < last_second(LocalObjects(Path(env["BACKUP_DIR"]))) < time.time()


def test_a_user_without_the_rights_of_a_replica_is_told_which(typed: Typed, env: dict[str, str], server: Lab) -> None:
    with Wire(server.target().seeds[0], server.target()) as wire:
        wire.call("ACL", "SETUSER", "archive", "on", ">password", "+info", "+time", "+ping")
    done = typed("archive", "--for", "4s", env={**env, "REDIS_USERNAME": "archive", "REDIS_PASSWORD": "password"})
    assert done.returncode == 13
    assert "NOPERM" in done.stderr
    assert "+psync +replconf" in done.stderr
    assert "of some shards nothing was archived" in done.stderr


@pytest.mark.parametrize(
    ("words", "more", "code", "told"),
    [
        (("--s3-uri", "host:/path"), {}, 2, "rsync is for whole sets"),
        (("--s3-uri", "nowhere/at/all"), {}, 10, "there is no such directory"),
        ((), {"REDIS_MODE": "enterprise"}, 2, "no replica can be attached"),
        (("--every", "soon"), {}, 2, "not a number and a unit"),
        (("--keep-days", "0"), {}, 2, "ARCHIVE_KEEP_DAYS"),
        ((), {"REDIS_NODES": "127.0.0.1:9"}, 10, "127.0.0.1:9"),
        ((), {"REDIS_PASSWORD": "another"}, 10, "WRONGPASS"),
        ((), {"BACKUP_NAME": "a/b"}, 2, "BACKUP_NAME"),
    ],
)
def test_what_cannot_be_archived_is_refused_with_a_next_step(
    typed: Typed, env: dict[str, str], words: tuple[str, ...], more: dict[str, str], code: int, told: str
) -> None:
    done = typed("archive", *words, env={**env, **more})
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Try: " in done.stderr


def test_one_archiver_at_a_time_and_a_dead_ones_lock_holds_no_more(tmp_path: Path) -> None:
    objects, now = LocalObjects(tmp_path), [1000.0]
    first = Lease(objects, ROOT, lambda: now[0], "here")
    first.take()
    with pytest.raises(RefusedError, match="writes to it, and said so 20 s ago"):
        now[0] += 20
        Lease(objects, ROOT, lambda: now[0], "there").take()
    first.renew()
    now[0] += 59
    with pytest.raises(RefusedError):
        Lease(objects, ROOT, lambda: now[0], "there").take()
    now[0] += 2
    second = Lease(objects, ROOT, lambda: now[0], "there")
    second.take()
    with pytest.raises(RefusedError, match="going on with the archive"):
        first.renew()
    first.release()
    second.renew()
    second.release()
    assert objects.sizes(ROOT) == {}


def test_a_lock_of_a_process_that_is_gone_is_over_at_once_on_its_own_machine(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    Lease(objects, ROOT).take()
    mine = Holder.decode(objects.get(f"{ROOT}/{LOCK}"))
    assert mine is not None
    gone = Holder(mine.token, mine.host, mine.pid, mine.started + "1", mine.renewed_ms)
    assert not is_over(mine, mine.host, mine.renewed_ms + 1)
    assert is_over(gone, mine.host, mine.renewed_ms + 1)
    assert not is_over(gone, "another", mine.renewed_ms + 1)
    other_boot = Holder(mine.token, mine.host, mine.pid, "x" + gone.started, mine.renewed_ms)
    assert not is_over(other_boot, mine.host, mine.renewed_ms + 1)
    assert Holder.decode(b"half a doc") is None


def test_who_is_refused_the_lock_does_not_say_first_that_it_archives(typed: Typed, env: dict[str, str]) -> None:
    Lease(LocalObjects(Path(env["BACKUP_DIR"])), ROOT).take()
    done = typed("archive", env=env)
    assert (done.returncode, done.stdout) == (14, ""), done.stderr
