"""Seats over HTTP: who is inside holds, releases and buys them, and nobody else."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from waitingroom.conftest import Served, bearer

SEATS = "/api/v1/seats"


def a_sale(served: Served, **settings: Any) -> str:
    return served.event(**{"seats": ["A1", "A2", "A3", "B1"], "rate_per_s": 1000, "burst": 1000, **settings})


def test_seats_are_held_released_and_bought(served: Served) -> None:
    event = a_sale(served)
    ann = served.inside(event, "ann")
    held = served.post(f"{SEATS}/hold", {"seats": ["A1", "A2"]}, headers=ann)
    assert held["seats"] == ["A1", "A2"] and held["remaining"] == 2 and 110 < held["expires_in_s"] < 121
    assert served.post(f"{SEATS}/release", {"seats": ["A2"]}, headers=ann)["remaining"] == 3
    assert served.post(f"{SEATS}/confirm", {"seats": ["A1"]}, headers=ann)["remaining"] == 3
    shown = served.get(SEATS, params={"event_id": event})
    assert shown["seats"] == {"A1": "SOLD", "A2": "AVAILABLE", "A3": "AVAILABLE", "B1": "AVAILABLE"}
    assert (shown["total"], shown["remaining"]) == (4, 3)


def test_of_many_who_want_one_seat_one_gets_it(served: Served) -> None:
    event = a_sale(served)
    people = [served.inside(event) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda one: served.http.post(f"{SEATS}/hold", json={"seats": ["A1"]}, headers=one), people)
        )
    assert sorted(one.status_code for one in answers) == [200] + [409] * 11
    assert {one.json()["code"] for one in answers if one.status_code == 409} == {"SEAT_UNAVAILABLE"}


def test_what_cannot_be_done_to_seats_says_why(served: Served) -> None:
    event = a_sale(served, seats_per_ticket=2)
    ann, bob = served.inside(event), served.inside(event)
    served.post(f"{SEATS}/hold", {"seats": ["A1", "A2"]}, headers=ann)
    said = served.refused("SEAT_UNAVAILABLE", 409, "POST", f"{SEATS}/hold", json={"seats": ["A3", "A2"]}, headers=bob)
    assert said["items"] == ["A2"]
    served.refused("NO_SEAT", 404, "POST", f"{SEATS}/hold", json={"seats": ["Z9"]}, headers=bob)
    served.refused("NOT_HOLDER", 403, "POST", f"{SEATS}/release", json={"seats": ["A1"]}, headers=bob)
    served.refused("NOT_HOLDER", 403, "POST", f"{SEATS}/confirm", json={"seats": ["A1"]}, headers=bob)
    served.refused("TOO_MANY_SEATS", 409, "POST", f"{SEATS}/hold", json={"seats": ["A3"]}, headers=ann)
    served.post(f"{SEATS}/confirm", {"seats": ["A1"]}, headers=ann)
    served.refused("SEAT_SOLD", 409, "POST", f"{SEATS}/release", json={"seats": ["A1"]}, headers=ann)


def test_a_sale_is_sold_out_and_its_seats_come_back(served: Served) -> None:
    event = a_sale(served, seats=1, hold_ttl_s=0.4)
    ann, bob = served.inside(event), served.inside(event)
    served.post(f"{SEATS}/hold", {"seats": ["1"]}, headers=ann)
    served.refused("SOLD_OUT", 409, "POST", f"{SEATS}/hold", json={"seats": ["1"]}, headers=bob)
    time.sleep(0.7)
    assert served.get(SEATS, params={"event_id": event})["remaining"] == 1
    served.post(f"{SEATS}/hold", {"seats": ["1"]}, headers=bob)


@pytest.mark.parametrize("operation", ["hold", "release", "confirm"])
def test_a_repetition_with_the_same_key_is_done_once(served: Served, operation: str) -> None:
    event = a_sale(served)
    ann = served.inside(event)
    if operation != "hold":
        served.post(f"{SEATS}/hold", {"seats": ["A1"]}, headers=ann)
    headers = ann | {"Idempotency-Key": "once"}
    first = served.http.post(f"{SEATS}/{operation}", json={"seats": ["A1"]}, headers=headers)
    again = served.http.post(f"{SEATS}/{operation}", json={"seats": ["A1"]}, headers=headers)
    assert again.status_code == 200 and again.headers["idempotent-replayed"] == "true"
    assert first.json()["remaining"] == again.json()["remaining"]
    served.refused(
        "IDEMPOTENCY_CONFLICT", 409, "POST", f"{SEATS}/{operation}", json={"seats": ["A2"]}, headers=headers
    )  # fmt: skip


def test_only_entry_tokens_of_this_gateway_open_the_seats(served: Served) -> None:
    event = a_sale(served)
    ticket = served.join(event)["ticket"]
    token = served.inside(event)["Authorization"].removeprefix("Bearer ")
    changed = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    for wrong in ({}, bearer(ticket), bearer(changed), bearer("x.y.z"), bearer(token + "="), bearer(token + "é")):
        headers = [(name.encode(), value.encode()) for name, value in wrong.items()]
        served.refused("UNAUTHORISED", 401, "POST", f"{SEATS}/hold", json={"seats": ["A1"]}, headers=headers)


def test_a_session_ends_and_with_it_what_its_token_opens(served: Served) -> None:
    event = a_sale(served, session_ttl_s=0.3)
    ann = served.inside(event)
    time.sleep(0.6)
    answer = served.http.post(f"{SEATS}/hold", json={"seats": ["A1"]}, headers=ann)
    assert (answer.status_code, answer.json()["code"]) in {(403, "NOT_INSIDE"), (401, "UNAUTHORISED")}
    time.sleep(1)
    served.refused("UNAUTHORISED", 401, "POST", f"{SEATS}/hold", json={"seats": ["A1"]}, headers=ann)


@pytest.mark.parametrize(
    "body", [{}, {"seats": []}, {"seats": "A1"}, {"seats": ["A 1"]}, {"seats": ["A1", "A1"]}, {"seats": [1]}, [], 7]
)
def test_seats_that_can_be_none_are_refused(served: Served, body: Any) -> None:
    token = served.inside(a_sale(served))
    served.refused("INVALID", 422, "POST", f"{SEATS}/hold", json=body, headers=token)


def test_the_seats_of_no_event_are_refused(served: Served) -> None:
    served.refused("NO_EVENT", 404, "GET", SEATS, params={"event_id": "never-made"})
    served.refused("INVALID", 422, "GET", SEATS)
    served.refused("INVALID", 422, "GET", SEATS, params={"event_id": "a b"})
