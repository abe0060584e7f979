"""What a failover does to a client of each kind in each mode: the risk, why, and what to do. Pure.

The figures are those of docs/connecting.md and of the drills: real servers, measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from understudy.probe.connection import ClientKind
from understudy.valkey.target import Mode, Target

Level = Literal["low", "medium", "high", "unknown"]


@dataclass(frozen=True)
class Risk:
    """How likely it is that this client does not come back after a failover, why, and what to do about it."""

    risk: Level
    why: tuple[str, ...]
    what_to_do: tuple[str, ...]


_STANDALONE = Risk(
    "high",
    ("One server: when it is gone there is nothing to fail over to, and the client waits until it is back.",),
    ("Use a replicated stack: sentinel, oss-cluster, or an endpoint of a managed service (enterprise).",),
)
_SENTINEL = Risk(
    "low",
    (
        "The client asks the sentinels for the primary whenever it connects, and their addresses stay.",
        "Until the sentinels have agreed (down-after-milliseconds, and an election) every write fails.",
        "A plain SENTINEL FAILOVER loses writes that were acknowledged; COORDINATED (Valkey 9) loses none.",
    ),
    ("Retry with a deadline longer than the failover takes; name all sentinels in REDIS_NODES.",),
)
_ENTERPRISE = Risk(
    "low",
    (
        "One stable endpoint: the proxy behind it finds the new servers, the client keeps no map of them.",
        "Connections through the proxy can break, and commands fail until a new primary is there.",
    ),
    ("Retry with a deadline; what cannot be repeated safely needs a key of its own against doing it twice.",),
)
_CLUSTER_DEFAULTS = Risk(
    "high",
    (
        "The client keeps a map of the nodes, and replaces the addresses that you gave by the nodes that it found.",
        "When planned maintenance replaces all of those behind a stable endpoint, an idle client never comes back.",
        "Measured with redis-py's defaults: 0 of 1,120 operations in 25 s, none until the process is restarted.",
    ),
    (
        "REDIS_MODE=enterprise, where the service offers an endpoint: the proxy follows the change.",
        "Or RedisCluster(..., dynamic_startup_nodes=False), as --client recommended does: it was back after 0.07 s.",
        "Retry with a deadline: redis-py does not wait between its attempts in a cluster.",
    ),
)
_CLUSTER = Risk(
    "medium",
    (
        "The client keeps a map of the nodes, which is stale until it has asked again.",
        "It keeps the addresses that you gave (dynamic_startup_nodes=False), so that it finds new nodes through them.",
        "Without an answer it gives up after 2 s, and asks for the map again.",
    ),
    (
        "Give a stable endpoint, or several nodes, in REDIS_NODES.",
        "Retry with a deadline longer than the failover takes (cluster-node-timeout, and an election).",
        "REDIS_MODE=enterprise leaves the map to a proxy.",
    ),
)
_UNKNOWN = Risk(
    "unknown",
    ("No server has answered yet, and no mode was named.",),
    ("Start the server, or set REDIS_MODE.",),
)
_ONE_SEED = (
    "Only one address was given: if it is a node and not a stable endpoint, the client is down until it returns, "
    "though the servers have failed over (seen: 12 s, against 3.5 s with three addresses)."
)


def risk_of(target: Target, kind: ClientKind) -> Risk:
    """Return the risk of a client of this kind for this target."""
    match target.mode:
        case Mode.STANDALONE:
            return _STANDALONE
        case Mode.SENTINEL:
            return _with_seeds(_SENTINEL, target)
        case Mode.ENTERPRISE:
            return _ENTERPRISE
        case Mode.OSS_CLUSTER:
            return _CLUSTER_DEFAULTS if kind is ClientKind.DEFAULTS else _with_seeds(_CLUSTER, target)
        case _:
            return _UNKNOWN


def _with_seeds(risk: Risk, target: Target) -> Risk:
    if len(target.seeds) > 1:
        return risk
    return Risk("medium", (*risk.why, _ONE_SEED), risk.what_to_do)
