"""TLS in every layout: encrypted clients are served, plain ones are not."""

from __future__ import annotations

import stat
import sys

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from understudy import lab
from understudy.lab import Lab, LabNode

refuses_plain = pytest.mark.skipif(sys.platform != "linux", reason="one loopback address only: see `own_source`")


def ssl(running: Lab) -> dict[str, object]:
    tls = running.target().tls
    assert tls is not None
    return {"ssl": True, "ssl_ca_certs": tls.ca_file, "protocol": 2}


def assert_plain_is_refused(node: LabNode) -> None:
    plain = redis.Redis(node.address.host, node.address.port, protocol=2, socket_timeout=2)
    with plain, pytest.raises((redis.ConnectionError, redis.InvalidResponse)):
        plain.ping()


@refuses_plain
def test_a_standalone_server_speaks_tls_only() -> None:
    with lab.standalone(tls=True, password="secret") as running:
        node = running.node("node-1")
        for host in ("127.0.0.1", "localhost"):
            with redis.Redis(host, node.address.port, password="secret", **ssl(running)) as client:
                assert client.set("a", "1")
        assert_plain_is_refused(node)
        for key in (running.directory / "tls").iterdir():
            assert stat.S_IMODE(key.stat().st_mode) == 0o600


@refuses_plain
def test_a_cluster_speaks_tls_and_its_nodes_still_find_each_other() -> None:
    with lab.cluster(tls=True) as running:
        seeds = [ClusterNode(seed.host, seed.port) for seed in running.target().seeds]
        with RedisCluster(startup_nodes=seeds, **ssl(running)) as client:
            for i in range(30):
                assert client.set(f"key:{i}", i)
            assert len(client.get_replicas()) == 3
        assert_plain_is_refused(running.node("node-1"))


@refuses_plain
def test_sentinels_speak_tls_and_lead_to_a_primary_that_does() -> None:
    with lab.sentinel(tls=True) as running:
        seeds = [(seed.host, seed.port) for seed in running.target().seeds]
        with Sentinel(seeds, sentinel_kwargs=ssl(running), **ssl(running)).master_for("mymaster") as client:
            assert client.set("a", "1")
        assert_plain_is_refused(running.node("node-1"))
        assert_plain_is_refused(running.node("sentinel-1"))


def test_an_enterprise_endpoint_speaks_tls_only() -> None:
    with lab.enterprise(tls=True) as running:
        seed = running.target().seeds[0]
        with redis.Redis(seed.host, seed.port, **ssl(running)) as client:
            assert client.set("a", "1")
        assert_plain_is_refused(running.node("proxy"))
