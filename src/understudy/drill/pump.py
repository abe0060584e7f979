"""The relay's process: this file run as a program, standard library only. See `relay.py` for what it is asked.

A command is a line of JSON on its input; each is answered by a line of JSON: true, a port, or {"error": …}. When the
input ends it ends too, and first says its last words, if it was given any and nobody told it to end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import socket
import sys
from collections import deque
from typing import Any

# Another server is known by its first commands: a replica, a sentinel, a primary that migrates keys.
_SERVER = re.compile(
    rb"\*\d+\r\n\$\d+\r\n(?:(?:REPLCONF|PSYNC|SYNC|RESTORE-ASKING)\r\n"
    rb"|CLIENT\r\n\$7\r\nSETNAME\r\n\$\d+\r\nsentinel-|(?:P?SUBSCRIBE|PUBLISH)\r\n\$\d+\r\n__sentinel__:hello)",
    re.IGNORECASE,
)
_LISTENED_TO_BYTES = 4096
_MOST_LATE_BYTES = 32 << 20  # of one connection: what comes faster than it is passed on
_CONNECT_WITHIN_S = 1.0
_LAST_WORDS_WITHIN_S = 3.0


class Relay:
    """What all connections share."""

    def __init__(self) -> None:
        self.upstreams: list[tuple[str, int]] = []
        self.delay_s = 0.0
        self.cut = False
        self.clients: set[Client] = set()
        self.turn = 0
        self.last_words: tuple[str, int, bytes] | None = None
        self._listener: asyncio.Server | None = None

    async def do(self, command: dict[str, Any]) -> Any:
        """Follow one command."""
        [(name, value)] = command.items()
        match name:
            case "listen":
                start = asyncio.get_running_loop().create_server
                self._listener = await start(lambda: Client(self), *value, backlog=1024)
                return int(self._listener.sockets[0].getsockname()[1])
            case "upstreams":
                self.upstreams = [(host, port) for host, port in value]
            case "delay_s":
                self.delay_s = value
            case "cut_servers":
                self.cut = value
                # What was swallowed cannot be made up for: who was cut off has to connect again.
                for client in [client for client in self.clients if client.server and not self.cut]:
                    client.end()
            case "last_words":
                host, port, words = value
                self.last_words = (host, port, base64.b64decode(words))
        return True

    async def speak_last(self) -> None:
        """Close everything, which frees the port, and say the last words."""
        if self._listener:
            self._listener.close()
        for client in list(self.clients):
            client.end()
        if self.last_words:
            host, port, words = self.last_words
            async with asyncio.timeout(_LAST_WORDS_WITHIN_S):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(words)
                writer.write_eof()
                await reader.read()


class Side(asyncio.Protocol):
    """One end of a connection: what comes in here goes out at `other`, after a delay where there is one."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.transport: Any = None
        self.other: Side | None = None
        self.late: deque[tuple[float, bytes]] = deque()
        self.late_bytes = 0
        self.choked = False  # the other side does not take any more

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _: Exception | None) -> None:
        """End the other side as well, once it has what was sent to it; one that is cut off never learns of it."""
        if self.other and not self.late and not self._cut:
            self.other.transport.close()

    def pause_writing(self) -> None:
        """Let the sender wait: its receiver is slow."""
        if self.other:
            self.other.choked = True
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the sender go on."""
        if self.other:
            self.other.choked = False
            self.other.go_on()

    def go_on(self) -> None:
        """Read on, unless too much is on its way already."""
        if not self.choked and self.late_bytes <= _MOST_LATE_BYTES and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def _cut(self) -> bool:
        client = self if isinstance(self, Client) else self.other
        return isinstance(client, Client) and client.server and self.relay.cut

    def hand_on(self, data: bytes) -> None:
        """Give data to the other side now."""
        if self.other:
            self.other.transport.write(data)

    def hand_on_late(self, data: bytes) -> None:
        """Give data to the other side when it is due: in order, and with any number of chunks on their way."""
        loop = asyncio.get_running_loop()
        self.late.append((loop.time() + self.relay.delay_s, data))
        self.late_bytes += len(data)
        if self.late_bytes > _MOST_LATE_BYTES:
            self.transport.pause_reading()
        if len(self.late) == 1:
            loop.call_at(self.late[0][0], self._due)

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        while self.late and self.late[0][0] <= loop.time():
            data = self.late.popleft()[1]
            self.late_bytes -= len(data)
            self.hand_on(data)
        if self.late:
            loop.call_at(self.late[0][0], self._due)
        elif self.transport.is_closing():
            self.connection_lost(None)
        self.go_on()


class Upstream(Side):
    """The server's end. It is its answers that come late."""

    def data_received(self, data: bytes) -> None:
        """Pass on what the server says."""
        if self._cut:
            return
        if self.relay.delay_s or self.late:
            self.hand_on_late(data)
        else:
            self.hand_on(data)


class Client(Side):
    """The end of whoever called us: a client, or another server."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.heard = b""
        self.server = False
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        """Look for a server to pass this on to."""
        super().connection_made(transport)
        self.relay.clients.add(self)
        transport.pause_reading()
        self._dialling = asyncio.create_task(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        upstreams = self.relay.upstreams
        self.relay.turn += 1
        for i in range(len(upstreams)):
            host, port = upstreams[(self.relay.turn + i) % len(upstreams)]
            try:
                async with asyncio.timeout(_CONNECT_WITHIN_S):
                    _, self.other = await loop.create_connection(lambda: Upstream(self.relay), host, port)
            except OSError:  # a timeout is one too
                continue
            self.other.other = self
            if self.transport.is_closing():
                self.other.transport.close()
            else:
                self.transport.resume_reading()
            return
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass on what the caller says, and listen to its first words."""
        if len(self.heard) < _LISTENED_TO_BYTES and not self.server:
            self.heard += data[:_LISTENED_TO_BYTES]
            self.server = bool(_SERVER.search(self.heard))
        if not self._cut:
            self.hand_on(data)

    def connection_lost(self, reason: Exception | None) -> None:
        """End."""
        if not self._cut:
            self.relay.clients.discard(self)
        super().connection_lost(reason)

    def end(self) -> None:
        """End both sides at once."""
        self.relay.clients.discard(self)
        for side in (self, self.other):
            if side:
                side.transport.abort()


async def _serve() -> None:
    relay = Relay()
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        try:
            answer = await relay.do(json.loads(line))
        except OSError as error:
            answer = {"error": error.strerror or str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await relay.speak_last()


if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)
    asyncio.run(_serve())
