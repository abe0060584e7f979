"""Copy one end of a conversation to the other, as our relays on loopback do."""

from __future__ import annotations

import asyncio

CHUNK_BYTES = 1 << 18


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the source ends, and close the sink: each end of a conversation ends both."""
    try:
        while data := await source.read(CHUNK_BYTES):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()
