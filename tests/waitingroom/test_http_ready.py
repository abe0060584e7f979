"""Whether a gateway can serve, and why not: `/readyz`, the log, and what a buyer is told say the same truth."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support import eventually
from understudy.lab import Lab
from understudy.valkey.target import Mode
from waitingroom.conftest import Served, serving

DEADLINE_S = 0.5


def why(served: Served) -> str:
    """Why the gateway is not ready; empty where it is."""
    answer = served.http.get("/readyz")
    return "" if answer.is_success else str(answer.json()["why"])


def refusal(served: Served, event: str) -> str:
    said: dict[str, Any] = served.refused("UNAVAILABLE", 503, "POST", "/api/v1/queue/join", json={"event_id": event})
    return str(said["why"])


def lines(caplog: pytest.LogCaptureFixture, sign: str) -> list[str]:
    return [one.getMessage() for one in caplog.records if sign in one.getMessage()]


@contextmanager
def full(lab: Lab) -> Iterator[None]:
    lab.call(lab.nodes[0].name, "CONFIG", "SET", "maxmemory", "1mb")
    try:
        yield
    finally:
        lab.call(lab.nodes[0].name, "CONFIG", "SET", "maxmemory", "0")


def test_a_server_without_memory_is_told_of_by_everything(
    valkey_standalone: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(valkey_standalone.target()) as served, caplog.at_level("WARNING", "understudy"):
        event = served.event()
        eventually(lambda: not why(served))
        with full(valkey_standalone):
            assert refusal(served, event) == "the server refuses writes now"
            assert why(served) == "the server refuses writes now (OOM)"
            eventually(lambda: "nobody can join as long as this lasts" in caplog.text)
        eventually(lambda: not why(served), 15)
        assert len(lines(caplog, "as long as this lasts")) == len(lines(caplog, "answers again")) == 1
    with full(valkey_standalone), serving(valkey_standalone.target()) as served:
        eventually(lambda: "OOM" in why(served))  # also where nobody joins


def test_a_user_without_rights_is_told_of(valkey_standalone: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab, node = valkey_standalone, valkey_standalone.nodes[0].name
    lab.call(node, "ACL", "SETUSER", "few", "on", ">enough", "~*", "-@all", "+time", "+info", "+client|id")
    target = dataclasses.replace(lab.target(), username="few", password="enough")
    try:
        with serving(target) as served, caplog.at_level("WARNING", "understudy"):
            eventually(lambda: "(NOPERM)" in why(served))
            assert "NOPERM" in lines(caplog, "as long as this lasts")[0]
            said = refusal(served, "sale")
            assert "refuses this gateway's user" in said and "few" not in said and "NOPERM" not in said
            lab.call(node, "ACL", "SETUSER", "few", "+@all", "-fcall", "-eval", "-evalsha")
            eventually(lambda: not why(served))
            refusal(served, "sale")  # only now it shows
            assert "(NOPERM)" in why(served)
    finally:
        lab.call(node, "ACL", "DELUSER", "few")


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.STANDALONE])
def test_a_wrong_password_is_named_at_once(
    valkey_standalone: Lab, caplog: pytest.LogCaptureFixture, mode: Mode
) -> None:
    wrong = dataclasses.replace(valkey_standalone.target(), username="nobody", password="nonsense-17", mode=mode)
    with serving(wrong, deadline_s=5) as served, caplog.at_level("WARNING", "understudy"):
        eventually(lambda: "(WRONGPASS)" in why(served), 2)
        time.sleep(3)
    assert len(caplog.records) == 1 and "WRONGPASS" in caplog.text and "nonsense-17" not in caplog.text


def test_too_few_replicas_are_said_once_with_their_number(
    valkey_sentinel: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    target = valkey_sentinel.target()
    with serving(target) as served:
        event = served.event()
    with serving(target, replicas=5, deadline_s=DEADLINE_S) as served, caplog.at_level("WARNING", "understudy"):
        eventually(lambda: "too few replicas" in why(served))
        time.sleep(5)
        (line,) = lines(caplog, "")
        assert "has 2 of 5 replicas connected" in line and "answered with 503" in line
        assert refusal(served, event) == "too few replicas acknowledged it in time"


def test_an_outage_of_a_replica_has_one_beginning_and_one_end(
    valkey_sentinel: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab, target = valkey_sentinel, valkey_sentinel.target()
    with serving(target, replicas=2, deadline_s=DEADLINE_S) as served, caplog.at_level("WARNING", "understudy"):
        served.event()
        eventually(lambda: not why(served))
        replica = next(one for one in lab.nodes if "role:slave" in lab.call(one.name, "INFO", "replication"))
        lab.pause(replica)
        try:
            eventually(lambda: why(served) == "too few replicas acknowledged it in time")
            time.sleep(5)
            assert len(lines(caplog, "as long as this lasts")) == 1 and not lines(caplog, "answers again")
        finally:
            lab.resume(replica)
        eventually(lambda: not why(served))
        eventually(lambda: lines(caplog, "answers again"))
        assert len(lines(caplog, "as long as this lasts")) == len(lines(caplog, "answers again")) == 1


def test_a_proxy_that_is_asked_for_replicas_is_no_ready_gateway(
    valkey_enterprise: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serving(valkey_enterprise.target(), replicas=1) as served,
        caplog.at_level("WARNING", "understudy"),
    ):
        eventually(lambda: "a proxy has no WAIT" in why(served))
        time.sleep(3)
        assert len(lines(caplog, "a proxy has no WAIT")) == 1
    with serving(valkey_enterprise.target()) as served:
        eventually(lambda: not why(served))


def test_behind_a_proxy_the_log_names_the_client(valkey_standalone: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with (
        serving(valkey_standalone.target(), access_log=True, proxies=1) as served,
        caplog.at_level("INFO", "understudy"),
    ):
        served.get("/healthz", headers={"X-Forwarded-For": "10.9.9.9, 203.0.113.7"})
        served.get("/healthz", headers={"X-Forwarded-For": "2001:db8:1:2:3:4:5:6"})
        eventually(lambda: len(lines(caplog, "GET /healthz 200")) == 2)
    said = [one.split()[0] for one in lines(caplog, "GET /healthz 200")]
    assert said == ["203.0.113.7", "2001:db8:1:2:3:4:5:6"]
