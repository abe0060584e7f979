"""valkey-py under test."""

from __future__ import annotations

from understudy.drill.client import Client, Preset, Watch
from understudy.drill.clients.redis_py import Library, connect_as
from understudy.valkey.target import Target


def connect(target: Target, preset: Preset) -> tuple[Client, Watch]:
    """Return a valkey-py client and the eye on it."""
    return connect_as(Library.of("valkey", "Valkey"), target, preset)
