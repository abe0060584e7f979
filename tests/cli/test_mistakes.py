"""What a user sees after typing something wrong, or when something is not as it should be."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support import backed_up, eventually
from understudy.cli.options import target_of
from understudy.lab import Lab, standalone
from understudy.lab.sample import fill, wipe
from understudy.settings import load
from understudy.valkey.router import Router

Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "env", "code", "says"),
    [
        (["backup"], {"REDIS_NODES": "127.0.0.1:1"}, 10, "127.0.0.1:1 (Connection refused)"),
        (["backup"], {"REDIS_NODES": "127.0.0.1:port"}, 2, "not host:port"),
        (["backup"], {"REDIS_URL": "http://x"}, 2, "REDIS_URL"),
        (["backup"], {"REDIS_URL": "redis://127.0.0.1:1", "REDIS_MODE": "turbo"}, 2, "oss-cluster"),
        (["backup"], {"ENV_PROFILE": "prd"}, 2, "[profile.prd.redis]"),
        (["backup", "--chunk-keys", "0"], {"REDIS_NODES": "127.0.0.1:1"}, 2, "greater than or equal to 1"),
        (
            ["backup", "--chunk-keys", "0"],
            {"REDIS_NODES": "127.0.0.1:1"},
            2,
            "reading --chunk-keys (the setting BACKUP_",
        ),
        (
            ["archive", "--keep-days", "0"],
            {"REDIS_NODES": "127.0.0.1:1"},
            2,
            "reading --keep-days (the setting ARCHIVE_",
        ),
        (
            ["archive"],
            {"REDIS_NODES": "127.0.0.1:1", "ARCHIVE_KEEP_DAYS": "0"},
            2,
            "reading the setting ARCHIVE_KEEP_DAYS",
        ),
        (["backup", "--engine", "replicas"], {}, 2, "Invalid value for '--engine': 'replicas' is not one of"),
        (["backup", "--no-pause"], {"REDIS_NODES": "127.0.0.1:1"}, 2, "and this one is scan"),
        (["backup", "--match", ""], {"REDIS_NODES": "127.0.0.1:1"}, 2, "an empty glob matches no key"),
        (["restore", "--match", ""], {"REDIS_NODES": "127.0.0.1:1"}, 2, "an empty glob matches no key"),
        (["verify", "--match", ""], {"REDIS_NODES": "127.0.0.1:1"}, 2, "an empty glob matches no key"),
        (["inspect", "--match", ""], {}, 2, "an empty glob matches no key"),
        (["verify", "--full", "--sample", "5"], {"REDIS_NODES": "127.0.0.1:1"}, 2, "--full compares every key"),
        (["restore", "--at", "1", "latest"], {"REDIS_NODES": "127.0.0.1:1"}, 2, "a set is named as well"),
        (["verify", "--at", "1", "latest"], {"REDIS_NODES": "127.0.0.1:1"}, 2, "a set is named as well"),
        (
            ["restore", "/etc/passwd"],
            {"REDIS_NODES": "127.0.0.1:1"},
            12,
            "reading /etc/passwd: it is no set, no archive",
        ),
        (["list", "--out-dir", "nowhere"], {}, 0, "there is no directory nowhere"),
        (["backup", "--component", "mysql"], {}, 2, "redis"),
        (["backup", "--match"], {}, 2, "requires an argument"),
        (["bakcup"], {}, 2, "bakcup"),
        (["restore", "no-such-set"], {"REDIS_NODES": "127.0.0.1:1"}, 11, "no-such-set"),
        (["restore", "/no/such/set"], {"REDIS_NODES": "127.0.0.1:1"}, 11, "metadata.json"),
        (["restore", "--from-s3", "latest"], {"REDIS_NODES": "127.0.0.1:1"}, 11, "S3_URI"),
        (["list", "--s3-uri", "ftp://x"], {}, 2, "s3://bucket/prefix"),
        (["verify", "-i", "nowhere"], {}, 11, "nowhere"),
        (["check"], {}, 11, "is empty: /"),
        (["restore"], {}, 11, "understudy.toml"),
        (["restore", ""], {}, 2, "an empty name is no set"),
        (["restore", "--from-s3", ""], {}, 2, "an empty name is no set"),
        (["restore", "-i", ""], {}, 2, "an empty name is no set"),
        (["rehearse", ""], {}, 2, "an empty name is no set"),
        (["check", ""], {}, 2, "an empty name is no set"),
        (["prune", "--place", ""], {}, 2, "and no place"),
        (["rehearse", "--max-rto", "-5m"], {}, 2, "a number and a unit"),
        (["schedule", "run", "hourly"], {}, 2, "daily, weekly, monthly"),
        (["schedule", "serve", "--wait", "2h"], {}, 2, "--wait is for run"),
        (["schedule", "serve", "--systemd"], {}, 2, "for install and remove"),
        (["schedule", "serve", "--dry-run"], {}, 2, "for install and remove"),
        (["schedule", "status"], {"SCHEDULE_DAILY": "61 * * * *"}, 2, "'61' is no minute"),
    ],
)
def test_a_mistake_has_an_exit_code_and_an_answer(
    typed: Typed, in_empty_folder: Path, words: list[str], env: dict[str, str], code: int, says: str
) -> None:
    done = typed(*words, env=env)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(in_empty_folder.glob("backups/*"))


def test_a_server_that_nobody_named_is_told(
    understudy_home: Path, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("REDIS_NODES", "REDIS_URL", "UNDERSTUDY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert target_of(load()).seeds[0].port == 7001
    assert "Using 127.0.0.1:7001: no server is configured" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", ["backup", "upload", "demo", "restore", "list", "verify", "check", "up", "down", "status", "logs", "clean"]
)
def test_every_command_explains_itself_with_an_example(typed: Typed, verb: str) -> None:
    done = typed(verb, "--help")
    assert done.returncode == 0
    assert f"understudy {verb}" in done.stdout.partition("Example")[2]


@pytest.mark.parametrize(
    ("layout", "mode"),
    [
        ("cluster", "standalone"),
        ("cluster", "enterprise"),
        ("standalone", "oss-cluster"),
        ("standalone", "sentinel"),
        ("sentinel", "standalone"),
    ],
)
def test_a_mode_that_would_show_only_a_part_is_refused(
    typed: Typed, tmp_path: Path, request: pytest.FixtureRequest, layout: str, mode: str
) -> None:
    running: Lab = request.getfixturevalue(f"valkey_{layout}")
    for verb in ("backup", "verify"):
        env = {**running.env(), "REDIS_MODE": mode, "BACKUP_DIR": str(tmp_path / "sets")}
        done = typed(verb, env=env)
        assert done.returncode in (2, 11)
    assert "Set REDIS_MODE=" in typed("backup", env=env).stderr
    assert not (tmp_path / "sets").exists()


def test_errors_are_data_too(typed: Typed) -> None:
    done = typed("backup", "--json", env={"REDIS_NODES": "127.0.0.1:1"})
    error = json.loads(done.stdout)
    assert (error["error"], error["exit_code"], error["retryable"]) == ("UnreachableError", 10, True)
    assert error["try"]


def test_a_password_that_is_wrong_is_refused_and_never_shown(typed: Typed, tmp_path: Path) -> None:
    with standalone(password="right-secret") as running:
        address = running.target().seeds[0]
        env = {"REDIS_URL": f"redis://:wrong-secret@{address}", "BACKUP_DIR": str(tmp_path / "sets")}
        done = typed("backup", env=env)
        assert done.returncode == 10
        assert "WRONGPASS" in done.stderr
        assert "wrong-secret" not in done.stderr + done.stdout
        right = typed("backup", env={**env, "REDIS_PASSWORD": "right-secret"})
        assert right.returncode == 0, right.stderr
        everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"right-secret" not in everything


def test_what_is_overwritten_is_asked_about(typed: Typed, valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(tmp_path)}
    with Router(target) as router:
        fill(router, 40)
        backed_up(target, tmp_path)
        refused = typed("restore", "latest", "--overwrite", env=env)
        assert (refused.returncode, refused.stdout) == (14, "")
        assert "48" in refused.stderr
        assert "--force" in refused.stderr
        dry = typed("restore", "latest", "--overwrite", "--dry-run", env=env)
        assert "[DRY RUN] The set is redis-backup-local-" in dry.stdout
        assert "[DRY RUN] Would restore Redis from: keys/" in dry.stdout
        assert f"[DRY RUN] To: Redis {target.seeds[0]} (standalone)\n" in dry.stdout
        assert "restored=48, skipped=0" in dry.stdout
        done = typed("restore", "latest", "--overwrite", "--force", env=env)
        assert f"To: Redis {target.seeds[0]} (standalone)\nRestore redis -> restored=48" in done.stdout
        wipe(router)
        dry = typed("restore", "latest", "--dry-run", env=env)
        assert "restored=48" in dry.stdout
        assert router.wire(target.seeds[0]).call("DBSIZE") == 0
        # nothing stands there: nothing to ask
        assert typed("restore", "latest", "--overwrite", env=env).returncode == 0


def test_keys_that_cannot_be_restored_are_listed(typed: Typed, valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(tmp_path)}
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SET", f"user:{n}", "x" * 2000) for n in range(600)])
        backed_up(target, tmp_path)
        wipe(router)
        eventually(lambda: b"lazyfree_pending_objects:0\r" in wire.call("INFO", "memory"))  # what it frees is no room
        used = int(router.wire(target.seeds[0]).call("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0])
        # more than that comes back, also once the server has freed the buffers of this test's own connections
        wire.call("CONFIG", "SET", "maxmemory", used + 120_000)
        try:
            done = typed("restore", "latest", env=env)
        finally:
            wire.call("CONFIG", "SET", "maxmemory", 0)
        assert done.returncode == 13
        assert "failed=" in done.stdout
        assert "user:" in done.stderr
        assert "OOM" in done.stderr
        # mended and run again, it completes
        again = typed("restore", "latest", env=env)
        assert again.returncode == 0, again.stderr
        assert wire.call("DBSIZE") == 600


def test_a_difference_is_an_exit_code_and_a_name(typed: Typed, valkey_standalone: Lab, tmp_path: Path) -> None:
    target = valkey_standalone.target()
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(tmp_path)}
    with Router(target) as router:
        wire = router.wire(target.seeds[0])
        wire.pipeline([("SET", f"user:{n}", "x") for n in range(20)])
        wire.call("SADD", "crowd", *range(1000), "a")
        backed_up(target, tmp_path)
        same = typed("verify", "--full", env=env)
        assert "missing=0, ttl_mismatch=0, value_mismatch=0, extra=0, compared=21" in same.stdout
        wire.pipeline([("DEL", "user:1"), ("PEXPIRE", "user:2", 50_000), ("SREM", "crowd", "a"), ("SET", "late", "x")])
        done = typed("verify", "--full", env=env)
        assert done.returncode == 12
        assert "missing=1, ttl_mismatch=1, value_mismatch=1, extra=1" in done.stdout
        for line in ("missing: user:1", "ttl_mismatch: user:2", "value_mismatch: crowd", "extra: late"):
            assert line in done.stderr
        data = json.loads(typed("verify", "--full", "--json", env=env).stdout)
        assert (data["clean"], data["missing"], data["examples"]["extra"]) == (False, 1, ["late"])


def test_streams_that_are_closed_change_nothing(tmp_path: Path) -> None:
    """`understudy … >&-`: cron jobs and daemons do that."""
    import os
    import sys

    env = {**os.environ, "REDIS_NODES": "127.0.0.1:1", "BACKUP_DIR": str(tmp_path / "sets")}
    for closed, verb, code in ((">&-", "list", 0), ("2>&-", "backup", 10), ("<&-", "backup", 10)):
        words = ["sh", "-c", f'"$0" -m understudy {verb} {closed}', sys.executable]
        assert subprocess.run(words, env=env, check=False, capture_output=True).returncode == code
