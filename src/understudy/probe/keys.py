"""`/redis/test-keys`: where keys go. Each is written, read back and removed through the client under test."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass

from redis.cluster import RedisCluster

from understudy.errors import UnderstudyError
from understudy.probe.arrangement import look
from understudy.probe.connection import CLIENT_ERRORS, Connection
from understudy.valkey.connect import Client
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode
from understudy.valkey.topology import Topology

MOST_KEYS = 10_000
_EXPIRE_S = 60  # should the removal fail
_STOP_AFTER_S = 15.0
_MOST_ERRORS = 5  # in a row: then nothing is there, and each would wait for its timeout


@dataclass(frozen=True)
class KeyRouting:
    """One key. `address` is where the client sends it; `shard` who owns its slot, None where that is not visible."""

    key: str
    slot: int
    shard: int | None
    address: str
    ok: bool
    latency_ms: float
    error: str
    why: str


@dataclass(frozen=True)
class KeyRoutings:
    """All of them. `complete` is false where time ran out or errors did not end; `per_shard` counts keys."""

    mode: Mode
    asked: int
    tried: int
    succeeded: int
    complete: bool
    per_shard: dict[str, int]
    keys: tuple[KeyRouting, ...]
    notes: tuple[str, ...]


def route_keys(connection: Connection, count: int, prefix: str) -> KeyRoutings:
    """Write, read back and remove so many keys `prefix:RUN:NUMBER`; RUN is random, so that no key of yours is met.

    Raises:
        one of CLIENT_ERRORS: there is no client yet, for no server ever answered.
    """
    client = connection.long_lived()
    notes: list[str] = []
    try:
        topology = look(connection)
    except UnderstudyError as error:
        topology = None
        notes.append(f"Who serves which slot is not known: {error.why}")
    if connection.mode is Mode.ENTERPRISE:
        notes.append("Which shard serves a key is decided behind the endpoint, and not visible to a client.")
    run, ends = secrets.token_hex(4), time.monotonic() + _STOP_AFTER_S
    shards = _shards(topology)
    tried: list[KeyRouting] = []
    in_a_row = 0
    for number in range(count):
        if time.monotonic() > ends or in_a_row >= _MOST_ERRORS:
            break
        tried.append(_route(connection, client, f"{prefix}:{run}:{number}", shards))
        in_a_row = 0 if tried[-1].ok else in_a_row + 1
    if len(tried) < count:
        why = f"{_MOST_ERRORS} errors in a row" if in_a_row >= _MOST_ERRORS else f"{_STOP_AFTER_S:g} s were over"
        notes.append(f"Stopped after {len(tried)} of {count} keys: {why}.")
    per_shard = Counter("hidden" if one.shard is None else str(one.shard) for one in tried)
    return KeyRoutings(
        connection.mode, count, len(tried), sum(one.ok for one in tried), len(tried) == count,
        dict(sorted(per_shard.items())), tuple(tried), tuple(notes),
    )  # fmt: skip


def _shards(topology: Topology | None) -> dict[int, int] | int | None:
    """Return the shard of each slot, of all slots, or None where nobody can tell."""
    if topology is None or topology.mode is Mode.ENTERPRISE:
        return None
    if topology.mode is not Mode.OSS_CLUSTER:
        return 1
    return {slot: number for number, shard in enumerate(topology.shards, 1) for slot in shard.slots}


def _route(connection: Connection, client: Client, key: str, shards: dict[int, int] | int | None) -> KeyRouting:
    slot = key_slot(key.encode())
    shard = shards.get(slot) if isinstance(shards, dict) else shards
    began = time.perf_counter()
    error, why = "", ""
    try:
        client.set(key, key, ex=_EXPIRE_S)
        found = client.get(key)
        client.delete(key)
        if found != key:
            error, why = "Mismatch", "what was read back is not what was written"
    except CLIENT_ERRORS as problem:
        error, why = type(problem).__name__, connection.explained("routing a key", problem).why
    spent_ms = round((time.perf_counter() - began) * 1000, 3)
    return KeyRouting(key, slot, shard, _address(connection, client, key), not error, spent_ms, error, why)


def _address(connection: Connection, client: Client, key: str) -> str:
    if isinstance(client, RedisCluster):
        node = client.get_node_from_key(key)  # type: ignore[no-untyped-call]
        return f"{node.host}:{node.port}" if node else ""
    held = client.connection_pool.connection_kwargs
    master = getattr(client.connection_pool, "master_address", None)
    if master:
        return "{}:{}".format(*master)
    return f"{held['host']}:{held['port']}" if "host" in held else str(connection.target.seeds[0])
