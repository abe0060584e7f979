"""A partition by a packet filter: silent, both ways, for older servers too, and never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from breaking import EXPECTED, applied, fill, values
from support import eventually
from understudy import lab
from understudy.drill import packet_filter
from understudy.drill.chosen import shards_of
from understudy.drill.fault import Scene
from understudy.errors import RefusedError, ServerSaidError, UsageError
from understudy.lab import Lab, layout
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire

FILTER = "method=packet-filter"


def nft(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["nft", *words], input=given, capture_output=True, text=True, check=False)


def tables(pid: int | None = None) -> set[str]:
    """The tables of a process, or of this one."""
    mine = f"understudy_{pid or os.getpid()}_"
    return {line.split()[-1] for line in nft("list", "tables", "ip").stdout.splitlines() if mine in line}


def unusable() -> str:
    """Why nft cannot be used here; nothing where it can."""
    if sys.platform != "linux" or not shutil.which("nft"):
        return "there is no nft"
    return nft("-c", "-f", "-", given="table ip understudy_try { flags owner; }").stderr


usable = pytest.mark.skipif(bool(unusable()), reason=f"no packet filter of our own: {unusable()[:80]!r}")


def cut(one: Lab, undo: ExitStack, *words: str, given: tuple[str, ...] = (FILTER,)) -> Scene:
    return applied(one, undo, "partition", *words, given=given)


def acknowledged(one: Lab, key: str, within_ms: int) -> object:
    """How many replicas acknowledge a write to the first primary in time."""
    address = one.node("node-1").address
    with Wire(address, Target((address,))) as wire:
        assert wire.call("SET", key, "1") == b"OK"
        return wire.call("WAIT", 1, within_ms)


@pytest.fixture(params=["valkey", "redis 7"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Lab]:
    server = None if request.param == "valkey" else shutil.which("redis-server")
    if request.param != "valkey" and server is None:
        pytest.skip("no redis-server on the PATH")
    with lab.cluster(node_timeout_ms=1000, server=server) as one:
        fill(one)
        yield one


@usable
def test_a_cut_primary_acknowledges_writes_while_its_replica_is_promoted_and_everything_is_whole_afterwards(
    cluster: Lab,
) -> None:
    with ExitStack() as undo:
        assert acknowledged(cluster, "{06S}before", 5000) == 1
        cut(cluster, undo, "node-1")
        assert len(tables()) == 1
        assert cluster.call("node-1", "SET", "{06S}during", "1") == "OK"
        assert eventually(lambda: cluster.call("node-4", "ROLE")[0] == "master")
        assert cluster.call("node-1", "ROLE")[0] == "master"
        assert eventually(lambda: "cluster_state:ok" in cluster.call("node-4", "CLUSTER", "INFO"))
        assert cluster.call("node-4", "GET", "{06S}before") == "1"
        assert cluster.call("node-4", "GET", "{06S}during") is None
        with pytest.raises(ServerSaidError, match="CLUSTERDOWN"):
            cluster.call("node-1", "SET", "{06S}late", "1")
    cluster.heal()
    assert not tables()
    assert cluster.call("node-1", "ROLE")[0] == "slave"
    assert cluster.call("node-1", "CONFIG", "GET", "bind-source-addr")[1] == ""
    assert values(cluster) == EXPECTED


@usable
def test_a_cut_replica_no_longer_hears_its_primary_and_catches_up_afterwards(cluster: Lab) -> None:
    with ExitStack() as undo:
        cut(cluster, undo, "node-4")
        assert cluster.call("node-4", "PING") == "PONG"
        assert acknowledged(cluster, "{06S}a", 300) == 0
    cluster.heal()
    assert acknowledged(cluster, "{06S}b", 5000) == 1


@usable
def test_nothing_is_heard_of_the_cut_by_either_side_and_connections_stay_open() -> None:
    with lab.cluster(node_timeout_ms=15_000) as cluster, ExitStack() as undo:
        cut(cluster, undo, "node-1")
        time.sleep(1)
        assert "connected_slaves:1" in cluster.call("node-1", "INFO", "replication")
        assert cluster.call("node-4", "ROLE")[3] == "connected"
        assert acknowledged(cluster, "{06S}a", 300) == 0
        undo.close()
        cluster.heal()


@usable
def test_a_majority_cut_off_is_a_cluster_without_a_vote_and_a_client_behind_the_endpoint_is_served_again() -> None:
    with lab.enterprise(node_timeout_ms=1000, password="secret") as stack, ExitStack() as undo:
        fill(stack)
        scene = cut(stack, undo, "majority")
        left = next(s.primary for s in shards_of(stack) if s.primary and s.primary not in scene.nodes)
        assert eventually(lambda: "cluster_state:fail" in stack.call(left, "CLUSTER", "INFO"))
        assert all(stack.call(node, "ROLE")[0] == "master" for node in scene.nodes)
        undo.close()
        stack.heal()
        assert values(stack) == EXPECTED


@usable
@pytest.mark.parametrize("moment", ["prepare", "filter"])
def test_the_rules_are_gone_when_it_breaks_off_half_way(
    valkey_cluster: Lab, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "prepare":
        monkeypatch.setattr("understudy.drill.sources.reconnect", break_off)
    else:
        monkeypatch.setattr("understudy.drill.packet_filter.Deadline.until", break_off)
    with pytest.raises(KeyboardInterrupt), ExitStack() as undo:
        cut(valkey_cluster, undo)
    monkeypatch.undo()
    assert not tables()
    valkey_cluster.heal()


@usable
def test_the_kernel_removes_the_rules_of_a_process_that_was_killed() -> None:
    program = (
        "import sys, time; from pathlib import Path; from understudy.drill.packet_filter import Cut, PacketFilter\n"
        "from understudy.lab.layout import place\n"
        "print(PacketFilter(Cut((place('node-1', 'valkey', 'primary', 1025, Path()),), (11025,))).table, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().strip() in tables(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    assert eventually(lambda: not tables(process.pid))


def test_rules_name_only_what_the_cut_nodes_and_servers_say(valkey_cluster: Lab) -> None:
    node = layout.of_kind(valkey_cluster.nodes, "valkey")[0]
    text = packet_filter.ruleset("t", packet_filter.Cut((node,), (17001, 17002), (40001,)))
    own = f"127.77.{node.inner_port // 256}.{node.inner_port % 256}"
    assert text.count("\n") == 1
    assert f"ip saddr {{ {own} }} drop" in text
    assert f"tcp dport {{ {node.inner_port + 10000} }} drop" in text
    assert "tcp sport { 40001 } tcp dport { 17001, 17002 } drop" in text
    assert f"ip saddr 127.77.0.0/16 tcp dport {{ {node.inner_port} }} drop" in text


def test_where_it_cannot_be_done_it_is_refused_and_the_relay_is_named(
    valkey_cluster: Lab, valkey_sentinel: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as undo, pytest.raises(RefusedError, match="sentinels") as caught:
        cut(valkey_sentinel, undo)
    assert "relay" in caught.value.hint
    with ExitStack() as undo, pytest.raises(UsageError, match="no method"):
        cut(valkey_cluster, undo, given=("method=scissors",))
    monkeypatch.setattr(packet_filter, "_nft", lambda: None)
    with ExitStack() as undo, pytest.raises(RefusedError, match=r"no command nft|no nftables") as caught:
        cut(valkey_cluster, undo)
    assert "root" in caught.value.hint
    monkeypatch.setattr(packet_filter, "_nft", lambda: shutil.which("false"))
    monkeypatch.setattr(sys, "platform", "linux")
    with ExitStack() as undo, pytest.raises(RefusedError, match="nft said"):
        cut(valkey_cluster, undo)
