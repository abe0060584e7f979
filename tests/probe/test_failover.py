"""What the probe sees while servers die, are stopped, or are replaced behind a stable endpoint."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from probe.conftest import primary_of, serving
from support import eventually
from understudy import lab
from understudy.lab import Lab
from understudy.probe.connection import ClientKind
from understudy.valkey.target import Address, Mode, Target


@pytest.mark.parametrize(("layout", "good"), [("cluster", 4), ("sentinel", 11)])
def test_a_client_that_comes_back_passes(layout: str, good: int, request: pytest.FixtureRequest) -> None:
    running: Lab = request.getfixturevalue(f"valkey_{layout}")
    victim = primary_of(running)
    with serving(running.target()) as probe:
        worked = 0
        killed = False
        allowed = {"duration": 12, "interval": 0.25, "max_drift": 5}  # others use this machine meanwhile
        for line in probe.lines("/redis/failover-recovery", **allowed):
            if line["type"] == "observation" and line["client"] == "long-lived":
                worked += line["ok"]
                if worked == good and not killed:
                    killed = True
                    running.kill(victim)
        assert line["type"] == "verdict"
        assert line["word"] == "passed", line["reasons"]
        assert not line["stuck"]
        assert 0.5 < line["outage_s"] < 12
        assert line["long_lived"]["works"] and line["fresh"]["works"]
        assert line["errors"]
        assert "understudy_probe_errors_total" in probe.http.get("/metrics").text


def test_the_monitor_tells_of_a_promotion_and_ends_when_one_hangs_up(valkey_cluster: Lab) -> None:
    with serving(valkey_cluster.target()) as probe:
        seen: set[str] = set()
        lines = probe.lines("/redis/monitor", duration=60, interval=0.2)
        assert next(lines)["type"] == "topology"
        assert probe.streams.running == 1
        valkey_cluster.kill(primary_of(valkey_cluster))
        for line in lines:
            seen |= {change["kind"] for change in line.get("changes", ())}
            if "promoted" in seen:
                break
        assert "failed" in seen
        lines.close()  # type: ignore[attr-defined]
        eventually(lambda: probe.streams.running == 0)


def test_a_server_that_is_stopped_holds_nobody_up(valkey_cluster: Lab) -> None:
    with serving(valkey_cluster.target()) as probe:
        valkey_cluster.pause("node-1")
        try:
            assert next(iter(probe.lines("/redis/monitor", duration=0.2, interval=0.1)))["type"] == "topology"
        finally:
            valkey_cluster.resume("node-1")


def test_all_nodes_replaced_behind_an_endpoint_leave_the_default_client_stuck(valkey_cluster: Lab) -> None:
    with lab.cluster(replicas=0) as old, endpoint(old.nodes[0].address) as (address, lead_to):
        target = Target((address,), Mode.OSS_CLUSTER)
        with serving(target, ClientKind.DEFAULTS) as default, serving(target) as recommended:
            for probe in (default, recommended):
                assert probe.get("/redis/status")["connected"]
            lead_to(valkey_cluster.nodes[0].address)
            for node in old.nodes:
                old.kill(node)
            *_, stuck = default.lines("/redis/failover-recovery", duration=2, interval=0.5)
            assert (stuck["word"], stuck["stuck"]) == ("failed", True)
            assert "the client is stuck, a fresh one works" in stuck["sentence"].lower()
            status = default.get("/redis/status")
            assert status["stuck"] and not status["connected"] and status["fresh"]["connected"]
            assert not default.get("/redis/health", status=503)["healthy"]
            assert "understudy_probe_stuck 1.0" in default.http.get("/metrics").text
            assert default.get("/redis/connection-mode")["risk"] == "high"
            assert default.get("/redis/cluster-slots")["client_view"]["stale_count"] == 16384

            *_, back = recommended.lines("/redis/failover-recovery", duration=2, interval=0.5)
            assert not back["stuck"]
            assert back["long_lived"]["works"]
            assert recommended.get("/redis/status")["connected"]


@contextmanager
def endpoint(goal: Address) -> Iterator[tuple[Address, Callable[[Address], None]]]:
    """A TCP endpoint that stays, and leads wherever it is told."""
    goals = [goal]
    listening = socket.create_server(("127.0.0.1", 0))
    pumps: list[threading.Thread] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(goals[-1])
            except OSError:
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                pumps.append(threading.Thread(target=pump, args=pair, daemon=True))
                pumps[-1].start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield Address(*listening.getsockname()), goals.append
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
