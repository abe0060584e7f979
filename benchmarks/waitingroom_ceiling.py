"""The gateway as it is, over a room that answers at once from memory: the most that our HTTP carries.

python -m benchmarks.waitingroom_ceiling --port 8080
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Sequence
from typing import Any, cast

from understudy.http.many import raise_file_limit
from understudy.waitingroom.app import Gateway
from understudy.waitingroom.desk import Desk, Options
from understudy.waitingroom.metrics import Metrics
from understudy.waitingroom.room import Room
from understudy.waitingroom.serve import bound, server
from understudy.waitingroom.tokens import Signer, passing_key
from understudy.waitingroom.values import Entered, Joined, Place, event_of


class Client:
    """No client: nothing to connect to."""

    reachable = True

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def now_ms(self, key: str) -> int:  # noqa: ARG002 - as the real one
        return time.time_ns() // 1_000_000


class MemoryRoom:
    """Answers as a room does, and keeps a number."""

    def __init__(self) -> None:
        self.client = Client()
        self.waiting = 0

    async def join(self, event: str, user: str = "", **_: str) -> Joined:
        self.waiting += 1
        at, ticket = self.waiting, f"{event}.{secrets.token_urlsafe(16)}"
        return Joined(ticket, event, user, f"1795246463680-{at}", at, 1, at, 10.0, replayed=False)

    async def places(self, event: str, tickets: Sequence[str]) -> Sequence[Place]:
        return [Place(event, "waiting", "open", 1234, 5678, 10.0, 100, 0, 10, 120_000)] * len(tickets)

    heartbeats = places

    async def enter(self, ticket: str) -> Entered:
        now = self.client.now_ms("")
        return Entered(event_of(ticket), "somebody", ticket.rpartition(".")[2], now, now + 600_000)

    def now_ms(self, event: str) -> int:
        return self.client.now_ms(event)

    async def events(self) -> Sequence[str]:
        return ()

    async def forget_unused_code(self) -> Sequence[str]:
        return ()


def gateway() -> Gateway:
    options = Options(rate_per_address=0)
    return Gateway(Desk(cast(Room, cast(Any, MemoryRoom())), Signer(passing_key()), options, Metrics()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waitingroom_ceiling", description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    asked = parser.parse_args()
    with bound("127.0.0.1", asked.port, "") as listening:
        server(gateway(), listening, connections=raise_file_limit()).serve_until_ended()


if __name__ == "__main__":
    main()
