"""What a user of `understudy fault` notices."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from conftest import Typed
from support import eventually, started
from understudy.cli.options import duration_s
from understudy.drill.faults import FAULTS
from understudy.errors import UsageError
from understudy.lab import named


@pytest.fixture
def running(typed: Typed, port: str) -> Iterator[int]:
    """The port of a server that runs as the lab `one`."""
    up = typed("up", "standalone", "--name", "one", "--port", port)
    assert up.returncode == 0, up.stderr
    yield int(port)
    typed("down", "--name", "one")


def state_of_node() -> str:
    return named.find("one").node("node-1").state


def test_a_fault_is_told_held_undone_and_the_lab_is_whole(typed: Typed, running: int) -> None:
    answer = typed("fault", "pause", "--for", "100ms")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "The lab one is whole again.\n"
    assert "Paused node-1." in answer.stderr
    with redis.Redis(port=running, protocol=2) as client:
        assert client.ping()


def test_a_fault_that_is_kept_stays_and_up_mends_it(typed: Typed, running: int) -> None:
    answer = typed("fault", "kill", "node-1", "--keep", "--json")
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert said["nodes"] == ["node-1"]
    assert "understudy up standalone --name one" in said["mend"]
    assert state_of_node() == "dead"
    assert typed("up", "standalone", "--name", "one", "--port", str(running)).returncode == 0
    assert state_of_node() == "running"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_undoes_it_at_once(running: int, number: signal.Signals) -> None:
    with started("fault", "pause", "--for", "10m", env={}) as command:
        assert eventually(lambda: state_of_node() == "paused")
        command.send_signal(number)
        _, told = command.communicate(timeout=20)
    assert command.returncode == 128 + number, told
    assert state_of_node() == "running"


def test_even_a_killed_command_leaves_no_relay_and_the_server_on_its_port(running: int) -> None:
    with started("fault", "slow", "--set", "ms=300", "--for", "10m", env={}) as command:
        assert command.stderr is not None
        assert "Slowed node-1" in command.stderr.readline()
        command.kill()
        command.communicate()

    def answers() -> bool:
        try:
            with redis.Redis(port=running, protocol=2, socket_timeout=0.25) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    assert eventually(answers)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["explode"], 2, "One of: kill"),
        (["failover"], 2, "standalone"),
        (["kill", "node-9"], 11, "Or in words: primary"),
        (["kill", "primary:2"], 2, "it has 1 shard"),
        (["kill", "--for", "soon"], 2, "500ms"),
        (["slow", "--set", "ms=much"], 2, "'much' is not a number"),
        (["slow", "--set", "ms=-1"], 2, "not a number, 0 or more"),
        (["slow", "--set", "speed=1"], 2, "It has ms=100"),
        (["slow", "--set", "ms"], 2, "not name=value"),
        (["slow", "--set", "ms=0"], 2, "no delay"),
        (["slow", "--keep"], 14, "--for 10m"),
        (["kill", "--name", "two"], 11, "none of that name"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(
    typed: Typed, running: int, words: list[str], code: int, told: str
) -> None:
    before = named.find("one").nodes
    answer = typed("fault", *words)
    assert answer.returncode == code, answer.stderr
    assert told in answer.stderr
    assert named.find("one").nodes == before
    assert state_of_node() == "running"


def test_a_limit_is_taken_back_even_when_nobody_is_left_to_undo_it(running: int) -> None:
    with (
        redis.Redis(port=running, protocol=2) as client,
        started("fault", "full-memory", "--for", "10m", env={}) as one,
    ):
        before = client.config_get("maxmemory*")
        assert eventually(lambda: client.config_get("maxmemory*") != before)
        one.kill()
        one.communicate(timeout=20)
        assert eventually(lambda: client.config_get("maxmemory*") == before)


def test_without_a_lab_it_says_how_to_start_one(typed: Typed) -> None:
    answer = typed("fault", "kill")
    assert answer.returncode == 11
    assert "understudy up cluster" in answer.stderr


def test_all_kinds_are_listed(typed: Typed) -> None:
    for words in (["fault"], ["fault", "--list"]):
        answer = typed(*words)
        assert answer.returncode == 0
        assert all(name in answer.stdout for name in FAULTS)
    assert [one["name"] for one in json.loads(typed("fault", "--json").stdout)] == list(FAULTS)


def test_the_page_of_faults_names_every_kind_and_parameter() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    for fault in FAULTS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{fault.name}` |"))
        assert all(f"`{key}`" in row for key in fault.defaults)
        assert f"`{fault.nodes}`" in row


@pytest.mark.parametrize(
    ("text", "expected"), [("500ms", 0.5), ("10s", 10), ("2m", 120), ("1h", 3600), ("1.5", 1.5), (" 3s ", 3)]
)
def test_a_duration_is_read(text: str, expected: float) -> None:
    assert duration_s(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1s", "10 parsecs", "1s2", "nan", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        duration_s(text)
