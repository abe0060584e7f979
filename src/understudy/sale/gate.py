"""A gateway as buyers reach it: HTTP/1.1 over connections that are kept; thin, so that thousands fit one process."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import orjson

from understudy.valkey.target import Address

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `status` 0 where none came, and `why` then."""

    status: int
    body: dict[str, Any]
    retry_after_s: float = 0.0
    why: str = ""


class Gate:
    """One gateway. As many connections as there are requests at once, up to `most`; then requests wait."""

    def __init__(self, address: Address, most: int = 1500) -> None:
        self.address = address
        self._idle: list[_Connection] = []
        self._places = asyncio.Semaphore(most)
        self._head = f"Host: {address}\r\n"

    async def ask(
        self, method: str, path: str, body: Any = None, *,
        bearer: str = "", key: str = "", within_s: float = 5.0,
    ) -> Reply:  # fmt: skip
        """Send one request, once. Whatever happens to it is the answer."""
        sent = b"" if body is None else orjson.dumps(body)
        lines = [f"{method} {path} HTTP/1.1\r\n{self._head}"]
        if bearer:
            lines.append(f"Authorization: Bearer {bearer}\r\n")
        if key:
            lines.append(f"Idempotency-Key: {key}\r\n")
        if body is not None:
            lines.append(f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n")
        raw = "".join(lines).encode() + b"\r\n" + sent
        connection: _Connection | None = None
        again = False
        try:
            async with self._places, asyncio.timeout(within_s):
                connection = await self._connection()
                reply = await connection.ask(raw)
                if again := connection.reusable:
                    self._idle.append(connection)
                return reply
        except TimeoutError:
            why = "no answer in time"
        except OSError as error:
            why = type(error).__name__
        finally:  # also where whoever asked is cancelled
            if connection and not again:
                connection.close()
        return Reply(0, {}, why=why)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self.address.host, self.address.port)
        return connection

    def close(self) -> None:
        """Close what is open."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.reusable = True
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._waits: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._waits and not self._waits.done():
            self._waits.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError("closed"))

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, gap, rest = self._read.partition(b"\r\n\r\n")
        if not gap:
            return
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if len(rest) < length:
            return
        self._read = rest[length:]
        status = int(head[9:12])
        retry = _RETRY.search(head) if status in {429, 503} else None
        if _CLOSE.search(head):
            self.reusable = False
        try:
            body = orjson.loads(rest[:length]) if length else {}
        except ValueError:
            body = {}
        if self._waits and not self._waits.done():
            self._waits.set_result(Reply(status, body, float(retry[1]) if retry else 0.0))

    async def ask(self, raw: bytes) -> Reply:
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        self._waits = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._waits

    def close(self) -> None:
        self.reusable = False
        if self._transport:
            self._transport.abort()
