"""Which docker commands we type, and what is said where they fail.

The `docker` on the PATH here is a stand-in, written by these tests: it notes its words and answers as told. What real
engines make of such commands is seen in tests/docker/test_labs.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from conftest import Typed
from support import repository_root
from understudy.errors import NotFoundError, RefusedError, UnreachableError
from understudy.lab import containers, docker
from understudy.lab.containers import Box
from understudy.lab.layout import Options
from understudy.lab.layouts import find_layout
from understudy.lab.server import LabNode

_STAND_IN = """#!/bin/sh
printf '%s\\n' "$*" >> "{folder}/typed"
[ -e "{folder}/error" ] && {{ cat "{folder}/error" >&2; exit 1; }}
case "$1" in
  create) echo "id-of-$3" ;;
  *) [ -e "{folder}/$1" ] && cat "{folder}/$1" ;;
esac
exit 0
"""
INFO = "Debian GNU/Linux|name=seccomp,profile=default \n"


class StandIn:
    """The stand-in: `answers` of a docker command by its first word, and what was `typed`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "docker"
        self.program.write_text(_STAND_IN.format(folder=folder))
        self.program.chmod(0o755)
        (folder / "info").write_text(INFO)

    def answers(self, **said: str) -> None:
        for word, text in said.items():
            (self.folder / word).write_text(text)

    @property
    def typed(self) -> list[str]:
        file = self.folder / "typed"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    _forget()
    yield StandIn(folder)
    _forget()


def _forget() -> None:
    docker.engine.cache_clear()
    docker.identify.cache_clear()
    docker.forget_states()


@pytest.fixture
def plan(tmp_path: Path) -> tuple[list[tuple[LabNode, list[str]]], Box]:
    options = Options("cluster", 7001, 3, 1, image="valkey/valkey:9", network="host")
    home = tmp_path / "labs" / "one"
    nodes = find_layout("cluster").plan(options, home)
    launches = [(node, ["valkey-server", f"{node.directory}/valkey.conf"]) for node in nodes]
    ports = tuple(node.inner_port for node in nodes)
    return launches, Box("one", "cluster", home, "valkey/valkey:9", False, "valkey-server", ports, 7200)


def test_every_server_is_created_recorded_and_then_started_as_this_user_on_the_host_s_network(
    stand_in: StandIn, plan: tuple[list[tuple[LabNode, list[str]]], Box]
) -> None:
    launches, box = plan
    recorded: list[LabNode] = []

    def record(nodes: list[LabNode]) -> None:
        recorded.extend(nodes)
        assert not any(line.startswith("start") for line in stand_in.typed)

    containers.start(launches, box, record)
    created = sorted(line for line in stand_in.typed if line.startswith("create"))
    assert len(created) == 6
    directory = launches[0][0].directory
    assert created[0] == (
        f"create --name understudy-one-node-1 --user {os.getuid()}:{os.getgid()} --cap-drop ALL "
        f"--security-opt no-new-privileges --label understudy.node=node-1 --label understudy.home={box.directory} "
        "--label understudy.layout=cluster --label understudy.kind=valkey --label understudy.role=primary "
        f"--label understudy.port=7001 --label understudy.lab=one --network host --workdir {directory} "
        f'--mount type=bind,"source={directory}","target={directory}" '
        f"--entrypoint valkey-server valkey/valkey:9 {directory}/valkey.conf"
    )
    assert [node.container for node in recorded] == [f"understudy-one-node-{number}" for number in range(1, 7)]
    assert {line for line in stand_in.typed if line.startswith("start")} == {
        f"start id-of-understudy-one-node-{number}" for number in range(1, 7)
    }
    again = [LabNode.from_data(json.loads(json.dumps(node.as_data()))) for node in recorded]
    assert again == recorded


