"""What `make` does with Docker, with a stand-in for `docker` that notes what it is told: no engine is needed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from pydantic import AliasChoices

from support import repository_root
from understudy.settings import Settings, secret_file_names

_DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >>"$NOTES"
case "$1 $2" in
"info "*) [ "$ENGINE" = yes ] && echo "$SYSTEM" ;;
"network inspect") [ "$3" = bridge ] && echo "$BRIDGE_HAS" ;;
"image inspect") [ "$IMAGE" = yes ] ;;
"ps --filter") [ -z "$RUNNING" ] || printf '%s\\n' $RUNNING ;;
"compose -p") case "$*" in *" up -d") [ "$UP" = yes ] ;; esac ;;
esac
"""


class Make(Protocol):
    """Runs make in an empty directory."""

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def make(tmp_path: Path, notes: Path) -> Make:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "docker").write_text(_DOCKER)
    (bin_ / "docker").chmod(0o755)

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: os.environ[name] for name in ("LANG", "VIRTUAL_ENV") if name in os.environ}
        standing = {"ENGINE": "yes", "IMAGE": "yes", "UP": "yes", "SYSTEM": "Debian", "BRIDGE_HAS": " 172.17.0.0/16"}
        return subprocess.run(
            ["make", "--no-print-directory", "-f", str(repository_root() / "Makefile"), *words],
            env={**inherited, "PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(tmp_path), "NOTES": str(notes)}
            | standing
            | env,
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip

    return run


def test_docker_is_taken_where_an_engine_answers_and_said(make: Make) -> None:
    assert make("list-backups-profile").stderr == "With Docker; WITH=here does without.\n"
    dry = make("list-backups-profile", "-n", ENGINE="no")
    assert "understudy list" in dry.stdout
    assert "Here, without Docker" in dry.stdout


def test_another_way_is_refused(make: Make) -> None:
    refused = make("up", "WITH=podman")
    assert refused.returncode == 2
    assert "WITH=podman is neither docker nor here" in refused.stderr


def test_without_an_engine_it_says_what_to_do(make: Make) -> None:
    for target, advice in (("up", "make … WITH=here"), ("build-backup-tool", "start one")):
        failed = make(target, "WITH=docker", ENGINE="no")
        assert failed.returncode == 2
        said = failed.stdout + failed.stderr
        assert "no Docker engine answers" in said
        assert advice in said


def test_without_the_image_it_says_how_to_build_it(make: Make) -> None:
    failed = make("backup-local-profile", "WITH=docker", IMAGE="no")
    assert failed.returncode == 2
    assert "Try: make build-backup-tool" in failed.stderr


def test_the_backup_is_the_documents_docker_run_and_no_secret_is_on_its_command_line(
    make: Make, notes: Path, tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    done = make(
        "backup-local-profile", "WITH=docker", "S3_URI=s3://my-bucket/redis-backups", "AWS_PROFILE=toy-root",
        REDIS_PASSWORD="swordfish", AWS_SECRET_ACCESS_KEY="swordfish",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    typed = notes.read_text().splitlines()[-1]
    for part in (
        "run --rm", "--env AWS_SDK_LOAD_CONFIG=1", "--env ENV_PROFILE", "--env S3_URI", "--env AWS_PROFILE",
        "--env REDIS_PASSWORD", f"--volume {tmp_path}/.aws:/root/.aws:ro", f"--volume {tmp_path}/backups:/data/backups",
    ):  # fmt: skip
        assert part in typed
    assert typed.endswith("redis-backup-tool:latest backup")
    assert "swordfish" not in notes.read_text()


def test_files_of_secrets_are_taken_along_so_that_no_set_is_plain_by_mistake(
    make: Make, notes: Path, tmp_path: Path
) -> None:
    (tmp_path / "passphrase").write_text("pl4nted-passphrase")
    done = make("backup-local-profile", "WITH=docker", BACKUP_PASSPHRASE_FILE="passphrase", AWS_CONFIG_FILE=os.devnull)
    assert done.returncode == 0, done.stderr
    place = tmp_path / "passphrase"
    assert f"--volume {place}:{place}:ro --env BACKUP_PASSPHRASE_FILE" in notes.read_text()
    assert "--env AWS_CONFIG_FILE" in notes.read_text() and "--volume /dev/null" not in notes.read_text()
    missing = make("backup-local-profile", "WITH=docker", BACKUP_IDENTITY="/none")
    assert missing.returncode == 2 and "there is no file /none" in missing.stderr


def test_settings_that_cannot_be_taken_along_are_refused(make: Make, notes: Path, tmp_path: Path) -> None:
    for env in ({"UNDERSTUDY_CONFIG": "/etc/understudy.toml"}, {"REDIS_ENTRA_ID": "true"}):
        refused = make("backup-local-profile", "WITH=docker", **env)
        assert refused.returncode == 2 and "WITH=here" in refused.stderr
    (tmp_path / "understudy.toml").write_text('[redis]\nurl = "redis://cache:6379"\n')
    refused = make("restore-latest-profile", "WITH=docker")
    assert refused.returncode == 2 and "understudy.toml is not taken into the container" in refused.stderr
    assert "run --rm" not in notes.read_text()


def test_every_setting_of_a_backup_is_taken_along_or_refused() -> None:
    script = (repository_root() / "deploy" / "compose" / "with-docker.sh").read_text()
    named = set(re.findall(r"[A-Z][A-Z0-9_]+", script))
    passed_over = re.compile(  # what backup, restore and list do not read
        r"(REHEARSE|SCHEDULE|ARCHIVE|PROBE|WAITINGROOM|DRILL|BACKUP_(DAILY|WEEKLY|MONTHLY|SAFETY|NOTIFY|METRICS|LOG|OFFSITE))_?"
        r"|(PROFILE|PORT|HEALTH_CHECK_INTERVAL|POSTGRES_BIN)$"
    )
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        name = str(alias.choices[0] if isinstance(alias, AliasChoices) else alias)
        assert name in named or passed_over.match(name), name
    for name in secret_file_names().values():
        assert name in named or passed_over.match(name), name


def test_the_latest_of_the_bucket_is_restored_where_there_is_one(make: Make, notes: Path) -> None:
    make("restore-latest-profile", "WITH=docker", "S3_URI=s3://my-bucket/redis-backups")
    assert notes.read_text().splitlines()[-1].endswith("redis-backup-tool:latest restore --from-s3 latest")
    make("restore-latest-profile", "WITH=docker")
    assert notes.read_text().splitlines()[-1].endswith("redis-backup-tool:latest restore latest")


@pytest.mark.parametrize(
    ("bridge", "address"),
    [("172.17.0.1 172.17.0.0/16", "172.17.0.1"), (" 10.200.0.0/24", "10.200.0.1"), ("fd00::1 fd00::/64", ""), ("", "")],
)
def test_the_address_of_dockers_bridge_is_read_from_the_engine(make: Make, bridge: str, address: str) -> None:
    script = repository_root() / "deploy" / "compose" / "with-docker.sh"
    evaluated = make("--eval", f"address:; @sh {script} address", "address", BRIDGE_HAS=bridge)
    assert evaluated.stdout.strip() == address, evaluated.stderr


@pytest.mark.parametrize(
    ("env", "file"),
    [
        ({}, "docker-compose.yml"),
        ({"BRIDGE": "1"}, "docker-compose.bridge.yml"),
        ({"SYSTEM": "Docker Desktop"}, "docker-compose.bridge.yml"),
    ],
    ids=["linux", "asked", "docker-desktop"],
)
def test_which_compose_file_is_taken(make: Make, notes: Path, env: dict[str, str], file: str) -> None:
    make("logs", "WITH=docker", **env)
    assert f"compose -p redis-cluster -f {repository_root()}/{file} logs" in notes.read_text()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the cluster that this test has, or somebody else already."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 7004)))
        yield 7004


@pytest.mark.parametrize("venv", [True, False], ids=["with the venv", "without one"])
def test_up_looks_for_free_ports_before_it_starts_anything(
    make: Make, notes: Path, tmp_path: Path, taken: int, venv: bool
) -> None:
    root = tmp_path / "clone"
    shutil.copytree(repository_root() / "deploy" / "compose", root / "deploy" / "compose")
    if venv:
        python = root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    others = "redis-1 redis-2 redis-3 redis-5 redis-6"
    script = root / "deploy" / "compose" / "with-docker.sh"
    refused = make("--eval", f"port:; @sh {script} up", "port", RUNNING=others)
    assert refused.returncode == 2
    assert f"Error: port {taken} is taken by " in refused.stderr
    assert "; nothing was started\nTry: " in refused.stderr
    if venv and sys.platform == "linux" and "the lab" not in refused.stderr:
        assert f"(pid {os.getpid()})" in refused.stderr
    assert " up -d" not in notes.read_text()


def test_up_leaves_nothing_that_starts_again_and_again_where_it_fails(make: Make, notes: Path) -> None:
    elsewhere = {"UP": "no", "DOCKER_HOST": "tcp://192.0.2.1:2375"}
    failed = make("up", "WITH=docker", **elsewhere)
    assert failed.returncode == 2
    assert "compose could not start the cluster" in failed.stderr
    assert notes.read_text().splitlines()[-1].endswith(" down --remove-orphans")
    make("up", "WITH=docker", **elsewhere, RUNNING="redis-1")
    assert notes.read_text().splitlines()[-1].endswith(" up -d"), "what ran goes on"
