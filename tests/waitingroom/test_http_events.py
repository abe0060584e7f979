"""Administration over HTTP: nobody without the secret, and with it an event from its making to its end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support import eventually
from understudy.lab import Lab
from waitingroom.conftest import Served, bearer, serving

EVENTS = "/api/v1/events"
REQUESTS = [
    ("GET", ""), ("POST", ""), ("GET", "/e"), ("PATCH", "/e"), ("DELETE", "/e"), ("POST", "/e/open"),
    ("POST", "/e/pause"), ("POST", "/e/resume"), ("POST", "/e/close"), ("POST", "/e/dequeue"), ("POST", "/e/ack"),
    ("POST", "/e/cleanup"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_nobody_administers_without_the_secret(served: Served, method: str, path: str) -> None:
    served.refused("UNAUTHORISED", 401, method, EVENTS + path)
    served.refused("UNAUTHORISED", 401, method, EVENTS + path, headers=bearer("another-secret-16"))
    served.refused("CROSS_SITE", 403, method, EVENTS + path, headers=served.operator | {"Sec-Fetch-Site": "cross-site"})
    served.refused("CROSS_SITE", 403, method, EVENTS + path, headers=served.operator | {"Origin": "http://evil.test"})


def test_without_a_configured_secret_nobody_administers_at_all(valkey_standalone_lab: Lab) -> None:
    with serving(valkey_standalone_lab.target(), secret=None) as unset:
        for method, path in REQUESTS:
            said = unset.refused("NO_SECRET", 403, method, EVENTS + path, headers=unset.operator)
            assert "WAITINGROOM_SECRET" in said["try"]


def test_an_event_lives_from_its_making_to_its_end(served: Served) -> None:
    event = served.event(seats=["A1", "A2"], state="created", rate_per_s=3)
    assert served.administer("GET", f"/{event}")["state"] == "created"
    assert event in {one["event_id"] for one in served.administer("GET", "")["events"]}
    for action, state in (("open", "open"), ("pause", "paused"), ("resume", "open"), ("close", "closed")):
        assert served.administer("POST", f"/{event}/{action}")["state"] == state
    served.refused("WRONG_STATE", 409, "POST", f"{EVENTS}/{event}/pause", headers=served.operator)
    served.administer("DELETE", f"/{event}", 204)
    served.refused("NO_EVENT", 404, "GET", f"{EVENTS}/{event}", headers=served.operator)


def test_settings_change_one_by_one_and_at_once(served: Served) -> None:
    event = served.event(seats=3, rate_per_s=0, hold_ttl_s=60)
    tickets = [served.join(event)["ticket"] for _ in range(3)]
    changed = served.administer("PATCH", f"/{event}", json={"rate_per_s": 1000})
    assert (changed["settings"]["rate_per_s"], changed["settings"]["hold_ttl_s"]) == (1000, 60)
    eventually(lambda: served.administer("GET", f"/{event}")["counts"]["admitted"] == 3, 3)
    assert served.get("/api/v1/queue/status", headers=bearer(tickets[2]))["state"] == "admitted"


def test_the_line_moves_by_itself_and_the_gauges_follow(served: Served) -> None:
    event = served.event(rate_per_s=1000, burst=2)
    for _ in range(5):
        served.join(event)
    eventually(lambda: served.administer("GET", f"/{event}")["counts"]["admitted"] == 5, 3)
    eventually(lambda: f'waitingroom_admitted{{event="{event}"}} 5.0' in served.http.get("/metrics").text, 3)
    assert f'waitingroom_remaining{{event="{event}"}} 10.0' in served.http.get("/metrics").text


def test_only_a_closed_event_is_deleted(served: Served) -> None:
    event = served.event()
    served.refused("WRONG_STATE", 409, "DELETE", f"{EVENTS}/{event}", headers=served.operator)


def test_the_same_event_can_be_made_again_and_another_of_its_name_cannot(served: Served) -> None:
    event = served.event(seats=2, state="open")
    served.refused(
        "EVENT_EXISTS", 409, "POST", EVENTS, headers=served.operator, json={"event_id": event, "seats": 3}
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {}, {"event_id": "e"}, {"event_id": "e e", "seats": 1}, {"event_id": "e", "seats": -1},
        {"event_id": "e", "seats": 100_001}, {"event_id": "e", "seats": ["A", "A"]}, {"event_id": "e", "seats": True},
        {"event_id": "e", "seats": 1, "rate_per_s": "10"}, {"event_id": "e", "seats": 1, "rate_per_s": -1},
        {"event_id": "e", "seats": 1, "max_inside": 10**24}, {"event_id": "e", "seats": 1, "max_waiting": 2**53},
        {"event_id": "e", "seats": 1, "unknown": 1}, {"event_id": "e", "seats": 1, "burst": 1.5},
    ],
)  # fmt: skip
def test_an_event_that_can_be_none_is_refused_with_what_is_wrong(served: Served, body: dict[str, Any]) -> None:
    said = served.refused("INVALID", 422, "POST", EVENTS, headers=served.operator, json=body)
    assert said["items"]


def test_workers_take_tickets_acknowledge_them_and_get_those_of_dead_workers(served: Served) -> None:
    event = served.event(rate_per_s=0)
    tickets = [served.join(event)["stream_id"] for _ in range(3)]
    taken = served.administer("POST", f"/{event}/dequeue", json={"consumer": "one", "count": 2, "visibility_s": 0.2})
    assert [one["stream_id"] for one in taken["messages"]] == tickets[:2]
    assert served.administer(
        "POST", f"/{event}/ack", json={"consumer": "one", "stream_ids": [tickets[0]]}
    ) == {"acknowledged": 1}  # fmt: skip
    another = {"consumer": "two", "visibility_s": 0.2}
    time.sleep(0.3)
    again = served.administer("POST", f"/{event}/dequeue", json=another)["messages"]
    assert [(one["stream_id"], one["deliveries"]) for one in again] == [(tickets[1], 2)]


def test_tickets_are_removed_by_age(served: Served) -> None:
    event = served.event(rate_per_s=0)
    ticket = served.join(event)["ticket"]
    assert served.administer("POST", f"/{event}/cleanup", json={"older_than_s": 3600}) == {"cleaned": 0}
    assert served.administer("POST", f"/{event}/cleanup", json={"older_than_s": 0})["cleaned"] >= 1
    assert served.get("/api/v1/queue/status", headers=bearer(ticket))["state"] == "aged"
    counts = served.administer("GET", f"/{event}")["counts"]
    assert (counts["aged"], counts["ended"], counts["waiting"]) == (1, 0, 0)


def test_sessions_that_are_over_are_counted(served: Served) -> None:
    event = served.event(rate_per_s=1000, session_ttl_s=0.2)
    served.inside(event)
    eventually(lambda: served.administer("GET", f"/{event}")["counts"]["ended"] == 1, 3)


def test_what_is_under_the_path_of_an_event_and_is_nothing_is_told_so(served: Served) -> None:
    served.refused("NO_PATH", 404, "POST", f"{EVENTS}/e/explode", headers=served.operator)
    served.refused("NO_PATH", 405, "PUT", f"{EVENTS}/e", headers=served.operator)
    served.refused("NO_EVENT", 404, "GET", f"{EVENTS}/a%20b", headers=served.operator)