def test_bridged_one_container_publishes_the_ports_on_loopback_and_all_others_share_its_network(
    stand_in: StandIn, plan: tuple[list[tuple[LabNode, list[str]]], Box]
) -> None:
    launches, box = plan
    containers.start(launches, replace(box, bridged=True), lambda _: None)
    [network] = [line for line in stand_in.typed if line.startswith("create --name understudy-one-network ")]
    for port in range(7001, 7007):
        assert f"--publish 127.0.0.1:{port}:{port} " in network
    others = [line for line in stand_in.typed if line.startswith("create") and line != network]
    assert len(others) == 6
    assert all("--network container:id-of-understudy-one-network " in line for line in others)


@pytest.mark.parametrize(
    ("said", "host_network", "user"),
    [
        (INFO, True, f"{os.getuid()}:{os.getgid()}"),
        ("Docker Desktop|name=seccomp,profile=unconfined \n", False, f"{os.getuid()}:{os.getgid()}"),
        ("Ubuntu 24.04|name=seccomp,profile=builtin name=rootless \n", False, "0:0"),
    ],
)
def test_the_network_and_the_user_follow_the_engine(
    stand_in: StandIn, said: str, host_network: bool, user: str
) -> None:
    stand_in.answers(info=said)
    engine = docker.engine("trying")
    assert (engine.host_network, engine.user) == (host_network, user)


@pytest.mark.parametrize(
    ("said", "error", "why"),
    [
        ("Cannot connect to the Docker daemon. Is the docker daemon running?", UnreachableError, "connect"),
        (
            "Unable to find image 'no/such:9' locally\nError response from daemon: pull access denied for no/such",
            NotFoundError,
            "could not be pulled: pull access denied",
        ),
        ('Error response from daemon: Conflict. The name "/one-node-1" is already in use', RefusedError, "in use"),
    ],
)  # fmt: skip
def test_an_error_of_docker_says_why_and_what_to_try(
    stand_in: StandIn,
    plan: tuple[list[tuple[LabNode, list[str]]], Box],
    said: str,
    error: type[NotFoundError],
    why: str,
) -> None:
    docker.engine("before")
    if error is RefusedError:
        (stand_in.folder / "docker").write_text(
            _STAND_IN.format(folder=stand_in.folder).replace("create) echo", f"create) echo '{said}' >&2; exit 1; echo")
        )
    else:
        stand_in.answers(error=said + "\n")
    with pytest.raises(error) as caught:
        if error is NotFoundError:
            docker.identify("no/such:9")
        containers.start(*plan, lambda _: None)
    assert why in caught.value.why
    assert caught.value.hint


def test_without_docker_the_command_says_so_and_that_it_can_do_without(typed: Typed, tmp_path: Path) -> None:
    refused = typed("up", "cluster", "--with", "docker", env={"PATH": str(tmp_path)})
    assert refused.returncode == 11
    assert "there is no `docker` command" in refused.stderr
    assert "leave `--with docker` out" in refused.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--with", "podman"), "there is no --with podman"),
        (("--image", "valkey/valkey:9"), "are for containers"),
        (("--with", "docker", "--network", "overlay"), "there is no network 'overlay'"),
        (("--with", "docker", "--network", "bridge", "--tls"), "Envoy, which speaks TLS"),
        (("--with", "docker", "--server", "/usr/bin/redis-server"), "is a program of this machine"),
    ],
)
def test_what_makes_no_sense_in_containers_is_refused(typed: Typed, words: tuple[str, ...], why: str) -> None:
    refused = typed("up", "cluster", *words)
    assert refused.returncode == 2
    assert why in refused.stderr
    assert "Try: " in refused.stderr


def test_a_lab_of_processes_asks_nothing_of_docker(typed: Typed, port: str, stand_in: StandIn) -> None:
    for words in (
        ("up", "standalone", "--port", port),
        ("status",),
        ("logs",),
        ("fault", "kill", "--for", "10ms"),
        ("down",),
    ):
        assert typed(*words).returncode == 0, words
    assert stand_in.typed == []


