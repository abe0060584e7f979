"""Orders: one key each, in a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

T = TypeVar("T")

# What this example is about. `hasty` gives up when the library does, before a cluster has a new primary. `patient`
# tries again until a deadline, which every call here may be: each is the same when repeated.
CLIENTS: dict[str, dict[str, float]] = {
    "hasty": {"socket_timeout": 5.0, "deadline_s": 0.0},
    "patient": {"socket_timeout": 1.0, "deadline_s": 20.0},
}


class Orders:
    """The orders of one shop."""

    def __init__(self, host: str, port: int, client: str | None = None) -> None:
        settings = CLIENTS[client or os.environ.get("SHOP_CLIENT", "patient")]
        self._deadline_s = settings["deadline_s"]
        self._redis = RedisCluster(
            host=host, port=port, decode_responses=True, dynamic_startup_nodes=False,
            socket_timeout=settings["socket_timeout"], socket_connect_timeout=settings["socket_timeout"],
        )  # fmt: skip

    def place(self, number: int, what: str) -> None:
        """Keep an order. Placed twice under one number it is there once."""
        self._within(lambda: self._redis.set(f"order:{number}", what))

    def what(self, number: int) -> str | None:
        """Return what was ordered under a number."""
        found: Any = self._within(lambda: self._redis.get(f"order:{number}"))
        return found

    def primary_of(self, number: int) -> int:
        """Return the port of the server that has an order."""
        return int(self._redis.get_node_from_key(f"order:{number}").port)

    def _within(self, call: Callable[[], T]) -> T:
        """Do what is safe to repeat until it is done, or the deadline is over."""
        end, pause_s = time.monotonic() + self._deadline_s, 0.05
        while True:
            try:
                return call()
            except (RedisError, RedisClusterException):
                if time.monotonic() + pause_s >= end:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)
