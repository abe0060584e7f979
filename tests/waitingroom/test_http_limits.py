"""What a request may be: its size, its form, how often, from where, and how slowly it may come."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from understudy.http import many
from understudy.http.buckets import Buckets, address_of
from understudy.lab import Lab
from waitingroom.conftest import Served, bearer, serving

JOIN = "/api/v1/queue/join"


def address(served: Served) -> tuple[str, int]:
    return "127.0.0.1", httpx.URL(served.url).port or 0


def test_a_body_that_is_too_large_is_refused_by_what_it_says_and_while_it_comes(served: Served) -> None:
    served.refused("TOO_LARGE", 413, "POST", JOIN, content=b" " * (16 * 1024 + 1))

    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield b" " * 1024

    served.refused("TOO_LARGE", 413, "POST", JOIN, content=chunks())


def test_seats_of_a_large_event_fit_into_their_body(served: Served) -> None:
    names = [f"block-{one // 100}:row-{one % 100}:{one}" for one in range(5000)]
    assert served.administer("GET", f"/{served.event(seats=names)}")["counts"]["seats_total"] == 5000


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"event_id": "e"', b'{"event_id": "\\ud800"}'])
def test_a_body_that_is_no_json_is_a_bad_request(served: Served, body: bytes) -> None:
    served.refused("INVALID", 400, "POST", JOIN, content=body)


@pytest.mark.parametrize(
    "body",
    [
        "[]", "7", "null", '{"event_id": null}', '{"event_id": "a b"}', '{"event_id": "' + "e" * 65 + '"}',
        '{"event_id": "e", "user_id": "a b"}', '{"event_id": "e", "dedupe_key": ""}', '{"event_id": "e", "more": 1}',
        '{"event_id": "e\\n"}', '{"event_id": "e{}"}',
    ],
)  # fmt: skip
def test_a_body_with_wrong_values_says_which(served: Served, body: str) -> None:
    assert served.refused("INVALID", 422, "POST", JOIN, content=body)["items"]


@pytest.mark.parametrize("key", ["x" * 129, "a b", "a\tb", "é"])
def test_an_idempotency_key_that_is_none_is_refused(served: Served, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode())]
    served.refused("INVALID", 422, "POST", JOIN, json={"event_id": "e"}, headers=headers)


def test_paths_and_methods_that_are_not_there_are_problems(served: Served) -> None:
    served.refused("NO_PATH", 404, "GET", "/nothing")
    served.refused("NO_PATH", 404, "GET", f"{JOIN}/")
    answer = served.http.get(JOIN)
    assert (answer.status_code, answer.headers["allow"], answer.json()["code"]) == (405, "POST", "NO_PATH")
    assert served.http.head("/healthz").status_code == 200


def test_one_address_may_ask_so_often_and_others_are_not_held_up(valkey_standalone_lab: Lab) -> None:
    with serving(valkey_standalone_lab.target(), rate_per_address=5.0, proxies=1) as limited:
        statuses = [limited.http.get("/api/v1/seats", params={"event_id": "e"}).status_code for _ in range(12)]
        assert statuses == [404] * 10 + [429] * 2
        said = limited.http.get("/api/v1/seats", params={"event_id": "e"})
        assert said.json()["code"] == "TOO_MANY_REQUESTS" and int(said.headers["retry-after"]) >= 1
        assert limited.http.get("/healthz").status_code == 200
        other = {"X-Forwarded-For": "127.0.0.1, 192.0.2.7"}  # the last one is what our proxy saw
        assert limited.http.get("/api/v1/seats", params={"event_id": "e"}, headers=other).status_code == 404


def test_who_asks_does_not_choose_its_own_address(valkey_standalone_lab: Lab) -> None:
    with serving(valkey_standalone_lab.target(), rate_per_address=1.0) as limited:
        asked = [
            limited.http.get("/openapi.json", headers={"X-Forwarded-For": f"192.0.2.{one}"}).status_code
            for one in range(4)
        ]
        assert asked == [200, 200, 429, 429]


def test_guessing_the_secret_is_limited(valkey_standalone_lab: Lab) -> None:
    with serving(valkey_standalone_lab.target(), rate_per_address=1.0) as limited:
        wrong = [limited.http.get("/api/v1/events", headers=bearer("wrong")).status_code for _ in range(4)]
        assert wrong == [401, 401, 429, 429]
        assert limited.http.get("/api/v1/events", headers=limited.operator).status_code == 200


def test_a_bucket_fills_again_and_the_oldest_address_is_forgotten() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 2.0, most=2, clock=lambda: now[0])
    assert [buckets.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.5
    assert buckets.wait_s("a") == 0.0
    assert buckets.wait_s("b") == buckets.wait_s("c") == 0.0
    assert buckets.wait_s("a") == 0.0  # forgotten, so its bucket is full


def test_the_address_is_what_the_outermost_proxy_of_ours_saw() -> None:
    def seen(proxies: int, forwarded: str, peer: str = "10.0.0.1") -> str:
        headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
        return address_of({"client": (peer, 1), "headers": headers}, proxies)

    assert seen(0, "1.1.1.1") == "10.0.0.1"
    assert seen(1, "6.6.6.6, 1.1.1.1") == "1.1.1.1"
    assert seen(2, "6.6.6.6, 1.1.1.1, 10.0.0.2") == "1.1.1.1"
    assert seen(1, "") == "10.0.0.1"
    assert seen(0, "", "2001:db8:1:2:3:4:5:6") == seen(0, "", "2001:db8:1:2::9")
    assert seen(0, "", "::ffff:192.0.2.1") == "192.0.2.1"
    assert seen(1, "not:an:address") == "not:an:address"


def test_pages_of_other_origins_may_use_the_public_api_where_they_are_named(valkey_standalone_lab: Lab) -> None:
    origin = {"Origin": "https://shop.test"}
    with serving(valkey_standalone_lab.target(), origins=frozenset({"https://shop.test"})) as open_to:
        asked = open_to.http.options(JOIN, headers=origin)
        assert asked.status_code == 204 and asked.headers["access-control-allow-origin"] == "https://shop.test"
        assert "idempotency-key" in asked.headers["access-control-allow-headers"]
        said = open_to.http.get("/api/v1/seats", params={"event_id": "e"}, headers=origin)
        assert said.headers["access-control-allow-origin"] == "https://shop.test" and said.headers["vary"] == "Origin"
        stranger = open_to.http.options(JOIN, headers={"Origin": "https://evil.test"})
        assert stranger.status_code == 405 and "access-control-allow-origin" not in stranger.headers
        administration = open_to.http.options("/api/v1/events", headers=origin)
        assert administration.status_code == 405 and "access-control-allow-origin" not in administration.headers


def test_half_a_request_is_not_waited_for(valkey_standalone_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "REQUEST_WITHIN_S", 0.5)
    monkeypatch.setattr(many, "_EVERY_S", 0.1)
    head = b"POST /api/v1/queue/join HTTP/1.1\r\nHost: x\r\n"
    with serving(valkey_standalone_lab.target()) as impatient:
        halves = (b"", head[:20], head, head + b"Content-Length: 10\r\n\r\n{")
        sockets = [socket.create_connection(address(impatient), 5) for _ in halves]
        for one, half in zip(sockets, halves, strict=True):
            one.sendall(half)
        kept = http.client.HTTPConnection(*address(impatient))
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        began = time.monotonic()
        for one in sockets:
            with one, contextlib.suppress(ConnectionResetError):
                assert one.recv(100) == b""
        assert time.monotonic() - began < 3
        kept.request("GET", "/healthz")  # between requests a connection may rest
        assert kept.getresponse().status == 200
        kept.close()


def test_a_head_without_end_is_cut_off(served: Served) -> None:
    with socket.create_connection(address(served), 5) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for _ in range(200):
                one.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
                time.sleep(0.001)


def test_what_comes_behind_a_body_is_no_header_and_has_an_end(served: Served) -> None:
    event = served.event(rate_per_s=0)
    body = f'{{"event_id": "{event}"}}'.encode()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" % JOIN.encode()
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    for _ in range(2):  # a key in a trailer is no key: each is a join of its own
        with socket.create_connection(address(served)) as connection:
            connection.sendall(head + b"Connection: close\r\n\r\n" + chunks + b"Idempotency-Key: same\r\n\r\n")
            assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 201")
    with socket.create_connection(address(served)) as connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        connection.sendall(head + b"\r\n" + chunks)
        for _ in range(10):
            connection.sendall(b"X: y\r\n" * 2000)
            time.sleep(0.05)
        assert connection.recv(100) == b""
    assert served.administer("GET", f"/{event}")["counts"]["joined"] == 2


@pytest.mark.parametrize("more", [b"\r\n", b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{"])
def test_bytes_of_no_request_keep_no_connection(
    valkey_standalone_lab: Lab, monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    monkeypatch.setattr(many, "REQUEST_WITHIN_S", 0.5)
    with (
        serving(valkey_standalone_lab.target()) as served,
        socket.create_connection(address(served)) as connection,
        contextlib.suppress(ConnectionError),  # it is closed, that is all
    ):
        connection.settimeout(0.5)
        began = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + more)
        while time.monotonic() < began + 20:
            connection.sendall(b"\r\n")
            with contextlib.suppress(TimeoutError):
                if not connection.recv(10_000):
                    return
        pytest.fail("it is open still")


def test_one_connection_too_many_closes_those_that_wait_longest(valkey_standalone_lab: Lab) -> None:
    with serving(valkey_standalone_lab.target(), connections=20) as small:
        silent = [socket.create_connection(address(small), 5) for _ in range(60)]
        assert small.http.get("/healthz").status_code == 200
        for one in silent:
            one.close()
