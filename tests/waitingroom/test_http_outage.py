"""While the server does not answer: 503 in time, streams that say so, and work again without being helped."""

from __future__ import annotations

import dataclasses
import time

import pytest

from support import eventually
from understudy.lab import Lab
from understudy.valkey.target import Mode
from understudy.waitingroom import keeper
from waitingroom.conftest import Served, bearer, serving
from waitingroom.test_http_updates import listening

DEADLINE_S = 0.5


def test_a_server_that_stands_still_is_answered_for_and_work_goes_on_after_it(
    valkey_standalone: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab = valkey_standalone
    with serving(lab.target(), deadline_s=DEADLINE_S) as served:
        event = served.event(rate_per_s=1000, burst=1000)
        ticket, token = served.join(event)["ticket"], served.inside(event)
        with listening(served, ticket) as told:
            assert next(told)[0] == "place"
            lab.pause(lab.nodes[0])
            try:
                key = {"Idempotency-Key": "through-it"}
                body = {"event_id": event, "user_id": "ann"}
                refused(served, "POST", "/api/v1/queue/join", json=body, headers=key)
                began = time.monotonic()
                assert served.http.post("/api/v1/queue/join", json=body, headers=key).status_code == 503
                assert time.monotonic() - began < DEADLINE_S + 0.5
                refused(served, "GET", "/api/v1/queue/status", headers=bearer(ticket))
                refused(served, "POST", "/api/v1/seats/hold", json={"seats": ["1"]}, headers=token)
                refused(served, "GET", "/api/v1/events", headers=served.operator)
                while next(told)[0] != "trouble":
                    pass
                assert served.get("/healthz")["status"] == "ok"
                eventually(lambda: served.http.get("/readyz").status_code == 503)
                assert served.get("/readyz", 503)["why"]
            finally:
                lab.resume(lab.nodes[0])
            eventually(lambda: served.http.get("/readyz").is_success)
            joined = eventually(
                lambda: (answer := served.http.post("/api/v1/queue/join", json=body, headers=key)).is_success and answer
            )
            assert next(told)[0] == "place"
        assert served.get("/api/v1/queue/status", headers=bearer(joined.json()["ticket"]))["state"] != "gone"
        assert served.administer("GET", f"/{event}")["counts"]["joined"] == 3  # ann once
        served.post("/api/v1/seats/hold", {"seats": ["1"]}, headers=token)
    away = [one for one in caplog.records if "nobody is called" in one.message]
    assert len(away) <= 2  # once an outage, not once a try


def refused(served: Served, method: str, path: str, **more: object) -> None:
    served.refused("UNAVAILABLE", 503, method, path, **more)
    assert int(served.http.request(method, path, **more).headers["retry-after"]) >= 1  # type: ignore[arg-type]


def test_a_gateway_starts_before_its_server(valkey_standalone: Lab) -> None:
    lab = valkey_standalone
    lab.kill(lab.nodes[0])
    try:
        with serving(lab.target(), deadline_s=DEADLINE_S) as served:
            served.refused("UNAVAILABLE", 503, "POST", "/api/v1/queue/join", json={"event_id": "e"})
            lab.start(lab.nodes[0])
            eventually(lambda: served.http.get("/readyz").is_success)
            served.join(served.event())
    finally:
        lab.heal()


def test_an_outage_of_one_event_is_said_once_and_so_is_its_end(
    valkey_standalone: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Other events, and the list of them, may be on servers that answer."""
    lab, ill = valkey_standalone, "event:{ill}"
    with serving(lab.target(), deadline_s=DEADLINE_S) as served, caplog.at_level("WARNING", "understudy"):
        served.event()
        lab.call(lab.nodes[0].name, "SADD", "waitingroom:events", "ill")
        lab.call(lab.nodes[0].name, "SET", ill, "no event")
        eventually(lambda: "nobody is called to ill" in caplog.text)
        time.sleep(4)
        assert caplog.text.count("nobody is called") == 1 and "answers again" not in caplog.text
        lab.call(lab.nodes[0].name, "DEL", ill)
        eventually(lambda: "answers again" in caplog.text)
        lab.call(lab.nodes[0].name, "SREM", "waitingroom:events", "ill")


def test_more_events_than_a_gateway_looks_after_are_told(
    valkey_standalone: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_MOST_EVENTS", 2)
    with serving(valkey_standalone.target()) as served, caplog.at_level("WARNING", "understudy"):
        for _ in range(3):
            served.event()
        eventually(lambda: "there are 3 events, and a gateway looks after 2" in caplog.text)
        time.sleep(3.5)
        assert caplog.text.count("looks after") == 1


def test_a_server_that_drops_keys_is_told_of(valkey_standalone: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab, node = valkey_standalone, valkey_standalone.nodes[0].name
    lab.call(node, "CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
    try:
        with serving(lab.target()), caplog.at_level("WARNING", "understudy"):
            eventually(lambda: "maxmemory-policy allkeys-lru" in caplog.text)
            assert str(lab.target().seeds[0]) in caplog.text
    finally:
        lab.call(node, "CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")


def test_the_log_says_why_the_server_refuses_us(valkey_standalone: Lab, caplog: pytest.LogCaptureFixture) -> None:
    wrong = dataclasses.replace(valkey_standalone.target(), password="nonsense", mode=Mode.AUTO)
    with serving(wrong, deadline_s=DEADLINE_S) as served, caplog.at_level("WARNING", "understudy"):
        eventually(lambda: "nobody is called" in caplog.text)
        assert "AUTH" in caplog.text
        assert served.http.get("/readyz").status_code == 503


def test_too_few_replicas_are_no_success(valkey_standalone: Lab) -> None:
    with serving(valkey_standalone.target(), deadline_s=DEADLINE_S, replicas=1) as served:
        answer = served.http.post(
            "/api/v1/events", json={"event_id": "e", "seats": 1}, headers=served.operator
        )  # fmt: skip
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert "replicas" in answer.json()["why"]


def test_who_says_that_there_is_no_such_ticket_must_have_its_replicas(valkey_standalone: Lab) -> None:
    with serving(valkey_standalone.target(), deadline_s=DEADLINE_S) as alone:
        ticket = alone.join(alone.event(rate_per_s=0))["ticket"]
        unknown = f"{ticket[:-1]}{'A' if ticket[-1] != 'A' else 'B'}"
        with serving(valkey_standalone.target(), deadline_s=DEADLINE_S, replicas=1) as careful:
            place = careful.http.get("/api/v1/queue/status", headers={"Authorization": f"Bearer {ticket}"})
            assert place.json()["position"] == 1
            careful.refused("UNAVAILABLE", 503, "GET", "/api/v1/queue/status", params={"ticket": unknown})
        alone.refused("NO_TICKET", 404, "GET", "/api/v1/queue/status", params={"ticket": unknown})
