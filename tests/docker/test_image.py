"""The image, where an engine answers and `make build-backup-tool` was run: who it is, how it ends, what it holds."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from engine import image_there, needs_engine

IMAGE = "redis-backup-tool:latest"
pytestmark = [
    needs_engine,
    pytest.mark.skipif(not image_there(IMAGE), reason=f"no image {IMAGE}: make build-backup-tool"),
    pytest.mark.long(40),
]


def docker(*words: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=timeout_s)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return docker("run", "--rm", *words)


@pytest.fixture
def started() -> Iterator[str]:
    """A container's name; the container is gone afterwards."""
    name = f"understudy-test-{uuid4().hex[:8]}"
    yield name
    docker("rm", "--force", "--volumes", name)


def test_without_words_it_helps_and_exit_codes_come_through() -> None:
    helped = run(IMAGE)
    assert helped.returncode == 0, helped.stderr
    assert "understudy" in helped.stdout
    assert helped.stderr == ""
    missing = run(IMAGE, "check", "/nothing")
    assert missing.returncode == 11
    assert missing.stderr.startswith("Error: ")


def test_it_runs_with_no_rights_at_all_as_kubernetes_runs_it() -> None:
    listed = run(
        "--user", "10001:10001", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--tmpfs", "/tmp", "--network", "none", IMAGE, "list",
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr


def test_what_it_writes_belongs_to_the_owner_of_the_mounted_directory(tmp_path: Path) -> None:
    if os.getuid() == 0:
        os.chown(tmp_path, 4321, 4321)
        for folder in list(tmp_path.parents)[:2]:
            folder.chmod(0o755)
    owner = tmp_path.stat().st_uid
    failed = run("--network", "none", "-v", f"{tmp_path}:/data/backups", IMAGE, "backup")
    assert failed.returncode == 10, failed.stderr  # there is no server, but there is an audit log
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {owner}


def test_it_reads_credentials_that_only_root_may_read(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make such files")
    sets, aws = tmp_path / "sets", tmp_path / "aws"
    sets.mkdir()
    os.chown(sets, 4321, 4321)
    aws.mkdir(mode=0o700)
    (aws / "credentials").write_text("[toy-root]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = none\n")
    (aws / "credentials").chmod(0o600)
    found = docker(
        "run", "--rm", "--network", "none", "-e", "AWS_PROFILE=toy-root", "-e", "AWS_ENDPOINT_URL=http://127.0.0.1:9",
        "-v", f"{aws}:/root/.aws:ro", "-v", f"{sets}:/data/backups", IMAGE, "list", "--s3-uri", "s3://b/p",
    )  # fmt: skip
    assert found.returncode == 10
    assert "127.0.0.1:9" in found.stderr or "onnect" in found.stderr, found.stderr
    assert "could not be found" not in found.stderr


def test_a_server_in_it_is_healthy_and_ends_at_once(started: str) -> None:
    up = docker("run", "--detach", "--name", started, IMAGE, "probe", "--host", "127.0.0.1")
    assert up.returncode == 0, up.stderr
    check = [
        "exec",
        started,
        *json.loads(docker("inspect", IMAGE, "--format", "{{json .Config.Healthcheck.Test}}").stdout)[1:],
    ]
    until = time.monotonic() + 60
    while docker(*check).returncode != 0:
        assert time.monotonic() < until, docker("logs", started).stderr
        time.sleep(0.3)
    assert docker("stop", "--time", "30", started).returncode == 0
    code = docker("inspect", started, "--format", "{{.State.ExitCode}}").stdout.strip()
    assert code in ("0", "143"), code  # 137 would be a kill after 30 s


def test_ctrl_c_reaches_it(started: str) -> None:
    docker("run", "--detach", "--name", started, IMAGE, "waitingroom")
    until = time.monotonic() + 60
    while "http://" not in (logs := docker("logs", started)).stdout + logs.stderr:
        assert time.monotonic() < until, logs
        time.sleep(0.3)
    docker("kill", "--signal", "INT", started)
    assert docker("wait", started, timeout_s=30).stdout.strip() in ("0", "130")


def test_nothing_of_the_build_is_left_in_it() -> None:
    about = json.loads(docker("inspect", IMAGE).stdout)[0]
    assert not [line for line in about["Config"]["Env"] if line.startswith("PIP_")]
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).stdout
    assert "PIP_" not in history
    assert "://" not in history
    assert about["Config"]["Labels"]["org.opencontainers.image.title"] == "understudy"
    inside = run("--entrypoint", "sh", IMAGE, "-c", "ls /opt/understudy/bin; ls / /build 2>&1; id -u understudy").stdout
    assert "pip" not in inside.split()
    assert "10001" in inside.split()
