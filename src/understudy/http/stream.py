"""Streams of JSON lines: so many at once, each line sent when it is there, ended by whoever hangs up first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from understudy.http.problem import TooManyError, problem

MEDIA_TYPE = "application/x-ndjson"
Line = Mapping[str, Any]


class Streams:
    """How many streams run, of how many that may; and whether the server is about to end."""

    def __init__(self, most: int, ending: str) -> None:
        self.most = most
        self.running = 0
        self.ending = ending
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Have every stream end with a line that says so; call it in the server's own loop."""
        self._stopping.set()

    async def until_stopped(self) -> None:
        """Wait until `stop` was called."""
        await self._stopping.wait()


class LineStream(Response):
    """One stream: 200 and its lines, or 429 where too many run."""

    def __init__(self, lines: AsyncGenerator[Line, None], streams: Streams) -> None:
        super().__init__(media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._lines = lines
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines, until they end, the client hangs up, or the server stops."""
        async with aclosing(self._lines):
            if self._streams.running >= self._streams.most:
                busy = TooManyError(
                    "starting a stream", f"{self._streams.most} are running, and no more may", "Wait until one ends."
                )
                await problem(busy)(scope, receive, send)
                return
            self._streams.running += 1
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_all(receive, send)
            finally:
                self._streams.running -= 1

    async def _send_all(self, receive: Receive, send: Send) -> None:
        stopped = hung_up = False
        async with anyio.create_task_group() as group:

            async def watch_client() -> None:
                nonlocal hung_up
                while (await receive())["type"] != "http.disconnect":
                    pass
                hung_up = True
                group.cancel_scope.cancel()

            async def watch_server() -> None:
                nonlocal stopped
                await self._streams.until_stopped()
                stopped = True
                group.cancel_scope.cancel()

            group.start_soon(watch_client)
            group.start_soon(watch_server)
            async for line in self._lines:
                await send({"type": "http.response.body", "body": packed(line), "more_body": True})
            group.cancel_scope.cancel()
        if not hung_up:
            last = packed({"type": "end", "why": self._streams.ending}) if stopped else b""
            await send({"type": "http.response.body", "body": last, "more_body": False})


def packed(line: Line) -> bytes:
    """Return one line; dataclasses in it become objects."""
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
