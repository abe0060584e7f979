"""The services that are measured, each in a process of its own; and events and tickets for them, made beside them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.http_load import CONNECTIONS, Load, load
from understudy.lab.live import Lab
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Target
from understudy.waitingroom.room import Room
from understudy.waitingroom.values import EventSettings

SECRET = "a-secret-for-the-benchmark-only"
_READY_WITHIN_S = 15.0
_AT_ONCE = 500
Result = TypeVar("Result")


@dataclass(frozen=True)
class Serving:
    """A service that answers."""

    url: str
    pid: int


@contextmanager
def ours(lab: Lab, *words: str) -> Iterator[Serving]:
    """`understudy waitingroom` as typed; the generator is one address, so that the limit for one is off."""
    typed = ["-m", "understudy", "waitingroom", "--rate-per-address", "0", *words]
    with _served(typed, {**lab.env(), "WAITINGROOM_SECRET": SECRET}, "/readyz") as serving:
        yield serving


@contextmanager
def plain(lab: Lab, *words: str) -> Iterator[Serving]:
    """FastAPI and redis-py on uvicorn, as people start it."""
    with _served(["-m", "uvicorn", "benchmarks.waitingroom_plain:app", *words], lab.env(), "/healthz") as serving:
        yield serving


@contextmanager
def ceiling() -> Iterator[Serving]:
    """The same HTTP with nothing behind it."""
    with _served(["-m", "benchmarks.waitingroom_ceiling"], {}, "/healthz") as serving:
        yield serving


@contextmanager
def _served(words: Sequence[str], env: dict[str, str], ready: str) -> Iterator[Serving]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *words, "--port", str(port)],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + _READY_WITHIN_S
        while not _answers(url + ready):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"it does not start: {' '.join(words)}")
            time.sleep(0.05)
        yield Serving(url, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def with_room(target: Target, work: Callable[[Room], Awaitable[Result]]) -> Result:
    """Run something with a room of our own."""

    async def run() -> Result:
        client = BatchedClient(target)
        await client.start()
        try:
            return await work(Room(client, deadline_s=20))
        finally:
            await client.close()

    return asyncio.run(run())


async def opened(room: Room, event: str, **settings: float) -> None:
    """Make an event and open it."""
    await room.create(event, EventSettings.model_validate({"max_waiting": 0, "abandon_after_s": 0, **settings}))
    await room.act(event, "open")


async def filled(room: Room, event: str, count: int, prefix: str = "filled") -> list[str]:
    """Join so many; return their tickets, in the order of the line."""
    tickets: list[str] = []
    for at in range(0, count, _AT_ONCE):
        some = range(at, min(count, at + _AT_ONCE))
        tickets += [one.ticket for one in await asyncio.gather(*(room.join(event, f"{prefix}-{n}") for n in some))]
    return tickets


async def called(room: Room, event: str, count: int) -> list[str]:
    """Have so many people in an event who were called, and did not enter yet; return their tickets."""
    await opened(room, event, rate_per_s=100_000, burst=1_000_000, entry_ttl_s=3600)
    tickets = await filled(room, event, count)
    await room.tick(event)
    return tickets


def queue_load(
    serving: Serving, operation: str, event: str, tickets: Sequence[str] = (), *,
    seconds: float, rate: float = 0.0, connections: int = CONNECTIONS,
) -> Load:  # fmt: skip
    """Load a service with one operation; every answer must be the right one."""
    joins = operation == "join"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(tickets))
        file.flush()
        seen = load(
            "GET" if operation == "status" else "POST",
            f"{serving.url}/api/v1/queue/{operation}",
            body=f'{{"event_id":"{event}","user_id":"user-{{n}}"}}' if joins else "",
            headers=[] if joins else ["Authorization: Bearer {v}"],
            values=None if joins else Path(file.name),
            seconds=seconds,
            connections=connections,
            rate=rate,
            keep=1,
            pid=serving.pid,
        )
    if set(seen.by_status) != {"201" if joins else "200"}:
        raise SystemExit(f"{operation} on {serving.url} answered {seen.by_status}: {seen.first_bodies}")
    return seen