def _row(
    node: str, kind: str, role: str, port: int | str, files: str = "/srv/docker-compose.ha.yml", *,
    lab: str = "ha", home: str = "",
) -> str:  # fmt: skip
    return "\t".join(
        [
            f"id-{node}",
            f"ha-{node}",
            "valkey/valkey:9",
            "bridge",
            lab,
            "sentinel",
            node,
            kind,
            role,
            str(port),
            home,
            "ha",
            files,
        ]
    )


def test_containers_that_a_compose_file_started_are_a_lab_which_is_not_ours_to_end(
    typed: Typed, stand_in: StandIn
) -> None:
    rows = [_row("sentinel-1", "sentinel", "sentinel", 26379), _row("node-2", "valkey", "replica", 6380)]
    stand_in.answers(ps="\n".join([*rows, _row("node-1", "valkey", "primary", 6379)]) + "\n")
    stand_in.answers(inspect="id-node-1 exited 0\nid-node-2 exited 0\nid-sentinel-1 exited 0\n")
    [lab] = json.loads(typed("status", "--name", "ha", "--json").stdout)
    assert (lab["layout"], lab["state"], lab["runs_as"]) == ("sentinel", "stopped", "adopted")
    assert [(node["name"], node["role"], node["container"]) for node in lab["nodes"]] == [
        ("node-1", "primary", "ha-node-1"),
        ("node-2", "replica", "ha-node-2"),
        ("sentinel-1", "sentinel", "ha-sentinel-1"),
    ]
    assert "`docker start ha-node-1 ha-node-2 ha-sentinel-1` brings back" in typed("status", "--name", "ha").stdout
    for verb, word in (("down", "down"), ("clean", "down --volumes")):
        refused = typed(verb, "--name", "ha")
        assert refused.returncode == 14
        assert f"Try: docker compose -p ha -f /srv/docker-compose.ha.yml {word}\n" in refused.stderr
    stand_in.answers(ps=_row("node-1", "valkey", "king", 6379) + "\n")
    assert typed("status", "--name", "ha").returncode == 12


def test_labels_that_make_no_sense_hide_no_other_lab_and_another_user_s_lab_must_be_named(
    typed: Typed, stand_in: StandIn
) -> None:
    rows = [
        _row("node-1", "valkey", "primary", 6379),
        _row("node-2", "valkey", "primary", "abc", lab="odd"),
        _row("no\tde", "valkey", "primary", 6381, lab="tab"),
        _row("node-4", "valkey", "primary", 6382, lab="hers", home="/home/her/labs/hers"),
    ]
    stand_in.answers(ps="\n".join(rows) + "\n")
    stand_in.answers(inspect="".join(f"id-node-{number} paused 7\n" for number in (1, 2, 4)))
    found = json.loads(typed("status", "--json").stdout)
    assert [lab["name"] for lab in found] == ["ha"]


@pytest.mark.parametrize(
    ("file", "lab", "layout", "roles"),
    [
        ("docker-compose.ha.yml", "ha", "sentinel", {"primary": 1, "replica": 2, "sentinel": 3}),
        ("docker-compose.cluster.yml", "cluster3", "cluster", {"primary": 3, "replica": 3}),
    ],
)
def test_a_compose_file_labels_its_nodes_and_publishes_on_loopback_only(
    file: str, lab: str, layout: str, roles: dict[str, int]
) -> None:
    services = yaml.safe_load((repository_root() / file).read_text())["services"]
    nodes = {name: one for name, one in services.items() if "labels" in one}
    labels = [one["labels"] for one in nodes.values()]
    assert {(one["understudy.lab"], one["understudy.layout"]) for one in labels} == {(lab, layout)}
    assert {role: sum(one["understudy.role"] == role for one in labels) for role in roles} == roles
    published = [port for one in services.values() for port in one.get("ports", [])]
    assert sorted(published) == sorted(f"127.0.0.1:{one['understudy.port']}:{one['understudy.port']}" for one in labels)
    for name, one in nodes.items():
        assert one["container_name"] == name
        assert one["labels"]["understudy.port"] in one["command"]
        assert one["healthcheck"]["test"][4] == one["labels"]["understudy.port"]
