"""Every layout, on every server: what a client finds."""

from __future__ import annotations

import time

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from understudy import lab
from understudy.errors import UsageError
from understudy.lab import Lab
from understudy.settings import load
from understudy.valkey.configured import target_from
from understudy.valkey.target import Mode


def cluster_client(running: Lab, **options: object) -> RedisCluster:
    seeds = [ClusterNode(seed.host, seed.port) for seed in running.target(Mode.OSS_CLUSTER).seeds]
    return RedisCluster(startup_nodes=seeds, decode_responses=True, protocol=2, **options)


def single_client(running: Lab, **options: object) -> redis.Redis:
    seed = running.target().seeds[0]
    return redis.Redis(seed.host, seed.port, decode_responses=True, protocol=2, **options)


def test_a_standalone_server_reads_and_writes(any_server: str | None) -> None:
    with lab.standalone(server=any_server) as running, single_client(running) as client:
        assert client.set("a", "1")
        assert client.get("a") == "1"
    assert not running.directory.exists()
    assert [node.state for node in running.nodes] == ["dead"]


def test_a_cluster_is_whole_and_in_sync_as_soon_as_it_is_there(any_server: str | None) -> None:
    with lab.cluster(server=any_server) as running:
        with cluster_client(running) as client:
            for i in range(50):
                assert client.set(f"key:{i}", i)
            assert client.dbsize(target_nodes=RedisCluster.PRIMARIES) == 50
            assert len(client.get_primaries()) == len(client.get_replicas()) == 3
        for node in running.nodes:
            assert "cluster_state:ok" in running.call(node, "CLUSTER", "INFO")
        assert running.target().mode is Mode.OSS_CLUSTER


def test_sentinels_know_everyone_as_soon_as_they_are_there(any_server: str | None) -> None:
    with lab.sentinel(server=any_server) as running:
        seeds = [(seed.host, seed.port) for seed in running.target().seeds]
        with Sentinel(seeds, decode_responses=True, protocol=2).master_for("mymaster") as client:
            assert client.set("a", "1")
        for name in ("sentinel-1", "sentinel-2", "sentinel-3"):
            _, port = running.call(name, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
            assert int(port) == running.node("node-1").address.port
            assert len(running.call(name, "SENTINEL", "REPLICAS", "mymaster")) == 2
            assert len(running.call(name, "SENTINEL", "SENTINELS", "mymaster")) == 2


def test_one_endpoint_reaches_every_shard_with_commands_that_envoy_does_not_know_by_itself(
    valkey_enterprise: Lab,
) -> None:
    with single_client(valkey_enterprise) as client:
        for i in range(50):
            client.set(f"key:{i}", i)
            assert client.execute_command("PEXPIRETIME", f"key:{i}") == -1
        client.execute_command("XGROUP", "CREATE", "stream", "group", "$", "MKSTREAM")
        assert client.execute_command("XINFO", "GROUPS", "stream")
    with cluster_client(valkey_enterprise) as behind:
        assert behind.dbsize(target_nodes=RedisCluster.PRIMARIES) == 51
    assert all(valkey_enterprise.call(node, "DBSIZE") for node in valkey_enterprise.nodes if node.role == "primary")


def test_a_replica_that_is_still_writing_its_first_file_goes_down_with_its_lab(any_server: str | None) -> None:
    with lab.standalone(server=any_server, persist=True, replicas=1) as running:
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    assert {node.state for node in running.nodes} == {"dead"}


def test_a_cluster_has_as_many_shards_as_asked_for() -> None:
    with lab.cluster(primaries=5, replicas=0) as running, cluster_client(running) as client:
        assert len(client.get_primaries()) == 5
        assert not client.get_replicas()


@pytest.mark.parametrize("arguments", [{"primaries": 2}, {"primaries": 40}, {"replicas": -1}, {"node_timeout_ms": 1}])
def test_a_layout_that_cannot_be_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError), lab.cluster(**arguments):  # type: ignore[arg-type]
        pass


def test_a_password_is_asked_for_everywhere() -> None:
    password = "p@ss w\"o'rd\\é"
    with lab.sentinel(password=password) as running:
        for node in running.nodes:
            stranger = redis.Redis(node.address.host, node.address.port, protocol=2)
            with stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
        target = running.target()
        seeds = [(seed.host, seed.port) for seed in target.seeds]
        sentinels = Sentinel(seeds, sentinel_kwargs={"password": target.sentinel_password}, password=password)
        with sentinels.master_for("mymaster", protocol=2) as client:
            assert client.ping()
        assert password not in repr(target)
    with lab.enterprise(password=password) as running:
        with single_client(running) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("a")
        with single_client(running, password=password) as client:
            assert client.set("a", "1")


@pytest.mark.parametrize("layout", ["standalone", "sentinel"])
def test_the_environment_of_a_lab_leads_to_its_target(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = {"standalone": lab.standalone, "sentinel": lab.sentinel}[layout]
    with start(password="p@ss/w:rd", tls=True) as running:
        for name, value in running.env().items():
            monkeypatch.setenv(name, value)
        assert target_from(load()) == running.target()
        monkeypatch.delenv("REDIS_NODES")
        monkeypatch.delenv("REDIS_PASSWORD")
        assert target_from(load()) == running.target()
