"""Planted secrets stand nowhere but where they were planted, in a night that goes well and in one that fails."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyrage
import pytest

import rsyncd as rsync_module
from conftest import Typed
from postgres import create_database, fill
from qdrant_standin import filled, standin
from receivers import Receiver, http_receiver
from rsyncd import rsync_daemon
from s3 import BUCKET, S3Server
from understudy.lab import sample, standalone
from understudy.lab.servers.postgres import scratch_postgres
from understudy.valkey.router import Router

REDIS, POSTGRES, QDRANT = "redis-pl4nted-secret", "postgres-pl4nted-secret", "qdrant-pl4nted-secret"
PASSPHRASE, WEBHOOK, TOKEN = "passphrase-pl4nted-secret", "webhook-pl4nted-secret", "token-pl4nted-secret"
PLANTED = b"pl4nted"

# every Python process of a run notes what it starts: a look at `ps` could come too late
HOOK = """
import os, sys
def note(event, args):
    if event in {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}:
        words = repr(args[:2] if event != "os.system" else args)
        with open(os.environ["NOTED"], "a") as file:
            file.write(words + "\\n")
sys.addaudithook(note)
with open(os.environ["NOTED"], "a") as file:
    file.write(repr(sys.orig_argv) + "\\n")
"""


@pytest.fixture
def stack(tmp_path: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A stack whose every door has a secret, and the environment in which it is backed up."""
    with ExitStack() as up:
        redis = up.enter_context(standalone(password=REDIS))
        with Router(redis.target()) as router:
            sample.fill(router, 50)
        postgres = up.enter_context(scratch_postgres(password=POSTGRES))
        create_database(postgres, "app")
        fill(postgres, "app")
        qdrant = up.enter_context(standin(tmp_path / "qdrant", api_key=QDRANT))
        filled(qdrant.url, "documents", 20, api_key=QDRANT)
        receiver: Receiver = up.enter_context(http_receiver())
        (tmp_path / "nas").mkdir()
        places = [f"s3://{BUCKET}/{tmp_path.name}", str(tmp_path / "nas")]
        if shutil.which("rsync"):
            daemon = up.enter_context(rsync_daemon(tmp_path))
            places.append(daemon.uri("locked/there").replace("//", "//backup@", 1))
        (tmp_path / "hook").mkdir()
        (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
        (tmp_path / "scratch").mkdir()
        identity = pyrage.x25519.Identity.generate()
        (tmp_path / "identity").write_text(str(identity))
        yield {
            "PYTHONPATH": str(tmp_path / "hook"),
            "TYPED_FIRST": str(tmp_path / "hook" / "sitecustomize.py"),
            "NOTED": str(tmp_path / "noted"),
            "TMPDIR": str(tmp_path / "scratch"),
            "BACKUP_DIR": str(tmp_path / "sets"),
            "BACKUP_PASSPHRASE": PASSPHRASE,
            "BACKUP_RECIPIENTS": str(identity.to_public()),
            "REDIS_URL": f"redis://:{REDIS}@{redis.target().seeds[0]}",
            "POSTGRES_URL": postgres.url("app").replace("postgres@", f"postgres:{POSTGRES}@"),
            "QDRANT_URL": qdrant.url,
            "QDRANT_API_KEY": QDRANT,
            "BACKUP_OFFSITE": ",".join(places),
            "RSYNC_PASSWORD": rsync_module.PASSWORD,
            "BACKUP_NOTIFY": f"json://user:{TOKEN}@127.0.0.1:1/{TOKEN}, nonsense://{TOKEN}",
            "BACKUP_NOTIFY_WEBHOOK": f"{receiver.url}/{WEBHOOK}",
            "BACKUP_NOTIFY_SUCCESS": "true",
            "BACKUP_METRICS_FILE": str(tmp_path / "understudy.prom"),
            "UNDERSTUDY_DEBUG": "1",
        }
        for path, body in receiver.requests:
            assert path == f"/{WEBHOOK}"
            assert PLANTED not in body
        assert receiver.requests


def searched(tmp_path: Path, told: list[str], secrets: list[bytes]) -> None:
    """Look for planted secrets in all that a run said, started and left behind, and for files that others may read."""
    started = (tmp_path / "noted").read_bytes()
    assert started.count(b"\n") > 1, "nothing was noted"
    for secret in secrets:
        assert secret not in started, "in the arguments of a program"
        for text in told:
            assert secret not in text.encode(), "in what was printed"
    left = [
        path
        for name in ("sets", "nas", "scratch")
        if (tmp_path / name).exists()
        for path in (tmp_path / name).rglob("*")
    ]
    for path in [tmp_path / "understudy.prom", *left]:
        if path.is_file():
            data = path.read_bytes()
            assert not [secret for secret in secrets if secret in data], path
        if path.name != "understudy.prom":
            assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"
    assert list((tmp_path / "scratch").iterdir()) == [], "something was left in TMPDIR"


def test_a_night_that_goes_well_and_the_days_after_it_tell_no_secret(
    stack: dict[str, str], typed: Typed, tmp_path: Path, s3_env: S3Server
) -> None:
    aws = s3_env.credentials.read_text().splitlines()[2].split(" = ")[1].encode()
    told = []
    for words, code in (
        (("schedule", "run", "daily"), 0),
        (("check",), 0),
        (("list", "--json"), 0),
        (("restore", "--dry-run", "latest"), 0),
        (("restore", "--force", "--overwrite", "--component", "redis", "latest"), 0),
        (("prune", "--dry-run"), 0),
        (("health-check", "--json"), 15),  # nothing is installed
    ):
        by_file = {"BACKUP_IDENTITY": str(tmp_path / "identity")} if "--dry-run" in words else {}
        done = typed(*words, env=stack | by_file, timeout_s=120)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        told += [done.stdout, done.stderr]
    assert "Could not notify entry 1 of BACKUP_NOTIFY (json)" in told[1]
    actions = {json.loads(line)["action"] for line in (tmp_path / "sets" / "audit.jsonl").read_text().splitlines()}
    assert {"backup", "check", "restore"} <= actions
    assert "pg_dump" in (tmp_path / "noted").read_text()
    searched(tmp_path, told, [PLANTED, aws, b"AGE-SECRET-KEY"])


def test_a_night_that_fails_tells_no_secret(stack: dict[str, str], typed: Typed, tmp_path: Path) -> None:
    """A store is dead, and named by its address without its password; then one refuses a wrong password."""
    told = []
    for changed in (
        {"REDIS_URL": f"redis://:{REDIS}@127.0.0.1:1"},
        {"POSTGRES_URL": f"postgresql://postgres:{POSTGRES}@127.0.0.1:1/app"},
        {"QDRANT_URL": "http://127.0.0.1:1"},
        {"REDIS_URL": stack["REDIS_URL"].replace(REDIS, f"{REDIS}-wrong")},
        {"POSTGRES_URL": stack["POSTGRES_URL"].replace(POSTGRES, f"{POSTGRES}-wrong")},
        {"QDRANT_API_KEY": f"{QDRANT}-wrong"},
    ):
        done = typed("schedule", "run", "daily", env=stack | changed, timeout_s=120)
        assert done.returncode == 10, (changed.keys(), done.stdout, done.stderr)
        told += [done.stdout, done.stderr]
    assert (tmp_path / "sets" / "audit.jsonl").read_text().count('"outcome":"failed"') == 6
    searched(tmp_path, told, [PLANTED])


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """The search itself can fail."""
    for name in ("sets", "nas", "scratch"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "understudy.prom").write_text("")
    (tmp_path / "noted").write_text(f"{sys.executable}\nprogram\n")
    searched(tmp_path, ["fine"], [PLANTED])
    with pytest.raises(AssertionError, match="printed"):
        searched(tmp_path, [f"redis://:{REDIS}@host"], [PLANTED])
    (tmp_path / "sets" / "log").write_text(REDIS)
    (tmp_path / "sets" / "log").chmod(0o600)
    with pytest.raises(AssertionError, match="log"):
        searched(tmp_path, [], [PLANTED])
    (tmp_path / "sets" / "log").write_text("")
    (tmp_path / "sets" / "log").chmod(0o644)
    with pytest.raises(AssertionError, match="open to others"):
        searched(tmp_path, [], [PLANTED])
