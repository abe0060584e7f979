"""A client that is closed at any moment is closed."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from understudy.valkey.batched.connection import Connection
from understudy.valkey.batched.greeting import Door
from understudy.valkey.batched.line import Line
from understudy.valkey.target import Address, Target


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_line_whose_end_comes_while_it_connects_ends(run: object) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    gone = asyncio.Event()

    async def ends() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        lines: list[Line[Connection]] = []

        class Connected(Connection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                lines[0].leave(at_once=True)

        lines.append(Line(Door(Target((address,))), address, Connected, lambda: None))
        async with asyncio.timeout(5):
            while not lines[0].ended:
                await asyncio.sleep(0.01)
            await gone.wait()
        server.close()
        await server.wait_closed()

    run(ends())  # type: ignore[operator]
