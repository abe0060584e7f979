"""A gateway of the waiting room that serves for real, in this process, on a port of its own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from understudy.http.serve import url_of
from understudy.lab import Lab
from understudy.valkey.target import Target
from understudy.waitingroom.app import Gateway
from understudy.waitingroom.desk import Options
from understudy.waitingroom.serve import bound, gateway, server
from understudy.waitingroom.tokens import Signer, passing_key

SECRET = "a-secret-for-tests"


@dataclass
class Served:
    """A gateway under test, and what is asked of it most."""

    url: str
    http: httpx.Client
    app: Gateway
    operator: dict[str, str] = field(default_factory=lambda: bearer(SECRET))

    def call(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        answer = self.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def get(self, path: str, status: int = 200, **more: Any) -> Any:
        return self.call("GET", path, status, **more)

    def post(self, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        return self.call("POST", path, status, **({"json": body} if body is not None else {}), **more)

    def refused(self, code: str, status: int, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Ask what must be refused, and look whether the problem is as problems are."""
        answer = self.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        said: dict[str, Any] = answer.json()
        assert said["code"] == code and said["status"] == status and said["why"] and said["detail"]
        return said

    def administer(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        return self.call(method, f"/api/v1/events{path}", status, headers=self.operator, **more)

    def event(self, seats: int | list[str] = 10, state: str = "open", **settings: Any) -> str:
        """Make an event with a name of its own."""
        name = f"event-{secrets.token_hex(4)}"
        self.administer("POST", "", 201, json={"event_id": name, "seats": seats, **settings})
        if state != "created":
            self.administer("POST", f"/{name}/open")
        return name

    def join(self, event: str, user: str | None = None, **more: Any) -> dict[str, Any]:
        said: dict[str, Any] = self.post("/api/v1/queue/join", {"event_id": event, "user_id": user}, 201, **more)
        return said

    def inside(self, event: str, user: str | None = None) -> dict[str, str]:
        """Join and enter, where there is room at once; return the header of who is inside."""
        ticket = self.join(event, user)["ticket"]
        return bearer(self.post("/api/v1/queue/enter", {"ticket": ticket})["token"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def serving(
    target: Target, *, signer: Signer | None = None, connections: int = 500, deadline_s: float = 2.0, replicas: int = 0,
    **options: Any,
) -> Iterator[Served]:  # fmt: skip
    """Serve until the block ends."""
    told = Options(**{"secret": SECRET, "rate_per_address": 0.0, **options})
    app = gateway(target, signer or Signer(passing_key()), told, replicas=replicas, deadline_s=deadline_s)
    with bound("127.0.0.1", 0, "") as listening:
        serves = server(app, listening, connections=connections)
        url = url_of(listening)
        thread = threading.Thread(target=serves.serve_until_ended)
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=20) as http:
                yield Served(url, http, app)
        finally:
            serves.end()
            thread.join(15)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def served(valkey_standalone_lab: Lab) -> Iterator[Served]:
    """A gateway before a standalone server, for a module's tests; each makes events of its own."""
    with serving(valkey_standalone_lab.target()) as one:
        yield one
