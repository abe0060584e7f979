"""One buyer: joins, waits, enters, looks for seats, buys some, or thinks better of it, or goes without a word."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from understudy.sale.desk import Desk
from understudy.sale.plan import SalePlan
from understudy.sale.record import Request

_API = "/api/v1"
_IMPATIENT, _VANISHES, _MISSES = 0.02, 0.02, 0.01  # leaves the line; is silent in it; does not come when called
_DOUBLE_CLICKS, _REPEATS = 0.1, 0.05
_RELEASES, _WALKS_AWAY = 0.15, 0.1
_TRIES = 8


class Buyer:
    """Everything about one of them is drawn from a seed; `number` is who it is."""

    def __init__(self, number: int, desk: Desk, plan: SalePlan) -> None:
        self.number = number
        self._desk = desk
        self._plan = plan
        self._random = random.Random(f"{plan.seed}:{number}")  # noqa: S311 - to be drawn again
        self._gateway = number % len(desk.gates)
        self._fate = self._random.random()
        self._keys = 0
        self._poll_most_s = max(2.5, plan.buyers / 1600)

    async def live(self) -> None:
        """Do all of it."""
        ticket = await self._join()
        if not ticket:
            return
        called = await self._wait(ticket)
        if not called:
            return
        token = await self._enter(ticket)
        if token and await self._shop(token):
            await self._insist("leave", "/queue/leave", {}, bearer=ticket)

    async def _join(self) -> str:
        body = {"event_id": self._desk.event, "user_id": f"buyer-{self.number}"}
        key = self._key()
        request, reply = await self._insist("join", "/queue/join", body, key=key)
        if request.acknowledged and self._chance(_REPEATS):
            await self._ask("join", "POST", "/queue/join", body, key=key)
        return str(reply.body["ticket"]) if request.acknowledged else ""

    async def _wait(self, ticket: str) -> bool:
        """Poll until called; False where it ended otherwise."""
        polls = self._random.randrange(3, 12)
        estimate_s = 1.0
        while not self._desk.over:
            pause_s = min(self._poll_most_s, max(0.5, estimate_s / 3)) * self._random.uniform(0.75, 1.25)
            await asyncio.sleep(pause_s)
            request, reply = await self._ask("status", "GET", "/queue/status", None, bearer=ticket)
            if request.refused and reply.status != 429:
                return False
            if not request.acknowledged:
                self._gateway = (self._gateway + 1) % len(self._desk.gates)
                estimate_s = max(reply.retry_after_s, 1.0) * 3
                continue
            state = reply.body["state"]
            if state != "waiting":
                return state in {"admitted", "inside"} and self._fate < 1 - _MISSES  # some miss their call
            estimate_s = reply.body["estimate_s"] or 3.0
            polls -= 1
            if polls == 0 and self._fate < _IMPATIENT + _VANISHES:
                if self._fate < _IMPATIENT:
                    await self._insist("leave", "/queue/leave", {}, bearer=ticket)
                return False
        return False

    async def _enter(self, ticket: str) -> str:
        if self._chance(_DOUBLE_CLICKS):
            here, there = (
                self._desk.ask(
                    self.number, "enter", "POST", f"{_API}/queue/enter", {}, bearer=ticket,
                    gateway=(self._gateway + one) % len(self._desk.gates),
                )
                for one in (0, 1)
            )  # fmt: skip
            await asyncio.gather(here, there)
        while True:
            request, reply = await self._insist("enter", "/queue/enter", {}, bearer=ticket)
            if request.acknowledged:
                return str(reply.body["token"])
            if request.code != "NOT_ADMITTED" or self._desk.over:
                return ""
            await asyncio.sleep(self._random.uniform(0.5, 1.0))

    async def _shop(self, token: str) -> bool:
        """Return whether a goodbye is said at the end."""
        for _ in range(_TRIES):
            free, left = await self._look()
            if not left or self._desk.over:
                return True
            if not free:
                await asyncio.sleep(self._random.uniform(0.5, 1.5))
                continue
            wanted = self._random.sample(free, min(len(free), self._random.choice((1, 2, 2))))
            held = await self._on_seats("hold", wanted, token)
            if held.code in {"SEAT_UNAVAILABLE", "SOLD_OUT"}:
                continue
            if not held.acknowledged:
                return not held.unknown
            await asyncio.sleep(self._random.uniform(0.2, 2.0))
            chance = self._random.random()
            if chance < _WALKS_AWAY:
                return False
            if chance < _WALKS_AWAY + _RELEASES:
                await self._on_seats("release", wanted, token)
                continue
            bought = await self._on_seats("confirm", wanted, token)
            if bought.acknowledged or bought.unknown:
                return self._chance(0.8)
        return True

    async def _look(self) -> tuple[list[str], bool]:
        """Return the seats that are free, and whether any may become so."""
        request, reply = await self._ask("seats", "GET", f"/seats?event_id={self._desk.event}", None)
        if not request.acknowledged:
            return [], True
        seats: dict[str, str] = reply.body["seats"]
        return [name for name, state in seats.items() if state == "AVAILABLE"], "S" * len(seats) != request.said["map"]

    async def _on_seats(self, kind: str, seats: list[str], token: str) -> Request:
        key = self._key()
        body = {"seats": seats}
        request = await self._insist(kind, f"/seats/{kind}", body, bearer=token, key=key, asked=seats)
        if request[0].acknowledged and self._chance(_REPEATS):
            await self._insist(kind, f"/seats/{kind}", body, bearer=token, key=key, asked=seats)
        return request[0]

    async def _ask(self, kind: str, method: str, path: str, body: Any, **how: Any) -> tuple[Request, Any]:
        return await self._desk.ask(self.number, kind, method, _API + path, body, gateway=self._gateway, **how)

    async def _insist(self, kind: str, path: str, body: Any, **how: Any) -> tuple[Request, Any]:
        return await self._desk.insist(
            self.number, kind, _API + path, body, gateway=self._gateway, randomness=self._random, **how
        )

    def _key(self) -> str:
        self._keys += 1
        return f"b{self.number}-{self._keys}"

    def _chance(self, of: float) -> bool:
        return self._random.random() < of
