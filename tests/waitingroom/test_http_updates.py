"""Places pushed to who listens: what changes, and when it ends."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from support import eventually
from understudy.lab import Lab
from understudy.waitingroom import push
from waitingroom.conftest import Served, bearer, serving

UPDATES = "/api/v1/queue/updates"
Told = tuple[str, dict[str, Any]]


@contextmanager
def listening(served: Served, ticket: str) -> Iterator[Iterator[Told]]:
    with (
        httpx.Client(base_url=served.url, timeout=10) as http,
        http.stream("GET", UPDATES, headers=bearer(ticket)) as answer,
    ):
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


def events(answer: httpx.Response) -> Iterator[Told]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_who_listens_hears_its_place_move_and_its_end(served: Served) -> None:
    event = served.event(rate_per_s=0)
    first, second = served.join(event)["ticket"], served.join(event)["ticket"]
    with listening(served, second) as told:
        assert next(told) == ("place", served.get("/api/v1/queue/status", headers=bearer(second)))
        served.post("/api/v1/queue/leave", {"ticket": first})
        assert next(told)[1]["position"] == 1
        served.administer("POST", f"/{event}/pause")
        assert next(told)[1]["event_state"] == "paused"
        served.administer("POST", f"/{event}/resume")
        served.administer("PATCH", f"/{event}", json={"rate_per_s": 100})
        while (said := next(told))[1]["state"] == "waiting":
            pass
        assert said[1]["state"] == "admitted" and 50 < said[1]["enter_within_s"] <= 60
        served.post("/api/v1/queue/leave", {"ticket": second})
        assert next(told) == ("end", {**said[1], "state": "left", "enter_within_s": None, "estimate_s": None})
        assert not list(told)


def test_nothing_is_pushed_while_nothing_changes(served: Served) -> None:
    event = served.event(rate_per_s=0)
    ticket = served.join(event)["ticket"]
    with httpx.Client(base_url=served.url, timeout=2.5) as http, http.stream(
        "GET", UPDATES, params={"ticket": ticket}
    ) as answer:  # fmt: skip
        told = events(answer)
        assert next(told)[0] == "place"
        with pytest.raises(httpx.ReadTimeout):
            next(told)


def test_a_comment_shows_that_the_stream_lives(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "_COMMENT_EVERY_S", 0.5)
    ticket = served.join(served.event(rate_per_s=0))["ticket"]
    with served.http.stream("GET", UPDATES, headers=bearer(ticket)) as answer:
        assert any(line == ": still here" for line in answer.iter_lines())


def test_who_listens_is_not_abandoned_and_who_hangs_up_is_forgotten(served: Served) -> None:
    event = served.event(rate_per_s=0, abandon_after_s=2)
    listens, silent = served.join(event)["ticket"], served.join(event)["ticket"]
    with listening(served, listens) as told:
        assert next(told)[1]["position"] == 1
        assert served.app.desk.hub.count == 1
        time.sleep(3.5)
        assert served.administer("GET", f"/{event}")["counts"]["waiting"] == 1
        assert served.get("/api/v1/queue/status", headers=bearer(silent))["state"] == "abandoned"
    eventually(lambda: served.app.desk.hub.count == 0, 2)
    assert "waitingroom_sse_streams 0.0" in served.http.get("/metrics").text


def test_who_polls_is_not_abandoned(served: Served) -> None:
    event = served.event(rate_per_s=0, abandon_after_s=1.2)
    ticket = served.join(event)["ticket"]
    for _ in range(10):
        time.sleep(0.25)
        assert served.get("/api/v1/queue/status", headers=bearer(ticket))["state"] == "waiting"


def test_no_more_streams_than_allowed(valkey_standalone_lab: Lab) -> None:
    with serving(valkey_standalone_lab.target(), most_streams=1) as small:
        ticket = small.join(small.event(rate_per_s=0))["ticket"]
        with listening(small, ticket) as told:
            next(told)
            small.refused("TOO_MANY_REQUESTS", 429, "GET", UPDATES, headers=bearer(ticket))
        eventually(lambda: small.app.desk.hub.count == 0, 2)
        with listening(small, ticket) as told:
            next(told)


def test_streams_end_well_with_the_gateway(valkey_standalone_lab: Lab) -> None:
    with serving(valkey_standalone_lab.target()) as ending:
        ticket = ending.join(ending.event(rate_per_s=0))["ticket"]
        raw = socket.create_connection(("127.0.0.1", httpx.URL(ending.url).port or 0), 5)
        raw.sendall(f"GET {UPDATES}?ticket={ticket} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        said = b""
        while b"event: place" not in said:
            said += raw.recv(4096)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    with raw:
        while more := raw.recv(4096):
            said += more
    assert said.endswith(b"\r\n0\r\n\r\n")  # whole, and not cut off


def test_thousands_listen_and_hear_it(valkey_standalone_lab: Lab) -> None:
    count = 1000
    with serving(valkey_standalone_lab.target(), connections=5000) as crowded:
        event = crowded.event(rate_per_s=0)
        tickets = [crowded.join(event)["ticket"] for _ in range(20)]
        sockets = []
        for one in range(count):
            made = socket.create_connection(("127.0.0.1", httpx.URL(crowded.url).port or 0), 5)
            made.sendall(f"GET {UPDATES}?ticket={tickets[one % 20]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            sockets.append(made)
        eventually(lambda: crowded.app.desk.hub.count == count)
        crowded.post("/api/v1/queue/leave", {"ticket": tickets[0]})
        time.sleep(1.5)
        heard = [made.recv(65536) for made in sockets]
        assert sum(b'"waiting":19' in one for one in heard) == count
        for made in sockets:
            made.close()
        eventually(lambda: crowded.app.desk.hub.count == 0)
