"""What one can do to the servers of a lab, and what becomes of them when their owner dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import eventually
from understudy import lab
from understudy.errors import NotFoundError, UnreachableError
from understudy.lab import Lab, guardian

OWNER = """
import sys, time
from understudy import lab
with lab.{layout}() as running:
    for node in running.nodes:
        print(*node.process)
    print(running.directory, flush=True)
    time.sleep(600)
"""


def test_a_killed_node_is_dead_and_comes_back_where_it_was(valkey_standalone: Lab) -> None:
    valkey_standalone.kill("node-1")
    assert valkey_standalone.node("node-1").state == "dead"
    with pytest.raises(UnreachableError):
        valkey_standalone.call("node-1", "PING")
    before = valkey_standalone.node("node-1")
    after = valkey_standalone.start("node-1")
    assert after.address == before.address
    assert after.pid != before.pid
    assert valkey_standalone.call("node-1", "PING") == "PONG"


def test_a_paused_node_keeps_its_connections_and_does_not_answer(valkey_standalone: Lab) -> None:
    valkey_standalone.pause("node-1")
    assert eventually(lambda: valkey_standalone.node("node-1").state == "paused")
    with pytest.raises(UnreachableError, match="no answer in time"):
        valkey_standalone.call("node-1", "PING", timeout_s=0.2)
    valkey_standalone.resume("node-1")
    assert valkey_standalone.call("node-1", "PING") == "PONG"


def test_a_replica_takes_over_from_a_killed_primary_and_the_old_one_comes_back_as_its_replica() -> None:
    with lab.cluster(node_timeout_ms=1000) as cluster:
        cluster.call("node-1", "SET", "{06S}a", "kept")
        cluster.kill("node-1")
        assert eventually(lambda: "role:master" in cluster.call("node-4", "INFO", "replication"))
        assert eventually(lambda: "cluster_state:ok" in cluster.call("node-4", "CLUSTER", "INFO"))
        cluster.start("node-1")
        assert eventually(lambda: "role:slave" in cluster.call("node-1", "INFO", "replication"))
        cluster.heal()


def test_sentinels_promote_a_replica_when_the_primary_dies(valkey_sentinel: Lab) -> None:
    def primary() -> int:
        return int(valkey_sentinel.call("sentinel-1", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])

    before = primary()
    valkey_sentinel.kill(str(before))
    assert eventually(lambda: primary() != before, within_s=20)


def test_a_node_can_be_added_to_a_cluster_and_replicate() -> None:
    with lab.cluster(replicas=0) as cluster:
        cluster.add_node()
        replica = cluster.add_node(replica_of="node-1")
        assert replica.name == "node-5"
        assert "master_link_status:up" in cluster.call(replica, "INFO", "replication")
        assert eventually(lambda: "cluster_known_nodes:5" in cluster.call("node-2", "CLUSTER", "INFO"))


def test_a_node_that_is_not_there_is_named_with_those_that_are(valkey_standalone: Lab) -> None:
    with pytest.raises(NotFoundError) as caught:
        valkey_standalone.node("node-9")
    assert "node-1" in caught.value.hint


@pytest.mark.parametrize("layout", ["standalone", "sentinel"])
def test_nothing_is_left_when_the_owner_of_a_lab_is_killed(layout: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER.format(layout=layout)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner, owner.stdout as said:
        processes = []
        for line in said:
            if line.startswith(os.sep):
                directory = Path(line.rstrip())
                break
            pid, started = line.split()
            processes.append(guardian.Process(int(pid), started))
        assert all(guardian.state(process) == "running" for process in processes)
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: all(guardian.state(process) == "dead" for process in processes))
    assert eventually(lambda: not directory.exists())


def test_a_process_is_known_by_its_start_time_too() -> None:
    me = guardian.identify(os.getpid())
    assert me is not None
    assert guardian.state(me) == "running"
    other = guardian.Process(me.pid, "some other time")
    assert guardian.state(other) == "dead"
    assert not guardian.send(other, signal.SIGKILL)
