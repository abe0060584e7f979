"""The image's entry point, run by this machine's sh with stand-ins for what it asks: no engine is needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Protocol

import pytest

from support import repository_root

ENTRYPOINT = repository_root() / "deploy" / "image" / "entrypoint.sh"
SIX = "{0}:7001,{0}:7002,{0}:7003,{0}:7004,{0}:7005,{0}:7006"
HEADER = "Iface\tDestination\tGateway\tFlags\n"
GATEWAY = "eth0\t00000000\t010011AC\t0003\n"  # 172.17.0.1
_STANDINS = {
    "understudy": 'echo "nodes=${REDIS_NODES:-none}"; echo "home=$HOME"; echo "state=$UNDERSTUDY_HOME"; echo "words=$*"',  # noqa: E501
    "getent": 'case " $FAKE_NAMES " in *" $2"*) echo "${FAKE_ADDRESS:-192.0.2.1} STREAM $2" ;; *) exit 2 ;; esac',
    "id": 'echo "${FAKE_UID:-1000}"',
    "stat": 'echo "${FAKE_OWNER:-0:0}"',
    "setpriv": 'echo "setpriv=$2,$4"; while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
}


class Start(Protocol):
    """Starts the entry point; returns what `understudy` found, by name."""

    def __call__(self, *words: str, host: bool = False, **env: str) -> dict[str, str]: ...


@pytest.fixture
def start(tmp_path: Path) -> Start:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, body in _STANDINS.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    net, card = tmp_path / "proc" / "net", tmp_path / "sys" / "class" / "net" / "eth0"
    net.mkdir(parents=True)
    card.mkdir(parents=True)
    (net / "route").write_text(HEADER + GATEWAY)
    (card / "ifindex").write_text("7\n")

    def run(*words: str, host: bool = False, **env: str) -> dict[str, str]:
        (card / "iflink").write_text("7\n" if host else "8\n")
        done = subprocess.run(
            ["sh", str(ENTRYPOINT), *words],
            env={
                "PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(tmp_path),
                "ENTRYPOINT_ETC": str(tmp_path),
                "ENTRYPOINT_SYS": str(tmp_path / "sys"), "ENTRYPOINT_PROC": str(tmp_path / "proc"), **env,
            },
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(line.partition("=")[::2] for line in done.stdout.splitlines())  # type: ignore[misc]

    return run


def test_on_the_hosts_network_the_nodes_are_on_loopback(start: Start) -> None:
    assert start("backup", host=True)["nodes"] == SIX.format("127.0.0.1")


def test_in_a_container_they_are_at_the_gateway(start: Start) -> None:
    assert start("backup")["nodes"] == SIX.format("172.17.0.1")


def test_where_docker_desktop_has_a_name_for_the_host_it_is_taken(start: Start) -> None:
    found = start("verify", "-i", "/in", FAKE_NAMES="host.docker.internal")
    assert found["nodes"] == SIX.format("host.docker.internal")
    assert found["words"] == "verify -i /in"


def test_on_the_network_of_the_nodes_they_are_asked_by_ipv6(start: Start) -> None:
    assert start("backup", FAKE_NAMES="redis-1", FAKE_ADDRESS="fd00:7001::11")["nodes"] == "[fd00:7001::11]:7001"


def test_a_name_that_leads_to_ipv4_only_does_not_make_it_the_network_of_the_nodes(start: Start) -> None:
    assert start("backup", FAKE_NAMES="redis-1", FAKE_ADDRESS="::ffff:10.0.0.1")["nodes"] == SIX.format("172.17.0.1")


@pytest.mark.parametrize(
    "env",
    [
        {"REDIS_URL": "redis://cache:6379"},
        {"REDIS_URL_FILE": "/run/secrets/redis_url"},
        {"REDIS_SENTINELS": "a:26379"},
        {"ENV_PROFILE": "prd"},
        {"UNDERSTUDY_CONFIG": "/etc/understudy.toml"},
        {"PROFILE": "DEVE"},
    ],
    ids="".join,
)
def test_who_names_a_server_has_that_one(start: Start, env: dict[str, str]) -> None:
    assert start("backup", **env)["nodes"] == "none"


@pytest.mark.parametrize("words", [("--env-file", "/etc/stack.env"), ("--env-file=/etc/stack.env",)], ids=" ".join)
def test_a_file_of_settings_may_name_the_server(start: Start, words: tuple[str, ...]) -> None:
    assert start("schedule", "run", "daily", *words)["nodes"] == "none"


def test_nodes_that_are_given_stay(start: Start) -> None:
    assert start("backup", REDIS_NODES="a:1,b:2")["nodes"] == "a:1,b:2"


def test_a_settings_file_in_the_directory_names_the_server(start: Start, tmp_path: Path) -> None:
    (tmp_path / "understudy.toml").write_text("")
    assert start("backup")["nodes"] == "none"


@pytest.mark.parametrize("words", [("demo",), ("drill", "cluster"), ("--help",), ("list",)], ids=" ".join)
def test_a_command_that_asks_no_such_server_is_told_of_none(start: Start, words: tuple[str, ...]) -> None:
    assert start(*words)["nodes"] == "none"


def test_root_becomes_the_owner_of_the_sets(start: Start) -> None:
    assert start("backup", FAKE_UID="0", FAKE_OWNER="1000:1001")["setpriv"] == "1000,1001"


def test_root_stays_where_root_owns_them(start: Start) -> None:
    assert "setpriv" not in start("backup", FAKE_UID="0", FAKE_OWNER="0:0")


def test_who_is_not_root_stays_who_it_is(start: Start) -> None:
    assert "setpriv" not in start("backup", FAKE_UID="4321", FAKE_OWNER="1000:1000")


def test_state_of_labs_goes_where_anybody_may_write(start: Start) -> None:
    assert start("demo", TMPDIR="/scratch")["state"] == "/scratch/understudy"
    assert start("demo", UNDERSTUDY_HOME="/mine")["state"] == "/mine"


@pytest.mark.parametrize(
    ("words", "env", "asked"),
    [
        ("understudy probe", {}, ("127.0.0.1", 3000, "/openapi.json")),
        ("understudy probe --host 0.0.0.0 --port=3100", {}, ("127.0.0.1", 3100, "/openapi.json")),
        ("understudy waitingroom", {"WAITINGROOM_PORT": "9000"}, ("127.0.0.1", 9000, "/healthz")),
        ("docker-init -- understudy waitingroom --host 10.0.0.7", {}, ("10.0.0.7", 8080, "/healthz")),
        ("understudy backup", {}, None),
        ("understudy schedule serve", {}, None),
    ],
)
def test_the_health_check_asks_what_the_first_process_serves(
    words: str, env: dict[str, str], asked: tuple[str, int, str] | None
) -> None:
    import runpy

    found = runpy.run_path(str(ENTRYPOINT.with_name("healthcheck.py")))["asked_at"](words.split(), env)
    assert found == asked


def test_an_owner_without_a_name_gets_one_once_for_initdb_wants_it(start: Start, tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\n")
    for _ in range(2):
        assert start("list", FAKE_UID="0", FAKE_OWNER="4242:4343")["setpriv"] == "4242,4343"
    assert passwd.read_text().splitlines()[1:] == [f"owner:x:4242:4343::{tmp_path}:/usr/sbin/nologin"]
