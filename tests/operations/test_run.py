"""`understudy schedule run` when things go wrong: clear words, the right exit code, old sets whole, the lock free."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receivers import http_receiver
from support import eventually, started
from understudy.backup.check import check
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.errors import RefusedError
from understudy.lab import Lab, standalone
from understudy.lab.sample import fill
from understudy.operations.audit import Audit
from understudy.operations.deeds import deeds
from understudy.operations.lock import LOCK, held, holder
from understudy.progress import Silent
from understudy.valkey.router import Router

Typed = Callable[..., subprocess.CompletedProcess[str]]
NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
KEYS = 3000


@pytest.fixture(scope="module")
def filled() -> Iterator[Lab]:
    with standalone(password="planted-password") as lab:
        with Router(lab.target()) as router:
            fill(router, KEYS)
        yield lab


@pytest.fixture
def env(filled: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {**filled.env(), "BACKUP_DIR": str(tmp_path / "sets")}


def whole(directory: Path, but: Collection[str] = ()) -> list[str]:
    """The sets that are listed, each of them read through, but for those that were before."""
    names = [str(one.id) for one in LocalRepository(directory).sets()]
    for name in names:
        if name not in but:
            check(BackupSet.open(directory / name), Silent())
    return names


def limited() -> None:
    """A disk that is full after 20 kB a file, for root too."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_run_takes_checks_copies_and_says_so(typed: Typed, env: dict[str, str], tmp_path: Path) -> None:
    env["BACKUP_OFFSITE"] = str(tmp_path / "nas")
    (tmp_path / "nas").mkdir()
    done = typed("schedule", "run", "daily", env=env)
    assert done.returncode == 0, done.stderr
    [name] = whole(tmp_path / "sets")
    assert BackupSet.open(tmp_path / "sets" / name).metadata.tier == "daily"
    assert [str(one.id) for one in LocalRepository(tmp_path / "nas").sets()] == [name]
    past = [(deed.action, deed.tier, deed.outcome, deed.set) for deed in deeds(Audit(tmp_path / "sets").entries())]
    assert past == [("backup", "daily", "ok", name), ("check", "daily", "ok", name)]
    assert "The daily run begins" in done.stderr
    assert "went well" in done.stderr
    assert "planted-password" not in done.stdout + done.stderr + (tmp_path / "sets" / "audit.jsonl").read_text()
    status = typed("schedule", "status", env=env)
    assert status.stdout.splitlines()[1].split()[:1] == ["daily"]
    assert " ok " in status.stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("wrong", "code", "says"),
    [
        ({"REDIS_NODES": "127.0.0.1:1", "REDIS_URL": ""}, 10, "127.0.0.1:1 (Connection refused)"),
        ({"REDIS_PASSWORD": "wrong-password"}, 10, "password"),
        ({"BACKUP_OFFSITE": "/dev/null/nas"}, 10, "The set is whole and usable here"),
        ({"BACKUP_OFFSITE": "not-mounted"}, 10, "Is it mounted?"),
    ],
)
def test_a_run_that_fails_says_why_and_leaves_the_old_sets(
    typed: Typed, env: dict[str, str], tmp_path: Path, wrong: dict[str, str], code: int, says: str
) -> None:
    assert typed("schedule", "run", "daily", env=env).returncode == 0
    before = whole(tmp_path / "sets")
    done = typed("schedule", "run", "weekly", env={**env, **wrong})
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "The weekly run failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert set(before) <= set(whole(tmp_path / "sets"))
    assert len(whole(tmp_path / "sets")) == len(before) + ("BACKUP_OFFSITE" in wrong)
    assert holder(tmp_path / "sets") is None
    assert deeds(Audit(tmp_path / "sets").entries())[-1].outcome != "running"
    for secret in ("planted-password", "wrong-password"):
        assert secret not in done.stderr + (tmp_path / "sets" / "audit.jsonl").read_text()
    assert typed("schedule", "run", "weekly", env=env).returncode == 0


