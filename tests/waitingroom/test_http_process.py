"""The gateway as a process: killed in the middle of its work, restarted, ended by a signal, started wrongly."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from conftest import Typed
from support import started
from understudy.lab import Lab
from waitingroom.conftest import SECRET, bearer

JOIN = "/api/v1/queue/join"
LISTENS = re.compile(r"Listening on (http://\S+)/")


@contextmanager
def running(lab: Lab, *words: str, port: int = 0, **env: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run a gateway; its process, its address, and what it said at the start."""
    told = {"REDIS_NODES": str(lab.target().seeds[0]), "WAITINGROOM_SECRET": SECRET, **env}
    process = started("waitingroom", "--port", str(port), "--rate-per-address", "0", *words, env=told)
    said = ""
    try:
        assert process.stderr
        while not (found := LISTENS.search(said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        yield process, found[1], said
    finally:
        process.kill()
        process.communicate()


def made(url: str, event: str) -> None:
    operator = bearer(SECRET)
    body = {"event_id": event, "seats": 10, "rate_per_s": 0}
    assert httpx.post(f"{url}/api/v1/events", json=body, headers=operator, timeout=30).is_success
    assert httpx.post(f"{url}/api/v1/events/{event}/open", headers=operator, timeout=30).is_success


def test_a_killed_gateway_loses_nothing_and_doubles_nothing(valkey_standalone: Lab, tmp_path: Path) -> None:
    people, key_file = 600, str(tmp_path / "tokens.pem")
    answered: dict[int, str] = {}

    def join(http: httpx.Client, one: int) -> bool:
        body = {"event_id": "concert", "user_id": f"user-{one}"}
        try:
            answer = http.post(JOIN, json=body, headers={"Idempotency-Key": f"key-{one}"})
        except httpx.TransportError:
            return False
        if not answer.is_success:
            return False
        ticket: str = answer.json()["ticket"]
        assert answered.setdefault(one, ticket) == ticket
        return True

    with running(valkey_standalone, "--signing-key", key_file) as (process, url, _):
        made(url, "concert")
        with httpx.Client(base_url=url, timeout=30) as http, ThreadPoolExecutor(16) as pool:
            work = [pool.submit(join, http, one) for one in range(people)]
            while len(answered) < people // 4:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            first = sum(one.result() for one in work)
    assert people // 4 <= first < people  # in the middle of it
    with running(valkey_standalone, "--signing-key", key_file, port=httpx.URL(url).port or 0) as (_, again, _):
        assert again == url
        with httpx.Client(base_url=url, timeout=30) as http, ThreadPoolExecutor(16) as pool:
            assert all(pool.map(lambda one: join(http, one), range(people)))
            counts = http.get("/api/v1/events/concert", headers=bearer(SECRET)).json()["counts"]
            assert counts["joined"] == counts["waiting"] == people
            places = [
                http.get("/api/v1/queue/status", headers=bearer(answered[one])).json()["position"]
                for one in range(people)
            ]
            assert sorted(places) == [*range(1, people + 1)]


def test_two_gateways_with_one_key_give_the_same_token(valkey_standalone: Lab, tmp_path: Path) -> None:
    path = tmp_path / "tokens.pem"
    with (
        running(valkey_standalone, WAITINGROOM_SIGNING_KEY=str(path)) as (_, one, said),
        running(valkey_standalone, WAITINGROOM_SIGNING_KEY=str(path)) as (_, other, _),
    ):
        assert "Warning" not in said and path.stat().st_mode & 0o777 == 0o600
        made(one, "concert")
        operator = bearer(SECRET)
        faster = {"rate_per_s": 1000}
        assert httpx.patch(f"{other}/api/v1/events/concert", json=faster, headers=operator, timeout=30).is_success
        ticket = httpx.post(f"{one}{JOIN}", json={"event_id": "concert"}, timeout=30).json()["ticket"]
        body, enter = {"ticket": ticket}, "/api/v1/queue/enter"
        entered = [httpx.post(f"{url}{enter}", json=body, timeout=30).json() for url in (one, other, one)]
        assert len({answer["token"] for answer in entered}) == 1
        held = httpx.post(
            f"{other}/api/v1/seats/hold", json={"seats": ["1"]}, headers=bearer(entered[0]["token"]), timeout=30
        )  # fmt: skip
        assert held.is_success


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_a_stream_open(valkey_standalone: Lab, how: signal.Signals) -> None:
    with running(valkey_standalone) as (process, url, said):
        assert "Warning: no --signing-key" in said and "replicas follow later" in said
        made(url, "concert")
        ticket = httpx.post(f"{url}{JOIN}", json={"event_id": "concert"}, timeout=30).json()["ticket"]
        with httpx.stream("GET", f"{url}/api/v1/queue/updates", params={"ticket": ticket}, timeout=10) as stream:
            lines = stream.iter_lines()
            while next(lines) != "event: place":
                pass
            began = time.monotonic()
            process.send_signal(how)
            list(lines)
        assert process.wait(5) == 0 and time.monotonic() - began < 5
        assert process.stderr and "Traceback" not in process.stderr.read()


def test_the_log_has_the_line_of_a_join_and_no_ticket(valkey_standalone: Lab) -> None:
    with running(valkey_standalone, "--access-log") as (process, url, _):
        made(url, "concert")
        joined = httpx.post(f"{url}{JOIN}", json={"event_id": "concert", "user_id": "ann"}, timeout=30).json()
        httpx.get(f"{url}/api/v1/queue/status", params={"ticket": joined["ticket"]}, timeout=30)
        process.terminate()
        said = process.communicate(timeout=5)[1]
    assert f"stream_id={joined['stream_id']} user_id=ann user_pos=1 global_pos=1" in said
    assert "GET /api/v1/queue/status 200" in said
    assert joined["ticket"] not in said


@pytest.mark.parametrize(
    ("words", "env", "code", "why"),
    [
        (["--secret-file", "short"], {}, 2, "the secret must have 16 or more"),
        (["--secret-file", "missing"], {}, 10, "reading the secret from missing: No such file"),
        (["--secret-file", "missing"], {}, 10, "openssl rand -hex 16 > missing"),
        (["--replicas", "1"], {"REDIS_MODE": "enterprise"}, 2, "does not pass WAIT on"),
        (["--signing-key", "open.pem"], {}, 14, "others than its owner"),
        (["--allow-origin", "shop"], {}, 2, "no origin"),
        (["--port", "99999"], {}, 2, "less than or equal"),
        ([], {"WAITINGROOM_REPLICAS": "many"}, 2, "WAITINGROOM_REPLICAS"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_at_the_start(
    words: list[str], env: dict[str, str], code: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    typed: Typed,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("secret\n")
    (tmp_path / "open.pem").touch(0o644)
    os.chmod(tmp_path / "open.pem", 0o644)  # noqa: PTH101 - whatever the umask
    done = typed("waitingroom", "--port", "0", *words, env={"REDIS_NODES": "127.0.0.1:1", **env}, timeout_s=20)
    assert done.returncode == code and why in done.stderr


def test_the_start_says_where_the_pages_are_and_how_to_administer(valkey_standalone: Lab) -> None:
    for secret in ("", SECRET):
        with running(valkey_standalone, WAITINGROOM_SECRET=secret) as (process, url, _):
            assert process.stderr
            assert f"{url}/wait/EVENT" in process.stderr.readline()
            if not secret:
                told = process.stderr.readline()
                assert "Administration is off" in told and "WAITINGROOM_SECRET=$(" in told


def test_a_port_that_is_taken_is_refused(typed: Typed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = typed("waitingroom", "--port", port, env={"REDIS_NODES": "127.0.0.1:1"}, timeout_s=20)
    assert done.returncode == 14 and "another program listens there" in done.stderr
    assert "WAITINGROOM_PORT" in done.stderr
