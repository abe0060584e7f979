"""Which HTTP server carries a small JSON POST best: the same echo on each, one process, the load from another.

python -m benchmarks.servers --seconds 2
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from benchmarks.http_load import load
from understudy.http.serve import listen

BODY = '{"event_id":"concert","user_id":"user-{n}","dedupe_key":"key-{n}"}'
PATH = "/api/v1/queue/join"


class Join(BaseModel):
    event_id: str
    user_id: str | None = None
    dedupe_key: str | None = None


def answer(body: bytes) -> bytes:
    asked = Join.model_validate_json(body)
    return orjson.dumps({"event_id": asked.event_id, "user_id": asked.user_id, "position": 1})


async def raw_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        await receive()
        await send({"type": f"{scope['type']}.startup.complete"})
        await receive()
        await send({"type": f"{scope['type']}.shutdown.complete"})
        return
    body = (await receive())["body"]
    said = answer(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": said})


def starlette_app() -> Any:
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def join(request: Request) -> Response:
        return Response(answer(await request.body()), 201, media_type="application/json")

    return Starlette(routes=[Route(PATH, join, methods=["POST"])])


def fastapi_app() -> Any:
    from fastapi import FastAPI  # noqa: PLC0415

    app = FastAPI()

    @app.post(PATH, status_code=201)
    async def join(asked: Join) -> dict[str, Any]:
        return {"event_id": asked.event_id, "user_id": asked.user_id, "position": 1}

    return app


def litestar_app() -> Any:
    litestar = importlib.import_module("litestar")

    async def join(data: Join) -> dict[str, Any]:
        return {"event_id": data.event_id, "user_id": data.user_id, "position": 1}

    join.__annotations__ = {"data": Join, "return": dict[str, Any]}
    return litestar.Litestar([litestar.post(PATH)(join)])


def on_uvicorn(app: Any, http: Any, loop: str, listening: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415

    config = uvicorn.Config(app, http=http, loop=loop, log_config=None, access_log=False, ws="none")
    uvicorn.Server(config).run(sockets=[listening])


def on_our_h11(app: Any, listening: socket.socket) -> None:
    from understudy.http.connections import Deadlined  # noqa: PLC0415

    on_uvicorn(app, Deadlined, "asyncio", listening)


def on_our_httptools(app: Any, listening: socket.socket) -> None:
    from understudy.http.many import guarded  # noqa: PLC0415

    on_uvicorn(app, guarded(1000), "uvloop", listening)


def on_granian(app: Any, interface: str, listening: socket.socket) -> None:
    from granian.constants import Interfaces  # noqa: PLC0415
    from granian.server.embed import Server  # noqa: PLC0415

    host, port = listening.getsockname()[:2]
    listening.close()
    server = Server(app, address=host, port=port, interface=Interfaces(interface), log_enabled=False)
    importlib.import_module("uvloop").run(server.serve())


class Rsgi:
    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        protocol.response_bytes(201, [("content-type", "application/json")], answer(await protocol()))


def on_httptools_alone(listening: socket.socket) -> None:
    """The floor: a protocol that parses and answers, with no application interface between."""
    httptools, uvloop = importlib.import_module("httptools"), importlib.import_module("uvloop")

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.parser = transport, httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, body: bytes) -> None:
            self.body = body

        def on_message_complete(self) -> None:
            self.task = asyncio.get_running_loop().create_task(self.answer())

        async def answer(self) -> None:
            said = answer(self.body)
            self.transport.write(
                b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(said), said)
            )

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Bare, sock=listening)
        await server.serve_forever()

    uvloop.run(serve())


SERVERS: dict[str, Callable[[socket.socket], None]] = {
    "httptools + uvloop, no interface": on_httptools_alone,
    "granian RSGI": lambda one: on_granian(Rsgi(), "rsgi", one),
    "granian, raw ASGI": lambda one: on_granian(raw_app, "asgi", one),
    "granian, Starlette": lambda one: on_granian(starlette_app(), "asgi", one),
    "uvicorn httptools + uvloop, raw ASGI, guarded and one write": lambda one: on_our_httptools(raw_app, one),
    "uvicorn httptools + uvloop, raw ASGI": lambda one: on_uvicorn(raw_app, "httptools", "uvloop", one),
    "uvicorn httptools + uvloop, Starlette": lambda one: on_uvicorn(starlette_app(), "httptools", "uvloop", one),
    "uvicorn httptools + uvloop, FastAPI": lambda one: on_uvicorn(fastapi_app(), "httptools", "uvloop", one),
    "uvicorn httptools + uvloop, Litestar": lambda one: on_uvicorn(litestar_app(), "httptools", "uvloop", one),
    "uvicorn h11, FastAPI": lambda one: on_our_h11(fastapi_app(), one),
    "uvicorn h11, raw ASGI": lambda one: on_our_h11(raw_app, one),
}


def measured(name: str, seconds: float) -> float | str:
    """Return answers a second, or why this one cannot be measured."""
    with listen("127.0.0.1", 0, "") as listening:
        port = listening.getsockname()[1]
        listening.set_inheritable(True)
        words = [sys.executable, "-m", "benchmarks.servers", "--serve", name, "--fd", str(listening.fileno())]
        server = subprocess.Popen(words, pass_fds=[listening.fileno()], stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    server.kill()
                    return server.communicate()[1].decode().strip().rpartition("\n")[2] or "it does not start"
                time.sleep(0.05)
        time.sleep(0.3)
        if server.poll() is not None:
            return server.communicate()[1].decode().strip().rpartition("\n")[2]
        seen = load("POST", f"http://127.0.0.1:{port}{PATH}", body=BODY, seconds=seconds)
        return seen.per_s if set(seen.by_status) == {"201"} else f"answered {seen.by_status}"
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
        if server.stderr:
            server.stderr.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="only servers with this in their name")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        SERVERS[asked.serve](socket.socket(fileno=asked.fd))
        return
    print(f"A JSON body checked and answered; the median of {asked.rounds} rounds of {asked.seconds:g} s\n")
    print("| server | answers/s | against uvicorn h11, raw ASGI |")
    print("|---|---:|---:|")
    rates: dict[str, float] = {}
    for name in reversed(SERVERS):
        if asked.only in name:
            seen = [measured(name, asked.seconds) for _ in range(asked.rounds)]
            said = [one for one in seen if isinstance(one, str)]
            if said:
                print(f"| {name} | skipped: {said[0]} | |", flush=True)
                continue
            rates[name] = statistics.median(one for one in seen if not isinstance(one, str))
            first = rates.get("uvicorn h11, raw ASGI", rates[name])
            print(f"| {name} | {rates[name]:,.0f} | {rates[name] / first:.2f} |", flush=True)
    place = Path("bench-results")
    place.mkdir(exist_ok=True)
    (place / "servers.json").write_text(json.dumps(rates, indent=2))


if __name__ == "__main__":
    main()
