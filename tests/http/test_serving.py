"""Listening, tokens and problems, without any application of ours."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from understudy.errors import RefusedError, UnreachableError, UsageError
from understudy.http.fastapi_problems import answer_problems
from understudy.http.guard import check_token, is_loopback, read_token
from understudy.http.observe import Observe, RequestMetrics
from understudy.http.serve import Server, listen, url_of

GOOD = "a-token-that-is-long"


def test_a_port_that_is_taken_is_refused_and_a_strange_address_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(RefusedError) as refused:
            listen("127.0.0.1", taken.getsockname()[1], "Another port.")
        assert refused.value.hint == "Another port."
    for host in ("203.0.113.1", "no-such-host.invalid"):
        with pytest.raises(UsageError):
            listen(host, 0, "")


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_shown_is_one_that_a_browser_can_open(host: str, shown: str) -> None:
    with listen(host, 0, "") as listening:
        assert url_of(listening) == f"http://{shown}:{listening.getsockname()[1]}/"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    check_token(None, host, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_everything_else_does(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError):
        check_token(None, host, "")
    check_token(GOOD, host, "")


@pytest.mark.parametrize(
    "token",
    ["", "short", "with a space in the middle", "열여섯글자가넘는토큰이지만아스키가아니다", "tab\tin-a-long-token"],
)
def test_a_token_that_is_none_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_token(token, "127.0.0.1", "")
    assert not token or token not in str(refused.value)


def test_the_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{GOOD}\r\nsomething else\n")
    assert read_token(tmp_path / "token") == GOOD
    with pytest.raises(UnreachableError):
        read_token(tmp_path / "nowhere")


def test_a_bug_is_a_problem_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    from threading import Thread

    from prometheus_client import CollectorRegistry

    app = FastAPI()

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("secret-word")

    answer_problems(app)
    app.add_middleware(Observe, metrics=RequestMetrics("test", CollectorRegistry()))
    with listen("127.0.0.1", 0, "") as listening:
        server = Server(app, listening, when_stopping=lambda: None)
        url = url_of(listening)
        thread = Thread(target=server.serve_until_ended)
        thread.start()
        try:
            answer = httpx.get(f"{url}bug")
            lost = httpx.post(f"{url}bug")
        finally:
            server.end()
            thread.join(20)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret-word" not in answer.text + caplog.text
    assert (lost.status_code, lost.headers["allow"]) == (405, "GET")
