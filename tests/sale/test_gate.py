"""A gateway as buyers reach it: no connection outlives the request that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from understudy.sale.gate import Gate
from understudy.valkey.target import Address

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LAST = ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


@pytest.mark.parametrize("how", ["cancelled", "no answer in time", "the last answer"])
def test_a_connection_that_nobody_will_use_is_closed(how: str) -> None:
    async def lived() -> None:
        ended, asked = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            if how == "the last answer":
                writer.write(LAST)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            ended.set()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            gate = Gate(Address(*server.sockets[0].getsockname()))
            asking = asyncio.create_task(gate.ask("GET", "/", within_s=0.2 if how == "no answer in time" else 60))
            await asyncio.wait_for(asked.wait(), 20)
            if how == "cancelled":
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            else:
                reply = await asking
                assert (reply.status, reply.why) == ((200, "") if how == "the last answer" else (0, how))
            await asyncio.wait_for(ended.wait(), 20)

    asyncio.run(lived())


def test_a_connection_is_used_again_and_closed_at_the_end() -> None:
    async def lived() -> None:
        connections, ended = 0, asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(ANSWER)
            ended.set()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            gate = Gate(Address(*server.sockets[0].getsockname()))
            assert [(await gate.ask("GET", "/")).status for _ in range(3)] == [200] * 3
            assert (connections, ended.is_set()) == (1, False)
            gate.close()
            await asyncio.wait_for(ended.wait(), 20)

    asyncio.run(lived())
