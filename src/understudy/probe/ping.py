"""Does it answer, and how fast: the client under test, and a fresh one beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from redis.cluster import RedisCluster

from understudy.probe.connection import CLIENT_ERRORS, Connection
from understudy.valkey.connect import Client


@dataclass(frozen=True)
class Ping:
    """How a PING went. Of a cluster every primary is asked, one after the other, and `latency_ms` is for all of them.

    `latency_ms` of a fresh client holds its making. `error` is the class of the client's exception.
    """

    connected: bool
    latency_ms: float | None = None
    error: str = ""
    why: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Pings:
    """Both at the same moment. `stuck`: the client under test gets no answer, and a fresh one does."""

    long_lived: Ping
    fresh: Ping

    @property
    def stuck(self) -> bool:
        """Return whether only the client under test has the problem."""
        return self.fresh.connected and not self.long_lived.connected


def ping_long_lived(connection: Connection) -> Ping:
    """PING with the client under test. A client that has yet to be made is made now."""
    began = time.perf_counter()
    try:
        client = connection.long_lived()
        began = time.perf_counter()
        _ping(client)
    except CLIENT_ERRORS as error:
        return _failed(connection, "pinging", error)
    return Ping(True, _since_ms(began))


def ping_fresh(connection: Connection) -> Ping:
    """PING with a client made for it."""
    began = time.perf_counter()
    try:
        with connection.fresh() as client:
            _ping(client)
    except CLIENT_ERRORS as error:
        return _failed(connection, "pinging with a fresh client", error)
    return Ping(True, _since_ms(began))


def silent(why: str) -> Ping:
    """Return the result of a PING that was given up."""
    return Ping(False, None, "TimeoutError", why, "Is the server stopped, or far away?")


def _ping(client: Client) -> None:
    if isinstance(client, RedisCluster):
        client.ping(target_nodes=RedisCluster.PRIMARIES)
    else:
        client.ping()


def _failed(connection: Connection, doing: str, error: Exception) -> Ping:
    told = connection.explained(doing, error)
    return Ping(False, None, type(error).__name__, told.why, told.hint)


def _since_ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
