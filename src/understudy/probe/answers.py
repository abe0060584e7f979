"""Answers that are made of several parts: the bodies of `/redis/status` and `/redis/connection-mode`."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.probe.connection import ClientKind, Connection
from understudy.probe.ping import Ping, Pings
from understudy.probe.risk import Level, risk_of
from understudy.valkey.target import Mode

_STUCK_HINT = "The servers answer others: start this client again; /redis/connection-mode says how to avoid it."


@dataclass(frozen=True)
class Status:
    """Whether the client under test gets an answer. `stuck`: it does not, and a fresh client does."""

    connected: bool
    latency_ms: float | None
    error: str
    why: str
    hint: str
    stuck: bool
    said: str
    mode: Mode
    client: ClientKind
    servers: tuple[str, ...]
    fresh: Ping


@dataclass(frozen=True)
class ConnectionMode:
    """How the probe connects, what a failover does to that, why, and what to do about it."""

    mode: Mode
    client: ClientKind
    servers: tuple[str, ...]
    tls: bool
    risk: Level
    why: tuple[str, ...]
    what_to_do: tuple[str, ...]


def status_of(connection: Connection, pings: Pings) -> Status:
    """Return what a PING of both clients says."""
    own = pings.long_lived
    hint = _STUCK_HINT if pings.stuck else own.hint
    if own.connected:
        said = "The client gets answers."
    elif pings.stuck:
        said = "The client is stuck, a fresh one works."
    else:
        said = "Neither the client nor a fresh one gets an answer."
    return Status(
        own.connected, own.latency_ms, own.error, own.why, hint, pings.stuck, said,
        connection.mode, connection.kind, _servers(connection), pings.fresh,
    )  # fmt: skip


def connection_mode(connection: Connection) -> ConnectionMode:
    """Return how the probe connects; nothing is asked of the server but its mode, where that is not known."""
    target = connection.target
    risk = risk_of(target, connection.kind)
    return ConnectionMode(
        target.mode, connection.kind, _servers(connection), target.tls is not None, risk.risk, risk.why, risk.what_to_do
    )


def _servers(connection: Connection) -> tuple[str, ...]:
    return tuple(map(str, connection.target.seeds))
