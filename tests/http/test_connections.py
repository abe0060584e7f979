"""Who connects and sends nothing, or half a request, is not waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio
import httpx
import pytest
from fastapi import FastAPI

from support import eventually
from understudy.http import connections
from understudy.http.serve import Server, listen, url_of

HALF = b"GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half"
WITHIN_S = 0.5


@contextmanager
def server() -> Iterator[tuple[Server, str, tuple[str, int]]]:
    app = FastAPI()

    @app.get("/slow")
    async def slow(for_s: float = 0) -> str:
        await anyio.sleep(for_s)
        return "there"

    with listen("127.0.0.1", 0, "") as listening:
        serving = Server(app, listening, when_stopping=lambda: None)
        thread = threading.Thread(target=serving.serve_until_ended)
        thread.start()
        try:
            yield serving, url_of(listening), listening.getsockname()
        finally:
            serving.end()
            thread.join(20)


def closed(waiting: socket.socket, within_s: float) -> bool:
    waiting.settimeout(within_s)
    try:
        while waiting.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"", HALF, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + HALF,
        b"GET /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)  # fmt: skip
def test_what_sends_no_whole_request_in_time_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", WITHIN_S)
    with server() as (_, _, address), socket.create_connection(address) as waiting:
        waiting.sendall(sent)
        began = time.monotonic()
        assert closed(waiting, 8 * WITHIN_S)
        assert time.monotonic() - began >= WITHIN_S / 2


def test_a_header_that_comes_a_byte_at_a_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", WITHIN_S)
    with server() as (_, _, address), socket.create_connection(address) as waiting:
        waiting.sendall(HALF)
        ends = time.monotonic() + 8 * WITHIN_S
        while not closed(waiting, 0.05):
            assert time.monotonic() < ends
            try:
                waiting.sendall(b"x")
            except ConnectionError:
                break


def test_an_answer_that_takes_longer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", WITHIN_S)
    with server() as (_, url, _), httpx.Client(base_url=url) as client:
        for _ in range(2):
            assert client.get("/slow", params={"for_s": 2 * WITHIN_S}).json() == "there"


def test_many_that_send_half_a_request_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    with server() as (serving, url, address), ExitStack() as opened:
        for _ in range(40):
            opened.enter_context(socket.create_connection(address)).sendall(HALF)
        eventually(lambda: serving.server_state.connections and len(serving.server_state.connections) <= 8)
        for _ in range(3):
            assert httpx.get(f"{url}slow").json() == "there"
        assert len(serving.server_state.connections) <= 8
