"""Labs in containers: the same commands, faults and drills as on processes. Where no Docker engine answers, skipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from conftest import Typed
from engine import docker, server_image
from support import eventually

IMAGE, MISSING = server_image()
pytestmark = [
    pytest.mark.skipif(not IMAGE, reason=MISSING), pytest.mark.timeout(400), pytest.mark.long(150),
]  # fmt: skip
LIMITS = ("--max-downtime", "20s", "--max-drift", "3s")  # what a busy machine adds is not what is tested here


def said(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def states(typed: Typed, name: str) -> dict[str, str]:
    [found] = json.loads(said(typed("status", "--name", name, "--json")))
    return {node["name"]: node["state"] for node in found["nodes"]}


def ours(home: Path) -> str:
    """The containers of this test's labs."""
    return docker(
        "ps", "--all", "--filter", "label=understudy.home", "--format", '{{.Names}} {{.Label "understudy.home"}}'
    )


@pytest.fixture
def boxed(typed: Typed, understudy_home: Path, port: str) -> Iterator[Any]:
    """Start a lab in containers; whatever is left of it at the end is removed."""
    names = []

    def up(layout: str, *words: str) -> str:
        name = f"{layout}-{port}"
        names.append(name)
        said(typed("up", layout, "--name", name, "--port", port, "--with", "docker", "--image", IMAGE, *words))
        return name

    yield up
    for name in names:
        typed("clean", "--name", name, "--force", timeout_s=120)
    assert str(understudy_home) not in ours(understudy_home)


@pytest.mark.parametrize(
    ("layout", "network", "victim"),
    [
        ("standalone", "host", "node-1"),
        ("sentinel", "host", "sentinel-1"),
        ("cluster", "host", "node-4"),
        ("enterprise", "host", "node-4"),
        ("cluster", "bridge", "node-4"),
        ("sentinel", "bridge", "node-2"),
    ],
)
def test_a_lab_in_containers_goes_up_is_broken_from_outside_healed_and_goes_down(
    typed: Typed, understudy_home: Path, boxed: Any, layout: str, network: str, victim: str
) -> None:
    name = boxed(layout, "--network", network)
    seen = states(typed, name)
    assert set(seen.values()) == {"running"}
    docker("kill", f"understudy-{name}-{victim}")
    assert states(typed, name)[victim] == "dead"
    docker("pause", f"understudy-{name}-node-1") if victim != "node-1" else None
    assert victim == "node-1" or states(typed, name)["node-1"] == "paused"
    again = ("up", layout, "--name", name, "--port", name.rpartition("-")[2], "--with", "docker", "--image", IMAGE)
    said(typed(*again, "--network", network))
    assert states(typed, name) == seen
    assert "is whole again" in said(typed("fault", "kill", "node-1", "--name", name, "--for", "1s", timeout_s=120))
    assert "is whole again" in said(typed("fault", "pause", "node-1", "--name", name, "--for", "1s", timeout_s=120))
    assert "node-1" in said(typed("logs", "--name", name))
    said(typed("down", "--name", name))
    assert str(understudy_home) not in ours(understudy_home)
    assert "node-1" in said(typed("logs", "--name", name))
    owners = {path.stat().st_uid for path in understudy_home.rglob("*")}
    assert owners == {os.getuid()}


def test_with_persist_containers_have_their_data_again_after_down_and_up(typed: Typed, boxed: Any, port: str) -> None:
    name = boxed("standalone", "--persist")
    with redis.Redis(port=int(port), protocol=2) as client:
        client.set("kept", "yes")
    said(typed("down", "--name", name))
    assert boxed("standalone", "--persist") == name
    with redis.Redis(port=int(port), protocol=2) as client:
        assert client.get("kept") == b"yes"


def test_faults_that_stand_in_front_of_a_node_work_on_the_host_s_network_and_are_refused_on_a_bridge(
    typed: Typed, boxed: Any
) -> None:
    name = boxed("cluster", "--network", "host")
    for words in (("slow",), ("partition",), ("replace", "node-4")):
        assert "is whole again" in said(typed("fault", *words, "--name", name, "--for", "1s", timeout_s=150)), words
    said(typed("down", "--name", name))
    boxed("cluster", "--network", "bridge")
    for kind in ("slow", "partition", "replace"):
        refused = typed("fault", kind, "--name", name, "--for", "1s", timeout_s=120)
        assert refused.returncode == 14, refused.stderr
        assert "Docker" in refused.stderr or "published" in refused.stderr
    assert set(states(typed, name).values()) == {"running"}


@pytest.mark.parametrize("runs_as", ["processes", "containers"])
@pytest.mark.parametrize(("scenario", "layout"), [("ha", "sentinel"), ("cluster", "cluster")])
def test_the_same_drill_passes_on_processes_and_on_containers(
    typed: Typed, boxed: Any, port: str, scenario: str, layout: str, runs_as: str
) -> None:
    if runs_as == "containers":
        name = boxed(layout)
    else:
        name = layout
        said(typed("up", layout, "--port", port))
    drilled = typed("drill", scenario, "--name", name, *LIMITS, timeout_s=300)
    assert f"passed: {scenario}" in said(drilled)
    assert set(states(typed, name).values()) == {"running"}
    said(typed("down", "--name", name))


def test_what_a_killed_up_leaves_is_removed_by_down(typed: Typed, understudy_home: Path, boxed: Any, port: str) -> None:
    words = ["up", "cluster", "--name", "killed", "--port", port, "--with", "docker", "--image", IMAGE]
    up = subprocess.Popen([sys.executable, "-m", "understudy", *words], stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: str(understudy_home) in ours(understudy_home), 60)
    finally:
        up.send_signal(signal.SIGKILL)
        up.wait()
    down = typed("down", "--name", "killed")
    assert down.returncode == 0, down.stderr
    # a command of docker that it had begun may end after it
    assert eventually(lambda: not typed("down", "--name", "killed").returncode and _gone(understudy_home), 30)


def _gone(home: Path) -> bool:
    return str(home) not in ours(home)
