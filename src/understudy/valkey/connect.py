"""A redis-py client for a target, in any of the four connection modes, with timeouts that survive a failover.

redis-py's defaults are chosen for the common case; these are chosen for the bad night. What each is for:

- `connect_timeout_s` 2, `socket_timeout_s` 2: a server that is stopped, not dead, answers nothing and closes nothing.
  With 5 s (redis-py's default) recovery took 10 s, without a timeout it never came.
- `dynamic_startup_nodes=False`: the addresses that you gave are kept. By default a cluster client replaces them by
  the nodes that it found; when all of those are replaced behind a stable endpoint, an idle client never comes back.
- `protocol=2`, maintenance notifications off: what every server and proxy understands.
- `health_check_interval` 10: an idle connection is tried before it is trusted.
- cluster retries: redis-py follows MOVED at once but does not sleep between its attempts, so that they are spent
  before a failover has ended. `call_with_deadline` sleeps, and goes on until the deadline.

Bulk work (backup, restore) does not come here: see `wire.py` and `router.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
import stamina
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.credentials import CredentialProvider
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from understudy.valkey.discovery import detect_mode
from understudy.valkey.target import Mode, Target

Client = redis.Redis | RedisCluster
Result = TypeVar("Result")

RETRYABLE = (
    redis.ConnectionError,
    redis.TimeoutError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,  # "no node is reachable", which redis-py itself does not retry
    TryAgainError,
)


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds; and how many times a single connection is tried again at once."""

    connect_timeout_s: float = 2.0
    socket_timeout_s: float = 2.0
    health_check_interval_s: int = 10
    retries: int = 3


RECOMMENDED = Timeouts()


def connect(
    target: Target,
    timeouts: Timeouts = RECOMMENDED,
    *,
    decode_responses: bool = False,
    credentials: CredentialProvider | None = None,
) -> Client:
    """Return a client; a `RedisCluster` for `oss-cluster`, else a `Redis`. Nothing is sent yet, except to a cluster.

    `credentials` are asked for user and password whenever a connection is made, in place of those of the target.

    Raises:
        redis.RedisError: a cluster did not answer.
        UnreachableError: the mode was `auto`, and no server answered.
    """
    mode = detect_mode(target) if target.mode is Mode.AUTO else target.mode
    shared: dict[str, Any] = {
        **_authentication(target, credentials),
        "socket_connect_timeout": timeouts.connect_timeout_s,
        "socket_timeout": timeouts.socket_timeout_s,
        "health_check_interval": timeouts.health_check_interval_s,
        "protocol": 2,
        "decode_responses": decode_responses,
        **tls_keywords(target),
    }
    shared["retry"] = Retry(ExponentialBackoff(cap=0.5, base=0.05), timeouts.retries)
    return _client(target, mode, shared, {"dynamic_startup_nodes": False, "require_full_coverage": False})


def connect_with_defaults(
    target: Target, *, decode_responses: bool = False, credentials: CredentialProvider | None = None
) -> Client:
    """Return a client as redis-py makes it when only told where and who: to see what that does in a failover.

    Raises:
        redis.RedisError: a cluster did not answer.
        UnreachableError: the mode was `auto`, and no server answered.
    """
    mode = detect_mode(target) if target.mode is Mode.AUTO else target.mode
    shared = {**_authentication(target, credentials), "decode_responses": decode_responses, **tls_keywords(target)}
    return _client(target, mode, shared, {})


def _client(target: Target, mode: Mode, shared: dict[str, Any], for_cluster: dict[str, Any]) -> Client:
    if mode is Mode.OSS_CLUSTER:
        nodes = [ClusterNode(seed.host, seed.port) for seed in target.seeds]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **for_cluster, **shared)
    if mode is Mode.SENTINEL:
        ours = {"username": None, "password": target.sentinel_password, "credential_provider": None}
        watching = {name: value for name, value in {**shared, **ours}.items() if name != "retry"}
        sentinels = [(seed.host, seed.port) for seed in target.seeds]
        watch = Sentinel(sentinels, sentinel_kwargs=watching)  # type: ignore[no-untyped-call]
        found: redis.Redis = watch.master_for(target.service, db=target.db, **shared)  # type: ignore[no-untyped-call]
        return found
    seed = target.seeds[0]
    return redis.Redis(seed.host, seed.port, db=target.db, **shared)


def _authentication(target: Target, credentials: CredentialProvider | None) -> dict[str, Any]:
    if credentials:
        return {"credential_provider": credentials}
    return {"username": target.username, "password": target.password}


def tls_keywords(target: Target) -> dict[str, Any]:
    """Return how a target's TLS is told to redis-py (and to valkey-py)."""
    tls = target.tls
    if tls is None:
        return {}
    return {
        "ssl": True,
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify,
    }


def call_with_deadline(act: Callable[[], Result], deadline_s: float = 30.0) -> Result:
    """Call `act` until it works, sleeping longer and longer between tries, for at most `deadline_s` seconds.

    `act` may run more than once, also after a try whose answer was lost: it must be safe to repeat.

    Raises:
        redis.RedisError: the last try's error, when the deadline has passed.
    """
    for attempt in stamina.retry_context(
        on=RETRYABLE, attempts=None, timeout=deadline_s, wait_initial=0.05, wait_max=1.0, wait_jitter=0.05
    ):
        with attempt:
            return act()
    raise AssertionError("stamina raises the last error itself")
