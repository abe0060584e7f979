"""Clients in the four connection modes, and what they do when a primary dies."""

from __future__ import annotations

import pytest
import redis

from understudy.lab import Lab
from understudy.valkey.connect import Timeouts, call_with_deadline, connect
from understudy.valkey.target import Address, Mode, Target


@pytest.mark.parametrize("layout", ["standalone", "sentinel", "cluster", "enterprise"])
def test_each_mode_reads_what_it_wrote(layout: str, request: pytest.FixtureRequest) -> None:
    running: Lab = request.getfixturevalue(f"valkey_{layout}")
    for target in (running.target(), running.target().with_mode(Mode.AUTO)):
        with connect(target, decode_responses=True) as client:
            assert client.set("name", "이름")
            assert client.get("name") == "이름"


@pytest.mark.parametrize("layout", ["sentinel", "cluster"])
def test_a_call_with_a_deadline_outlives_a_failover(layout: str, request: pytest.FixtureRequest) -> None:
    running: Lab = request.getfixturevalue(f"valkey_{layout}")
    with connect(running.target()) as client:
        client.set("user:1", "before")
        victims = [node for node in running.nodes if node.role == "primary"]
        for victim in victims[:1]:
            running.kill(victim)
        for n in range(50):
            assert call_with_deadline(lambda n=n: client.set(f"user:{n}", "after"), 30)  # type: ignore[misc]


def test_a_server_that_stays_away_is_an_error_when_the_deadline_has_passed() -> None:
    nobody = Target((Address("127.0.0.1", 1),), Mode.STANDALONE)
    with connect(nobody, Timeouts(retries=0)) as client, pytest.raises(redis.ConnectionError):
        call_with_deadline(client.ping, 0.3)
