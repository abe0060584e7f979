"""`understudy probe` as a user types it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from conftest import Typed
from support import started
from understudy.lab import Lab

NOBODY = {"REDIS_URL": "redis://:secret-word@127.0.0.1:1", "REDIS_MODE": "standalone"}
TOKEN = "a-token-for-the-tests"


@contextmanager
def probing(*words: str, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the probe on a free port; its process and its address."""
    with started("probe", "--port", "0", *words, env=env) as process:
        try:
            assert process.stderr
            line = next(text for text in process.stderr if "Listening on" in text)
            found = re.search(r"http://\S+/", line)
            assert found and "secret-word" not in line
            yield process, found[0]
        finally:
            process.kill()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_ends_when_told_with_its_streams(valkey_standalone: Lab, sign: signal.Signals) -> None:
    env = {"REDIS_NODES": str(valkey_standalone.target()), "HEALTH_CHECK_INTERVAL": "60000"}
    with probing(env=env) as (process, url):
        assert httpx.get(f"{url}redis/status", timeout=30).json()["connected"]
        with httpx.stream("GET", f"{url}redis/monitor?duration=60&interval=0.1", timeout=20) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(sign)
            *_, last = lines
        assert "the probe is ending" in last
        _, said = process.communicate(timeout=15)
        assert process.returncode == 0, said
        assert "GET /redis/status 200" in said
        assert "Traceback" not in said


def test_it_starts_when_the_server_is_dead_and_says_so(understudy_home: Path) -> None:
    with probing("--client", "defaults", "--no-access-log", env=NOBODY) as (process, url):
        assert not httpx.get(f"{url}redis/status?token=in-the-query", timeout=30).json()["connected"]
        assert httpx.get(f"{url}redis/health", timeout=30).status_code == 503
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=15)
        assert process.returncode == 0
        assert "refused" in said
        assert "GET" not in said
        assert "secret-word" not in said


def test_a_port_that_is_taken_is_refused(typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = typed("probe", env={**NOBODY, "PORT": port})
    assert ran.returncode == 14
    assert f"127.0.0.1:{port}" in ran.stderr
    assert "--port" in ran.stderr


@pytest.mark.parametrize(
    ("words", "env", "says"),
    [
        (["--host", "0.0.0.0"], {}, "PROBE_TOKEN"),
        (["--host", "::"], {}, "PROBE_TOKEN"),
        ([], {"PROBE_TOKEN": "short"}, "16"),
        (["--host", "203.0.113.1"], {"PROBE_TOKEN": TOKEN}, "address of this machine"),
        ([], {"PROFILE": "PROD", "REDIS_URL": "rediss://x.example", "REDIS_MODE": ""}, "REDIS_ACCESS_KEY"),
        ([], {"REDIS_ENTRA_ID": "true"}, "TLS"),
        ([], {"HEALTH_CHECK_INTERVAL": "5"}, "HEALTH_CHECK_INTERVAL"),
        (["--client", "other"], {}, "recommended"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(
    typed: Typed, words: list[str], env: dict[str, str], says: str
) -> None:
    ran = typed("probe", "--port", "0", *words, env={**NOBODY, **env}, timeout_s=20)
    assert ran.returncode == 2, ran.stderr
    assert says in ran.stderr
    assert "secret-word" not in ran.stderr


def test_others_reach_it_with_the_token_of_a_file(tmp_path: Path, understudy_home: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with probing("--host", "0.0.0.0", "--token-file", str(file), env=NOBODY) as (process, url):
        assert httpx.get(f"{url}redis/status", timeout=30).status_code == 401
        known = {"Authorization": f"Bearer {TOKEN}", "Host": "probe.example"}
        assert httpx.get(f"{url}redis/status", headers=known, timeout=30).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=15)
        assert process.returncode == 0
        assert TOKEN not in said


def test_a_server_that_is_stopped_does_not_hold_up_the_end(valkey_standalone: Lab) -> None:
    env = {"REDIS_NODES": str(valkey_standalone.target()), "REDIS_MODE": "standalone"}
    with probing(env=env) as (process, url):
        assert httpx.get(f"{url}redis/status", timeout=30).json()["connected"]
        valkey_standalone.pause("node-1")
        try:
            with httpx.stream("GET", f"{url}redis/failover-recovery?duration=60", timeout=20) as answer:
                next(answer.iter_lines())
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=8) == 0
        finally:
            valkey_standalone.resume("node-1")
        assert process.stderr and "Traceback" not in process.stderr.read()
