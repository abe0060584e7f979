"""Where buyers ask and everything they are answered is written down."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from understudy.sale.gate import Gate, Reply
from understudy.sale.record import Request
from understudy.waitingroom.keys import ticket_id

_LETTERS = {"AVAILABLE": "A", "HELD": "H", "SOLD": "S"}
_WITHIN_S = 6.0


class Desk:
    """All gateways, and the record. `over` is set when nothing is to be repeated any more."""

    def __init__(self, gates: Sequence[Gate], event: str, zero_s: float) -> None:
        self.gates = gates
        self.event = event
        self.requests: list[Request] = []
        self.done: Counter[str] = Counter()
        self.sold = 0
        self.over = False
        self._zero_s = zero_s

    def now_s(self) -> float:
        """Return the seconds since the sale's zero."""
        return time.monotonic() - self._zero_s

    async def ask(
        self, buyer: int, kind: str, method: str, path: str, body: Any = None, *,
        bearer: str = "", key: str = "", gateway: int = 0, asked: Sequence[str] = (),
    ) -> tuple[Request, Reply]:  # fmt: skip
        """Ask once, and write down what came of it."""
        begun_s = self.now_s()
        reply = await self.gates[gateway].ask(method, path, body, bearer=bearer, key=key, within_s=_WITHIN_S)
        told = reply.body
        code = reply.why or ("" if 200 <= reply.status < 300 else str(told.get("code", "")))
        said = _said(kind, told, asked) if 200 <= reply.status < 300 else _said_no(told)
        request = Request(
            buyer, kind, key, gateway, round(begun_s, 4), round(self.now_s(), 4), reply.status, code, said, tuple(asked)
        )
        self.requests.append(request)
        if request.acknowledged:
            self.done[kind] += 1
            if kind == "confirm":
                self.sold += len(asked)
        return request, reply

    async def insist(
        self, buyer: int, kind: str, path: str, body: Any, *,
        bearer: str = "", key: str = "", gateway: int = 0, asked: Sequence[str] = (),
        randomness: random.Random,
    ) -> tuple[Request, Reply]:  # fmt: skip
        """Ask until there is an answer, the same each time, now here and now there."""
        while True:
            request, reply = await self.ask(
                buyer, kind, "POST", path, body, bearer=bearer, key=key, gateway=gateway, asked=asked
            )
            if self.over or not (request.unknown or reply.status == 429):
                return request, reply
            gateway = (gateway + 1) % len(self.gates)
            await asyncio.sleep((reply.retry_after_s or 0.3) * randomness.uniform(0.6, 1.2))


def _said(kind: str, told: dict[str, Any], asked: Sequence[str]) -> dict[str, Any]:
    match kind:
        case "join":
            return {"ticket": ticket_id(told["ticket"]), "position": told["position"]}
        case "status":
            return {"state": told["state"], "position": told["position"]}
        case "enter":
            return {"token": hashlib.sha256(told["token"].encode()).hexdigest()[:16], "id": _jti(told["token"])}
        case "hold" | "release" | "confirm":
            found = {"seats": sorted(told["seats"]), "remaining": told["remaining"]}
            return found | ({"expires_at": told["expires_at"]} if kind == "hold" else {})
        case "seats":
            named = sorted(told["seats"].items(), key=lambda one: (len(one[0]), one[0]))
            letters = "".join(_LETTERS[state] for _, state in named)
            return {"total": told["total"], "remaining": told["remaining"], "map": letters}
        case "event":
            return {"counts": told["counts"], "state": told["state"]}
        case _:
            return {"state": told.get("state", ""), "asked": list(asked)}


def _said_no(told: dict[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("position", "items") if told.get(name)}


def _jti(token: str) -> str:
    claims = token.split(".")[1]
    return str(orjson.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"])
