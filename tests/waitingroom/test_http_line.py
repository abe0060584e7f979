"""The line over HTTP: what every endpoint answers, and what it refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from support import eventually
from waitingroom.conftest import Served, bearer


def test_who_joins_gets_a_ticket_and_an_exact_place(served: Served) -> None:
    event = served.event(rate_per_s=0)
    first, second = served.join(event, "ann"), served.join(event, "bob")
    assert first["ticket"].startswith(f"{event}.") and first["ticket"] != second["ticket"]
    assert (first["position"], second["position"], second["waiting"]) == (1, 2, 2)
    assert second == {
        "ticket": second["ticket"], "event_id": event, "user_id": "bob", "stream_id": second["stream_id"],
        "state": "waiting", "position": 2, "user_position": 1, "waiting": 2, "estimate_s": None,
    }  # fmt: skip


def test_somebody_without_a_name_gets_one(served: Served) -> None:
    event = served.event(rate_per_s=0)
    one, other = served.join(event), served.join(event)
    assert one["user_id"] and one["user_id"] != other["user_id"]


def test_a_status_is_asked_for_with_the_header_or_the_query(served: Served) -> None:
    event = served.event(rate_per_s=0)
    ticket = served.join(event)["ticket"]
    by_header = served.get("/api/v1/queue/status", headers=bearer(ticket))
    assert by_header == served.get("/api/v1/queue/status", params={"ticket": ticket})
    assert by_header == {
        "event_id": event, "state": "waiting", "position": 1, "waiting": 1, "estimate_s": None,
        "enter_within_s": None, "event_state": "open",
    }  # fmt: skip


def test_those_behind_move_up_when_somebody_leaves_and_when_somebody_enters(served: Served) -> None:
    event = served.event(rate_per_s=0)
    tickets = [served.join(event)["ticket"] for _ in range(3)]
    assert served.post("/api/v1/queue/leave", {"ticket": tickets[0]}) == {"event_id": event, "state": "left"}
    assert served.get("/api/v1/queue/status", headers=bearer(tickets[2]))["position"] == 2
    served.administer("PATCH", f"/{event}", json={"rate_per_s": 0.01, "burst": 1})
    entered = eventually(lambda: served.http.post("/api/v1/queue/enter", json={"ticket": tickets[1]}).is_success)
    assert entered
    assert served.get("/api/v1/queue/status", headers=bearer(tickets[2]))["position"] == 1
    assert served.get("/api/v1/queue/status", headers=bearer(tickets[0]))["state"] == "left"
    served.refused("TICKET_GONE", 410, "POST", "/api/v1/queue/enter", json={"ticket": tickets[0]})


def test_a_heartbeat_answers_as_status_does(served: Served) -> None:
    ticket = served.join(served.event(rate_per_s=0))["ticket"]
    beaten = served.post("/api/v1/queue/heartbeat", headers=bearer(ticket))
    assert beaten == served.get("/api/v1/queue/status", headers=bearer(ticket))


def test_entering_before_the_turn_is_refused_with_the_place(served: Served) -> None:
    event = served.event(rate_per_s=0.1)
    served.join(event)
    ticket = served.join(event)["ticket"]
    said = served.refused("NOT_ADMITTED", 409, "POST", "/api/v1/queue/enter", json={"ticket": ticket})
    assert said["position"] >= 1 and said["estimate_s"] >= 10


def test_a_repeated_join_is_replayed_and_another_body_conflicts(served: Served) -> None:
    event = served.event(rate_per_s=0)
    body, key = {"event_id": event, "user_id": "ann"}, {"Idempotency-Key": "key-1"}
    first = served.http.post("/api/v1/queue/join", json=body, headers=key)
    again = served.http.post("/api/v1/queue/join", json={"user_id": "ann", "event_id": event}, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    assert first.json() == again.json()
    served.refused(
        "IDEMPOTENCY_CONFLICT", 409, "POST", "/api/v1/queue/join", json=body | {"user_id": "bob"}, headers=key
    )
    assert served.administer("GET", f"/{event}")["counts"]["joined"] == 1


def test_of_a_hundred_at_once_with_one_dedupe_key_one_succeeds(served: Served) -> None:
    event = served.event(rate_per_s=0)
    body = {"event_id": event, "dedupe_key": "same"}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: served.http.post("/api/v1/queue/join", json=body), range(100)))
    assert sorted(one.status_code for one in answers) == [201] + [409] * 99
    assert {one.json()["code"] for one in answers if one.status_code == 409} == {"DUPLICATE"}
    metrics = served.http.get("/metrics").text
    assert 'waitingroom_lua_script_errors_total{code="DUPLICATE",operation="join"}' in metrics
    assert 'waitingroom_enqueue_total{result="duplicate"}' in metrics


def test_a_dedupe_key_counts_also_beside_idempotency_keys(served: Served) -> None:
    event = served.event(rate_per_s=0)
    body = {"event_id": event, "dedupe_key": "same"}
    first = served.post("/api/v1/queue/join", body, 201, headers={"Idempotency-Key": "one"})
    assert served.post("/api/v1/queue/join", body, headers={"Idempotency-Key": "one"}) == first
    served.refused("DUPLICATE", 409, "POST", "/api/v1/queue/join", json=body, headers={"Idempotency-Key": "two"})
    served.refused("DUPLICATE", 409, "POST", "/api/v1/queue/join", json=body)
    both = body | {"dedupe_key": "alike"}
    again = served.post("/api/v1/queue/join", both, 201, headers={"Idempotency-Key": "alike"})
    assert served.post("/api/v1/queue/join", both, headers={"Idempotency-Key": "alike"}) == again
    served.refused("DUPLICATE", 409, "POST", "/api/v1/queue/join", json=both)
    assert served.administer("GET", f"/{event}")["counts"]["joined"] == 2


def test_a_user_joins_once(served: Served) -> None:
    event = served.event(rate_per_s=0)
    served.join(event, "ann")
    served.refused("DUPLICATE", 409, "POST", "/api/v1/queue/join", json={"event_id": event, "user_id": "ann"})


def test_lines_that_take_nobody_say_why(served: Served) -> None:
    served.refused("NO_EVENT", 404, "POST", "/api/v1/queue/join", json={"event_id": "never-made"})
    created = served.event(state="created")
    served.refused("EVENT_NOT_OPEN", 409, "POST", "/api/v1/queue/join", json={"event_id": created})
    full = served.event(rate_per_s=0, max_waiting=1)
    served.join(full)
    served.refused("QUEUE_FULL", 409, "POST", "/api/v1/queue/join", json={"event_id": full})


@pytest.mark.parametrize("path", ["status", "updates"])
def test_asking_without_a_ticket_or_with_a_wrong_one_is_refused(served: Served, path: str) -> None:
    event = served.event(rate_per_s=0)
    url = f"/api/v1/queue/{path}"
    served.refused("UNAUTHORISED", 401, "GET", url)
    served.refused("NO_TICKET", 404, "GET", url, params={"ticket": "no such thing"})
    served.refused("NO_TICKET", 404, "GET", url, headers=bearer(f"{event}.{'x' * 22}"))
    served.refused("NO_EVENT", 404, "GET", url, headers=bearer(f"never-made.{'x' * 22}"))


@pytest.mark.parametrize("path", ["heartbeat", "enter", "leave"])
def test_doing_without_a_ticket_or_with_a_wrong_one_is_refused(served: Served, path: str) -> None:
    event = served.event(rate_per_s=0)
    url = f"/api/v1/queue/{path}"
    served.refused("UNAUTHORISED", 401, "POST", url)
    served.refused("UNAUTHORISED", 401, "POST", url, json={})
    served.refused("INVALID", 422, "POST", url, json={"ticket": "no such thing"})
    served.refused("NO_TICKET", 404, "POST", url, json={"ticket": f"{event}.{'x' * 22}"})


def test_an_estimate_is_the_place_by_the_rate_and_none_while_paused(served: Served) -> None:
    event = served.event(rate_per_s=0.5)
    tickets = [served.join(event)["ticket"] for _ in range(4)]
    place = served.get("/api/v1/queue/status", headers=bearer(tickets[3]))
    assert place["estimate_s"] == place["position"] / 0.5
    served.administer("POST", f"/{event}/pause")
    assert served.get("/api/v1/queue/status", headers=bearer(tickets[3]))["estimate_s"] is None
