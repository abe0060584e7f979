"""Topologies, as the servers describe them."""

from __future__ import annotations

import pytest

from understudy.lab import Lab
from understudy.lab.reshard import move_slot
from understudy.valkey.discovery import detect_mode, discover
from understudy.valkey.router import Router
from understudy.valkey.target import Address, Mode
from understudy.valkey.topology import Topology

NODES = """\
a1 127.0.0.1:7001@17001 myself,master - 0 0 3 connected 0-5460 10000 [5461->-b2] [7-<-c3]
b2 127.0.0.1:7002@17002,,tls-port=0,shard-id=x master - 0 0 2 connected 5461-9999 10001-10922
c3 10.0.0.3:7003@17003,cache-3.example master,fail - 0 0 5 disconnected 10923-16383
d4 127.0.0.1:7004@17004 slave a1 0 0 3 connected
e5 :0@0 master,noaddr - 0 0 0 disconnected
f6 127.0.0.1:7006@17006 handshake - 0 0 0 connected
"""


def test_cluster_nodes_is_read_whole() -> None:
    topology = Topology.from_cluster_nodes(NODES, Address("seed", 1))
    first, second, third = topology.shards
    assert first.primary and second.primary and third.primary
    assert (first.primary.address, first.primary.epoch) == (Address("127.0.0.1", 7001), 3)
    assert first.slots == frozenset(range(5461)) | {10000}
    assert first.migrating == ((5461, "b2"),)
    assert first.importing == {7}
    assert [node.address.port for node in first.replicas] == [7004]
    assert third.primary.address == Address("cache-3.example", 7003)
    assert not third.primary.healthy
    assert topology.missing_slots == frozenset(range(10923, 16384))


def test_a_node_without_an_address_is_where_we_asked() -> None:
    topology = Topology.from_cluster_nodes("a1 :7001@17001 myself,master - 0 0 1 connected 0-16383", Address("h", 9))
    assert topology.nodes[0].address == Address("h", 7001)


def test_each_layout_is_recognised_and_described(
    valkey_standalone: Lab, valkey_sentinel: Lab, valkey_cluster: Lab, valkey_enterprise: Lab
) -> None:
    shapes = {}
    for lab in (valkey_standalone, valkey_sentinel, valkey_cluster, valkey_enterprise):
        target = lab.target().with_mode(Mode.AUTO)
        mode = detect_mode(target)
        topology = discover(target.with_mode(mode))
        shapes[mode] = [(bool(shard.primary), len(shard.replicas), len(shard.slots)) for shard in topology.shards]
    assert shapes == {
        Mode.STANDALONE: [(True, 0, 0)],
        Mode.SENTINEL: [(True, 2, 0)],
        Mode.OSS_CLUSTER: [(True, 1, 5461), (True, 1, 5462), (True, 1, 5461)],
        Mode.ENTERPRISE: [(True, 0, 0)],
    }


@pytest.mark.usefixtures("valkey_cluster")
def test_a_slot_moves_with_its_keys(valkey_cluster: Lab) -> None:
    with Router(valkey_cluster.target()) as router:
        router.execute([(5474, ("SET", "{user}:1", "x"))])
        owner = router.topology.by_slot()[5474].primary
        goal = next(shard.primary for shard in router.topology.shards if shard.primary != owner)
        assert goal is not None
        try:
            assert move_slot(router, 5474, goal) == 1
            assert router.execute([(5474, ("GET", "{user}:1"))]).values == [b"x"]
            router.refresh()
            assert router.owner(5474) == goal.address
        finally:
            assert owner is not None
            router.refresh()
            move_slot(router, 5474, owner)