def test_a_store_that_lost_everything_is_told_of_wherever_one_looks(
    typed: Typed, env: dict[str, str], tmp_path: Path
) -> None:
    assert typed("schedule", "run", "daily", env=env).returncode == 0
    [old] = whole(tmp_path / "sets")
    held = BackupSet.open(tmp_path / "sets" / old).metadata.keys
    with http_receiver() as heard:
        lost = {**env, "BACKUP_MATCH": "nothing:*", "BACKUP_NOTIFY_WEBHOOK": f"http://127.0.0.1:{heard.port}/"}
        done = typed("schedule", "run", "daily", env=lost)
    says = f"the set holds no keys: none matches 'nothing:*', and {old} before it held {held:,} keys"
    assert done.returncode == 0, done.stderr
    assert f"Warning: {says}. Is it the right server?" in done.stderr
    assert "The daily run went well, but look at its warnings." in done.stderr
    [event] = [json.loads(body) for _, body in heard.requests]
    assert (event["kind"], says in event["body"]) == ("warning", True)
    [ended] = [one for one in Audit(tmp_path / "sets").entries() if one.detail and one.action == "backup"]
    assert (ended.outcome, ended.detail) == ("ok", says)
    items = json.loads(typed("health-check", "--json", env=env).stdout)["items"]
    [item] = [one for one in items if one["name"] == "contents"]
    assert (item["state"], says in item["text"], old in item["next"]) == ("bad", True, True)
    rehearsed = typed("rehearse", "latest", env=env)
    assert rehearsed.returncode == 15
    assert f"[UNKNOWN] Redis: {says}: nothing was compared" in rehearsed.stdout
    assert "[OK] Data" not in rehearsed.stdout
    assert "--allow-empty" in rehearsed.stderr
    restored = typed("restore", "--dry-run", "latest", env=env)
    assert f"Warning: {says}. To restore that: understudy restore --component redis {old}." in restored.stderr
    meant = {**env, "BACKUP_MAY_BE_EMPTY": "redis"}
    assert "the set holds no keys" not in typed("schedule", "run", "daily", env={**lost, **meant}).stderr
    items = json.loads(typed("health-check", "--json", env=meant).stdout)["items"]
    assert [one["state"] for one in items if one["name"] == "contents"] == ["ok"]


def test_a_full_disk_ends_a_run_with_the_old_sets_as_they_were(
    typed: Typed, env: dict[str, str], tmp_path: Path
) -> None:
    assert typed("schedule", "run", "daily", env=env).returncode == 0
    before = whole(tmp_path / "sets")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "understudy", "schedule", "run", "daily"],  # -B: no half a .pyc of ours
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **env}, preexec_fn=limited,
    )  # fmt: skip
    assert done.returncode == 10, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert whole(tmp_path / "sets") == before
    assert not list((tmp_path / "sets").glob(".partial-*"))
    assert holder(tmp_path / "sets") is None
    assert typed("schedule", "run", "daily", env=env).returncode == 0
    assert len(whole(tmp_path / "sets")) == 2


def kill_runs(env: dict[str, str], directory: Path, times: int, chance: random.Random) -> int:
    """Kill so many runs at random moments, with all that holds after each; return how many never ended."""
    began = time.monotonic()
    process = started("schedule", "run", "daily", env=env)
    assert process.communicate(timeout=60) and process.returncode == 0
    whole_s = time.monotonic() - began
    never = 0
    before: set[str] = set()
    for _ in range(times):
        before |= set(whole(directory, before))
        process = started("schedule", "run", "daily", env=env)
        try:
            process.wait(chance.uniform(0.15, whole_s))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        assert before <= set(whole(directory, before))
        assert holder(directory) is None
        last = [deed for deed in deeds(Audit(directory).entries()) if deed.action == "backup"][-1]
        process = started("schedule", "run", "daily", env=env)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert ("never ended" in said) is (last.outcome is None)
        never += last.outcome is None
        assert not list(directory.glob(".partial-*"))
    assert before < set(whole(directory))  # every one of them is still what it was
    assert Audit(directory).broken() is None
    return never


