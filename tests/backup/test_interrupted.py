"""`kill -9` at any moment: a set is whole or not listed, and a restore that broke off completes when run again."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from s3 import BUCKET, S3Server
from support import backed_up, digests, eventually, started
from understudy.backup.check import check
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.lab import Lab
from understudy.lab.sample import fill, wipe
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.target import Target

KEYS = 6000


def env(running: Lab, directory: Path) -> dict[str, str]:
    return {**running.env(), "BACKUP_DIR": str(directory)}


def killed_after(seconds: float, *words: str, env: dict[str, str]) -> bool:
    """Start a command and kill it after so many seconds; tell whether it had ended by itself before."""
    process = started(*words, env=env)
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    finished = process.poll() is not None
    process.kill()
    process.communicate()
    return finished


def taking_s(*words: str, env: dict[str, str]) -> float:
    """How long the command takes when nobody disturbs it."""
    begun = time.monotonic()
    process = started(*words, env=env)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    return time.monotonic() - begun


def kill_backups(running: Lab, directory: Path, times: int, chance: random.Random) -> tuple[int, int]:
    """Kill so many backups at random moments; return how many ended before, and how many sets there are."""
    environment = env(running, directory)
    whole_s = taking_s("backup", env=environment)
    ended = 0
    local = LocalRepository(directory)
    for _ in range(times):
        ended += killed_after(chance.uniform(0, whole_s * 1.1), "backup", env=environment)
        for stored in local.sets():
            backup = BackupSet.open(directory / str(stored.id))
            assert check(backup, Silent()) == KEYS + 8
    # what the dead left behind is swept by the next backup, which is not disturbed by it
    eventually(lambda: taking_s("backup", env=environment) > 0)
    eventually(lambda: not list(directory.glob(".partial-*")))
    return ended, len(local.sets())


def kill_restores(target: Target, running: Lab, directory: Path, times: int, chance: random.Random) -> int:
    """Kill so many restores at random moments, run each again, and compare; return how many were cut short."""
    environment = env(running, directory)
    before = digests(target)
    with Router(target) as router:
        wipe(router)
        whole_s = taking_s("restore", "latest", env=environment)
        cut = 0
        for _ in range(times):
            wipe(router)
            cut += not killed_after(chance.uniform(0, whole_s * 1.1), "restore", "latest", env=environment)
            taking_s("restore", "latest", env=environment)
            assert digests(target) == before
    return cut


def test_a_killed_backup_leaves_the_old_sets_and_nothing_else(valkey_cluster: Lab, tmp_path: Path) -> None:
    with Router(valkey_cluster.target()) as router:
        fill(router, KEYS)
    ended, sets = kill_backups(valkey_cluster, tmp_path, 3, random.Random(5))
    assert sets >= 2 + ended


def test_a_killed_restore_completes_when_it_is_run_again(valkey_cluster: Lab, tmp_path: Path) -> None:
    target = valkey_cluster.target()
    with Router(target) as router:
        fill(router, KEYS)
    backed_up(target, tmp_path, chunk_keys=1000)
    assert kill_restores(target, valkey_cluster, tmp_path, 2, random.Random(11)) > 0  # at 5 and at 6 tenths


@pytest.mark.soak
def test_fifty_killed_backups(valkey_cluster: Lab, tmp_path: Path) -> None:
    with Router(valkey_cluster.target()) as router:
        fill(router, KEYS)
    ended, sets = kill_backups(valkey_cluster, tmp_path, 50, random.Random(7))
    assert ended < 50
    assert sets >= 2 + ended


@pytest.mark.soak
def test_fifty_killed_restores(valkey_cluster: Lab, tmp_path: Path) -> None:
    target = valkey_cluster.target()
    with Router(target) as router:
        fill(router, KEYS)
    backed_up(target, tmp_path, chunk_keys=500)
    assert kill_restores(target, valkey_cluster, tmp_path, 50, random.Random(8)) > 10


@pytest.mark.parametrize(("number", "says"), [(signal.SIGINT, "Interrupted"), (signal.SIGHUP, "Terminated")])
def test_ctrl_c_and_a_terminal_that_closes_end_a_backup_cleanly(
    valkey_cluster: Lab, tmp_path: Path, number: signal.Signals, says: str
) -> None:
    with Router(valkey_cluster.target()) as router:
        fill(router, KEYS)
    inherited = signal.signal(number, signal.SIG_DFL)  # under nohup, or in the background of a shell, it is ignored
    try:
        process = started("backup", "--max-rate", "2000", env=env(valkey_cluster, tmp_path))
    finally:
        signal.signal(number, inherited)
    eventually(lambda: list(tmp_path.glob(".partial-*/*/*.jsonl")))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert says in said
    assert "Traceback" not in said
    assert not [path.name for path in tmp_path.iterdir() if path.is_dir() or path.suffix == ".gz"]


def test_ctrl_c_ends_an_upload_that_does_not_move(valkey_standalone: Lab, s3: S3Server, tmp_path: Path) -> None:
    with Router(valkey_standalone.target()) as router:
        fill(router, 500)
    environment = {**env(valkey_standalone, tmp_path), **s3.env, "S3_URI": f"s3://{BUCKET}/interrupted"}
    s3.process.send_signal(signal.SIGSTOP)
    try:
        process = started("backup", env=environment)
        eventually(lambda: list(tmp_path.glob("redis-backup-*.tar.gz")))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        s3.process.send_signal(signal.SIGCONT)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert len(LocalRepository(tmp_path).sets()) == 1  # the local set was whole by then, and stays
