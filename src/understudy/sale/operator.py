"""The operator of a sale: makes the event, looks at it again and again, and lets the rest of the line in at the end."""

from __future__ import annotations

import asyncio
from typing import Any

from understudy.errors import UnreachableError
from understudy.sale.desk import Desk
from understudy.sale.gate import Reply
from understudy.sale.plan import SalePlan
from understudy.sale.record import OPERATOR

_EVENTS = "/api/v1/events"
_EVERY_S = 0.25
_WITHIN_S = 30.0


class Operator:
    """Whoever has the secret."""

    def __init__(self, desk: Desk, plan: SalePlan, secret: str) -> None:
        self._desk = desk
        self._plan = plan
        self._secret = secret
        self._gateway = 0
        self.counts: dict[str, int] = {}
        self.rates: list[tuple[float, float]] = []

    async def begin(self) -> None:
        """Make the event and open it.

        Raises:
            UnreachableError: that did not work.
        """
        seats = [f"S{1 + one}" for one in range(self._plan.seats)]
        settings = self._plan.settings
        event = {"event_id": self._desk.event, "seats": seats, **settings}
        reply = await self._insist("POST", _EVENTS, event)
        if reply.status not in {201, 409}:
            raise UnreachableError("making the event", f"{reply.status} {reply.body.get('detail', reply.why)}")
        self.rates.append((self._desk.now_s(), settings["rate_per_s"]))
        reply = await self._insist("POST", f"{_EVENTS}/{self._desk.event}/open", {})
        if reply.status != 200:
            raise UnreachableError("opening the event", f"{reply.status} {reply.body.get('detail', reply.why)}")

    async def watch(self) -> None:
        """Look until cancelled, at every gateway in turn."""
        number = 0
        while True:
            number += 1
            gateway = number % len(self._desk.gates)
            _, reply = await self._desk.ask(
                OPERATOR, "event", "GET", f"{_EVENTS}/{self._desk.event}", bearer=self._secret, gateway=gateway
            )
            if reply.status == 200:
                self.counts = reply.body["counts"]
            await self._desk.ask(
                OPERATOR, "seats", "GET", f"/api/v1/seats?event_id={self._desk.event}", gateway=gateway
            )
            await asyncio.sleep(_EVERY_S)

    async def let_in(self, rate_per_s: float) -> None:
        """Change the rate."""
        self.rates.append((self._desk.now_s(), rate_per_s))
        await self._insist("PATCH", f"{_EVENTS}/{self._desk.event}", {"rate_per_s": rate_per_s})

    async def _insist(self, method: str, path: str, body: Any) -> Reply:
        gateway, until_s = 0, self._desk.now_s() + _WITHIN_S
        while True:
            reply = await self._desk.gates[gateway].ask(method, path, body, bearer=self._secret)
            if 200 <= reply.status < 500 or self._desk.now_s() > until_s:
                return reply
            gateway = (gateway + 1) % len(self._desk.gates)
            await asyncio.sleep(reply.retry_after_s or 0.2)