def test_a_killed_run_leaves_the_old_sets_and_a_free_lock(env: dict[str, str], tmp_path: Path) -> None:
    kill_runs(env, tmp_path / "sets", 3, random.Random(3))


@pytest.mark.soak
def test_fifty_killed_runs(env: dict[str, str], tmp_path: Path) -> None:
    assert kill_runs(env, tmp_path / "sets", 50, random.Random(4)) > 5


def test_one_run_at_a_time(typed: Typed, env: dict[str, str], tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    with held(sets, "the weekly run", NOW):
        refused = typed("schedule", "run", "daily", env=env)
        assert refused.returncode == 14
        assert f"the weekly run (process {os.getpid()}, since 2026-11-21T02:00:00+0000)" in refused.stderr
        assert not Audit(sets).entries()
        waiting = started("schedule", "run", "daily", "--wait", "1m", env=env)
        assert waiting.stderr is not None
        for line in waiting.stderr:
            if "waiting, up to 60 s" in line:
                break
        assert waiting.poll() is None
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert len(whole(sets)) == 1


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import sys, time, datetime, pathlib\nfrom understudy.operations.lock import held\n"
        "with held(pathlib.Path(sys.argv[1]), 'the daily run', datetime.datetime.now(datetime.UTC)):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    found = holder(tmp_path)
    assert found is not None
    assert (found.pid, found.what) == (process.pid, "the daily run")
    with pytest.raises(RefusedError, match="the daily run"), held(tmp_path, "pruning", NOW):
        pass
    process.kill()
    process.communicate()
    eventually(lambda: holder(tmp_path) is None)
    with held(tmp_path, "pruning", NOW):
        assert "pruning" in (tmp_path / LOCK).read_text()
    assert (tmp_path / LOCK).read_text() == ""


def test_a_missed_run_is_told_by_status_and_by_the_next_run(typed: Typed, env: dict[str, str], tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    ago = datetime.now(UTC) - timedelta(days=3)
    with Audit(sets, clock=lambda: ago).recorded("schedule") as record:
        record.detail = "installed by cron: daily 0 2 * * *"
    status = typed("schedule", "status", env=env).stdout
    assert " 3 (last " in status or " 2 (last " in status
    assert "the daily run that was due" in typed("schedule", "run", "daily", env=env).stderr
    assert "the daily run that was due" not in typed("schedule", "run", "daily", env=env).stderr


def test_secrets_of_a_file_reach_the_run_and_nothing_else(
    typed: Typed, env: dict[str, str], filled: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "night.env"
    file.write_text("export REDIS_PASSWORD=\"planted-password\"\nBACKUP_PASSPHRASE='planted words'\n")
    file.chmod(0o600)
    plain = {"REDIS_NODES": "{}:{}".format(*filled.target().seeds[0]), "BACKUP_DIR": env["BACKUP_DIR"]}
    without = typed("schedule", "run", "daily", env={**plain, "REDIS_PASSWORD": ""})
    assert without.returncode == 10
    done = typed("schedule", "run", "daily", "--env-file", str(file), env=plain)
    assert done.returncode == 0, done.stderr
    [stored] = LocalRepository(tmp_path / "sets").sets()
    assert BackupSet.open(tmp_path / "sets" / str(stored.id)).metadata.encryption  # so the second secret came, too
    for path in (tmp_path / "sets").rglob("*"):
        assert not path.is_file() or b"planted" not in path.read_bytes()


@pytest.mark.parametrize("words", [("backup",), ("schedule", "run", "daily")])
def test_a_set_is_good_also_when_nobody_reads_what_is_said_of_it(
    env: dict[str, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    """As with `understudy backup 2>&1 | head -n 0`: the reader is gone before the first line."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "understudy", *words], stdout=writing, stderr=writing, env={**os.environ, **env}
    )
    os.close(reading)
    os.close(writing)
    assert process.wait(60) == 0
    assert len(whole(tmp_path / "sets")) == 1
    assert {deed.outcome for deed in deeds(Audit(tmp_path / "sets").entries())} == {"ok"}
