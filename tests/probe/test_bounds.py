"""What may be asked: within bounds, so many at once, by whom."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from probe.conftest import Probe, serving
from support import eventually
from understudy.lab import Lab
from understudy.valkey.target import Address, Mode, Target

TOKEN = "a-token-for-the-tests"
NOBODY = Target((Address("127.0.0.1", 1),), Mode.STANDALONE)
PATHS = (
    "/redis/status", "/redis/health", "/redis/cluster-info", "/redis/cluster-slots", "/redis/client-list",
    "/redis/test-keys", "/redis/connection-mode", "/redis/monitor", "/redis/failover-recovery",
    "/openapi.json", "/metrics", "/nope",
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("monitor", {"duration": 3601}), ("monitor", {"duration": 0}), ("monitor", {"duration": "nan"}),
        ("monitor", {"duration": "inf"}), ("monitor", {"interval": 0.05}), ("monitor", {"interval": 61}),
        ("failover-recovery", {"max_drift": 0}),
        ("failover-recovery", {"duration": -1}), ("failover-recovery", {"interval": "x"}),
        ("test-keys", {"count": 0}), ("test-keys", {"count": 10001}), ("test-keys", {"prefix": ""}),
        ("test-keys", {"prefix": "a" * 65}), ("test-keys", {"prefix": "a b"}), ("test-keys", {"prefix": "a\n"}),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_with_the_reason(quiet: Probe, path: str, params: dict[str, object]) -> None:
    answer = quiet.http.get(f"/redis/{path}", params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert next(iter(params)) in answer.json()["why"]


@pytest.fixture(scope="module")
def quiet() -> Iterator[Probe]:
    with serving(NOBODY) as probe:
        yield probe


def test_one_stream_too_many_is_answered_later(valkey_standalone: Lab) -> None:
    with serving(valkey_standalone.target(), most_streams=1) as probe:
        running = probe.lines("/redis/monitor", duration=60, interval=0.1)
        next(running)
        refused = probe.http.get("/redis/monitor?duration=1")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        running.close()  # type: ignore[attr-defined]
        eventually(lambda: probe.streams.running == 0)
        assert probe.http.get("/redis/monitor?duration=0.1").status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_told(guarded: Probe, path: str) -> None:
    for given in (None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"):
        answer = httpx.get(guarded.url.rstrip("/") + path, headers={"Authorization": given} if given else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text


@pytest.fixture(scope="module")
def guarded() -> Iterator[Probe]:
    with serving(NOBODY, token=TOKEN) as probe:
        yield probe


def test_with_the_token_everything_is_and_the_page_is_open(guarded: Probe) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.http.get("/redis/status", headers=known).status_code == 200
    page = guarded.http.get("/")
    assert page.status_code == 200
    assert "127.0.0.1:1" not in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:3000"}, {"Host": "["}, {"Origin": "https://evil.example"},
        {"Host": "evil.example@127.0.0.1"}, {"Host": "127.0.0.1/evil.example"}, {"Host": "127.0.0.1\\evil.example"},
        {"Host": "127.0.0.1 evil.example"}, {"Host": "127.0.0.1#x"}, {"Host": "127.1"}, {"Host": "128.0.0.1"},
        {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(quiet: Probe, headers: dict[str, str]) -> None:
    answer = quiet.http.get("/redis/status", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"


def test_our_own_page_a_link_to_it_and_curl_are_not(quiet: Probe) -> None:
    port = quiet.url.rstrip("/").rpartition(":")[2]
    hosts = [{"Host": host} for host in (f"localhost:{port}", "[::1]:9", "127.0.0.2")]
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, *hosts):
        assert quiet.http.get("/redis/connection-mode", headers=headers).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert quiet.http.get("/", headers=link).status_code == 200
    assert quiet.http.get("/redis/status", headers=link).status_code == 403


def test_another_loopback_address_that_is_listened_on_is_answered() -> None:
    with serving(NOBODY, host="127.0.0.2") as probe:
        assert probe.url.startswith("http://127.0.0.2:")
        assert probe.get("/redis/connection-mode")["mode"] == "standalone"


def test_every_answer_tells_browsers_to_do_no_more_than_they_must(quiet: Probe) -> None:
    for path in ("/redis/status", "/nope", "/"):
        headers = quiet.http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    policies = {quiet.http.get("/").headers["content-security-policy"] for _ in range(2)}
    assert len(policies) == 2  # a nonce is used once
    assert "unsafe" not in str(policies)


def test_a_stream_ends_with_a_word_when_the_server_does(valkey_standalone: Lab) -> None:
    with serving(valkey_standalone.target()) as probe:
        lines = probe.lines("/redis/monitor", duration=60, interval=0.2)
        next(lines)
        began = time.monotonic()
        probe.end()
        *_, last = lines
        assert last == {"type": "end", "why": "the probe is ending"}
        assert time.monotonic() - began < 5
