"""What a user of up, status, logs, down and clean notices."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from conftest import Typed
from support import eventually
from understudy.lab import guardian, state


def data(answer: subprocess.CompletedProcess[str]) -> Any:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


def nodes(typed: Typed, name: str) -> dict[str, dict[str, Any]]:
    [found] = data(typed("status", "--name", name, "--json"))
    return {node["name"]: node for node in found["nodes"]}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [("standalone", 1), ("sentinel", 6), ("cluster", 6), ("enterprise", 7)],
)
def test_a_lab_goes_up_is_seen_and_goes_down(typed: Typed, port: str, layout: str, expected: int) -> None:
    up = typed("up", layout, "--port", port)
    assert up.returncode == 0, up.stderr
    assert f"The lab {layout} is up" in up.stdout
    said = up.stdout.partition("Next:\n")[2].splitlines()
    assert said[0].endswith("understudy status"), "works without a client of the servers"
    assert said[-1].endswith("understudy down")
    again = typed("up", layout, "--port", port)
    assert again.stdout == up.stdout

    seen = nodes(typed, layout)
    assert len(seen) == expected
    assert {node["state"] for node in seen.values()} == {"running"}
    if layout in {"cluster", "enterprise"}:
        assert sum(node["slots"] or 0 for node in seen.values()) == 16384
    assert "node-1" in typed("status").stdout
    assert "node-1" in typed("logs").stdout
    assert "usable after" in typed("logs", "lab").stdout

    refused = typed("clean")
    assert refused.returncode == 14
    down = typed("down")
    assert down.stdout == f"The lab {layout} is down.\n"
    assert "node-1" in typed("logs").stdout
    assert typed("down").stdout == "No lab is running.\n"
    assert typed("clean").returncode == 0
    assert state.names() == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


@pytest.fixture
def single(typed: Typed, port: str) -> Iterator[dict[str, Any]]:
    """What `up standalone --name one --json` says of a lab that is now running."""
    yield data(typed("up", "standalone", "--name", "one", "--port", port, "--json"))
    typed("down", "--name", "one")


def test_status_counts_keys_and_tells_a_dead_node_and_up_heals_it(
    typed: Typed, port: str, single: dict[str, Any]
) -> None:
    with redis.Redis(port=int(port), protocol=2) as client:
        client.set("a", "1")
    assert nodes(typed, "one")["node-1"]["keys"] == 1
    os.kill(single["nodes"][0]["pid"], signal.SIGKILL)
    assert eventually(lambda: nodes(typed, "one")["node-1"]["state"] == "dead")
    assert typed("status").stdout.startswith("one: standalone, stopped")
    again = data(typed("up", "standalone", "--name", "one", "--port", port, "--json"))
    assert again["did"] == "started"


def test_a_node_of_a_sentinel_lab_that_died_is_started_again_by_up(typed: Typed, port: str) -> None:
    up = data(typed("up", "sentinel", "--port", port, "--json"))
    [pid] = [node["pid"] for node in up["nodes"] if node["name"] == "node-3"]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: nodes(typed, "sentinel")["node-3"]["state"] == "dead")
    assert ", degraded" in typed("status").stdout
    again = typed("up", "sentinel", "--port", port)
    assert "Started again: node-3." in again.stdout
    assert nodes(typed, "sentinel")["node-3"]["state"] == "running"


def test_other_options_for_a_running_lab_are_refused_and_named(typed: Typed, port: str, single: dict[str, Any]) -> None:
    refused = typed("up", "standalone", "--name", "one", "--port", port, "--replicas", "1")
    assert refused.returncode == 14
    assert "--replicas 0, not 1" in refused.stderr
    assert "Try: " in refused.stderr
    as_data = typed("up", "standalone", "--name", "one", "--port", port, "--replicas", "1", "--json")
    assert as_data.returncode == 14
    assert json.loads(as_data.stdout)["error"] == "RefusedError"


def test_a_taken_port_is_refused_with_the_lab_that_has_it(typed: Typed, port: str, single: dict[str, Any]) -> None:
    refused = typed("up", "standalone", "--name", "two", "--port", port)
    assert refused.returncode == 14
    assert f"port {port}" in refused.stderr
    assert "the lab 'one'" in refused.stderr


def test_a_taken_port_is_refused_with_the_program_that_has_it(typed: Typed, port: str) -> None:
    with socket.create_server(("127.0.0.1", int(port))):
        refused = typed("up", "standalone", "--port", port)
    assert refused.returncode == 14
    if sys.platform == "linux":
        assert f"(pid {os.getpid()})" in refused.stderr


def test_two_labs_run_side_by_side_and_commands_ask_which(typed: Typed, port: str, single: dict[str, Any]) -> None:
    second = typed("up", "standalone", "--port", str(int(port) + 1))
    assert second.returncode == 0
    assert second.stdout.endswith("understudy down --name standalone\n"), "without its name it would be refused"
    which = typed("down")
    assert which.returncode == 2
    assert "one, standalone" in which.stderr
    assert len(data(typed("status", "--json"))) == 2
    assert len(data(typed("down", "--all", "--json"))) == 2
    assert data(typed("status", "--json")) == []


def test_two_ups_at_once_make_one_lab(typed: Typed, port: str) -> None:
    words = [sys.executable, "-m", "understudy", "up", "standalone", "--port", port, "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted(one["did"] for one in said) == ["running", "started"]
    assert said[0]["nodes"] == said[1]["nodes"]


def test_data_outlives_down_with_persist(typed: Typed, port: str) -> None:
    words = ("up", "cluster", "--persist", "--port", port, "--replicas", "0", "--node-timeout", "1000")
    assert typed(*words).returncode == 0
    with redis.RedisCluster("127.0.0.1", int(port), protocol=2) as client:
        for i in range(20):
            client.set(f"key:{i}", i)
    assert typed("down").returncode == 0
    assert "cluster: cluster, persist, stopped" in typed("status").stdout
    refused = typed("up", "cluster", "--port", port)
    assert refused.returncode == 14
    assert "; --persist;" in refused.stderr
    up = data(typed(*words, "--json"))
    assert up["did"] == "started"
    with redis.RedisCluster("127.0.0.1", int(port), protocol=2) as client:
        assert [client.get(f"key:{i}") for i in range(20)] == [str(i).encode() for i in range(20)]


def test_a_sentinel_lab_with_tls_keeps_its_data_and_its_certificates(typed: Typed, port: str) -> None:
    words = ("up", "sentinel", "--persist", "--tls", "--port", port)
    authorities = []
    for value in (None, b"kept"):
        up = data(typed(*words, "--json"))
        authorities.append(Path(up["tls_ca"]).read_bytes())
        with redis.Redis("127.0.0.1", int(port), ssl=True, ssl_ca_certs=up["tls_ca"], protocol=2) as client:
            assert client.get("a") == value
            client.set("a", "kept")
        assert typed("down").returncode == 0
    assert authorities[0] == authorities[1]


def test_without_persist_a_lab_is_empty_after_down(typed: Typed, port: str) -> None:
    for _ in range(2):
        assert typed("up", "standalone", "--port", port).returncode == 0
        with redis.Redis(port=int(port), protocol=2) as client:
            assert client.dbsize() == 0
            client.set("a", "1")
        assert typed("down").returncode == 0


def test_a_state_file_from_before_a_reboot_kills_nobody_and_stops_nobody(typed: Typed, port: str) -> None:
    up = data(typed("up", "standalone", "--port", port, "--json"))
    os.kill(up["nodes"][0]["pid"], signal.SIGKILL)
    record = state.read("standalone")
    assert record is not None
    # After a reboot the same pid may be another process: here it is this one.
    me = guardian.Process(os.getpid(), "another boot:1")
    nodes = [{**node.as_data(), "process": list(me)} for node in record.nodes]
    file = state.directory("standalone") / "lab.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "nodes": nodes}))
    assert data(typed("up", "standalone", "--port", port, "--json"))["did"] == "started"
    assert typed("down").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.0, 0.2, 1.2])
def test_an_interrupted_up_leaves_nothing_that_the_next_does_not_put_right(
    typed: Typed, port: str, number: signal.Signals, after_s: float
) -> None:
    words = [sys.executable, "-m", "understudy", "up", "cluster", "--port", port, "--node-timeout", "500"]
    interrupted = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually((state.home() / "locks" / "cluster").exists)
    deadline = time.monotonic() + after_s
    eventually(lambda: time.monotonic() > deadline)
    interrupted.send_signal(number)
    _, stderr = interrupted.communicate(timeout=30)
    assert "Traceback" not in stderr
    assert interrupted.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert data(typed("status", "--json")) == []
    assert typed("down").returncode == 0
    assert not [node for record in [state.read("cluster")] if record for node in record.nodes if node.alive]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


def test_the_password_and_the_state_are_for_their_owner_only(typed: Typed, port: str) -> None:
    secret = "s3cret-word"
    up = typed("up", "standalone", "--port", port, env={"UNDERSTUDY_PASSWORD": secret})
    assert secret not in up.stdout
    home = state.home()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((state.directory("standalone") / "lab.json").stat().st_mode) == 0o600
    [node] = nodes(typed, "standalone").values()
    assert secret.encode() not in Path(f"/proc/{node['pid']}/cmdline").read_bytes() if sys.platform == "linux" else True
    with redis.Redis(port=int(port), protocol=2) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=int(port), password=secret, protocol=2) as client:
        assert client.ping()


def test_another_server_runs_when_it_is_named(typed: Typed, port: str) -> None:
    other = shutil.which("redis-server")
    if other is None:
        pytest.skip("no redis-server on the PATH")
    up = typed("up", "standalone", "--port", port, env={"UNDERSTUDY_SERVER": other})
    assert "on redis 7" in up.stdout
    missing = typed("up", "standalone", "--server", "/no/such/server", "--name", "other")
    assert missing.returncode == 11


def test_logs_follow_what_is_written(typed: Typed, port: str, single: dict[str, Any]) -> None:
    words = [sys.executable, "-m", "understudy", "logs", "node-1", "-f", "-n", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        with redis.Redis(port=int(port), protocol=2) as client:
            client.execute_command("DEBUG", "LOG", "a message of mine")
        assert "a message of mine" in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(timeout=10) == 130


def test_names_that_are_not_there_are_answered_with_those_that_are(typed: Typed, single: dict[str, Any]) -> None:
    for words in (("status", "--name", "nine"), ("down", "--name", "nine"), ("logs", "--name", "nine")):
        missing = typed(*words)
        assert missing.returncode == 11
        assert "one" in missing.stderr
    assert typed("logs", "node-9").returncode == 11
    assert typed("up", "pyramid").returncode == 2
    assert typed("up", "cluster", "--name", "../x").returncode == 2


def test_help_is_quick_and_has_examples(typed: Typed) -> None:
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def seconds() -> float:
        # Of processor time: what else this machine does meanwhile is not the command's fault.
        begun = spent()
        assert typed("--help").returncode == 0
        return spent() - begun

    assert min(seconds() for _ in range(5)) < 0.2
    for verb in ("up", "down", "status", "logs", "clean"):
        assert "Examples:" in typed(verb, "--help").stdout
    assert typed("--version").stdout.startswith("understudy ")
