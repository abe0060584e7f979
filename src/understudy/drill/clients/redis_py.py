"""redis-py under test, and valkey-py, which is its fork: the four modes, and an eye on the wire.

The recommended settings are those of `valkey/connect.py`, which says what each is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

import stamina

from understudy.drill.client import Client, Preset, Watch
from understudy.drill.clients.wiretap import Wiretap
from understudy.errors import UsageError
from understudy.valkey.connect import RECOMMENDED, tls_keywords
from understudy.valkey.target import Mode, Target

Result = TypeVar("Result")

_RECOMMENDED: Mapping[str, Any] = {
    "socket_connect_timeout": RECOMMENDED.connect_timeout_s,
    "socket_timeout": RECOMMENDED.socket_timeout_s,
    "health_check_interval": RECOMMENDED.health_check_interval_s,
    "protocol": 2,
}
_RECOMMENDED_CLUSTER: Mapping[str, Any] = {"dynamic_startup_nodes": False, "require_full_coverage": False}
_RETRIES = {"recommended": RECOMMENDED.retries, "one-try": 0}


@dataclass(frozen=True)
class Library:
    """The names by which redis-py and its fork call the same things."""

    package: ModuleType
    connection: ModuleType
    cluster: ModuleType
    sentinel: ModuleType
    single: type[Any]
    clustered: type[Any]
    retry: type[Any]
    backoff: type[Any]

    @classmethod
    def of(cls, package: str, client: str) -> Library:
        """Import one of them, which is done only where it is under test."""
        names = ("connection", "cluster", "sentinel", "retry", "backoff")
        connection, cluster, sentinel, retry, backoff = (import_module(f"{package}.{name}") for name in names)
        clients = getattr(cluster, client), getattr(cluster, f"{client}Cluster")
        made = retry.Retry, backoff.ExponentialBackoff
        return cls(import_module(package), connection, cluster, sentinel, *clients, *made)


def connect(target: Target, preset: Preset) -> tuple[Client, Watch]:
    """Return a redis-py client and the eye on it."""
    return connect_as(Library.of("redis", "Redis"), target, preset)


def connect_as(library: Library, target: Target, preset: Preset) -> tuple[Client, Watch]:
    """Return a client of one of the two libraries, in the target's mode.

    Raises:
        UsageError: the library does not know a setting.
    """
    try:
        made = _open(library, target, preset)
    except TypeError as error:
        raise UsageError(
            f"setting up the client {preset.name!r}", str(error), "`settings` are the library's own keywords."
        ) from error
    exceptions = library.package.exceptions
    retryable = (
        exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, exceptions.ClusterDownError,
        exceptions.ReadOnlyError, exceptions.TryAgainError, exceptions.MasterDownError,
        getattr(exceptions, "RedisClusterException", None) or exceptions.ValkeyClusterException,
    )  # fmt: skip
    return _Client(made, preset.deadline_s, retryable), Wiretap.of(library.connection.AbstractConnection, exceptions)


def _open(library: Library, target: Target, preset: Preset) -> Any:
    cluster = target.mode is Mode.OSS_CLUSTER
    keywords: dict[str, Any] = {"decode_responses": True, **tls_keywords(target)}
    if target.username:
        keywords["username"] = target.username
    if target.password is not None:
        keywords["password"] = target.password
    if target.mode is Mode.ENTERPRISE:
        keywords["protocol"] = 2  # the lab's endpoint knows no other; those of managed services do
    if preset.base != "defaults":
        keywords |= {**_RECOMMENDED, **(_RECOMMENDED_CLUSTER if cluster else {})}
    settings = dict(preset.settings)
    retries = settings.pop("retries", _RETRIES.get(preset.base))
    if retries is not None:
        keywords["retry"] = library.retry(library.backoff(cap=0.5, base=0.05), int(retries))
    keywords |= settings
    if cluster:
        seeds = [library.cluster.ClusterNode(seed.host, seed.port) for seed in target.seeds]
        return library.clustered(startup_nodes=seeds, **keywords)
    if target.mode is Mode.SENTINEL:
        watching = {**keywords, "password": target.sentinel_password}
        watching.pop("username", None)
        watch = library.sentinel.Sentinel([tuple(seed) for seed in target.seeds], sentinel_kwargs=watching)
        return watch.master_for(target.service, **keywords)
    seed = target.seeds[0]
    return library.single(seed.host, seed.port, **keywords)


class _Client:
    def __init__(self, made: Any, deadline_s: float | None, retryable: tuple[type[Exception], ...]) -> None:
        self._made = made
        self._deadline_s = deadline_s
        self._retryable = retryable

    def set(self, key: str, value: str) -> None:
        self._safely(lambda: self._made.set(key, value))

    def get(self, key: str) -> str | None:
        found: str | None = self._safely(lambda: self._made.get(key))
        return found

    def append(self, key: str, value: str) -> None:
        self._made.rpush(key, value)

    def close(self) -> None:
        self._made.close()

    def _safely(self, act: Callable[[], Result]) -> Result:
        if self._deadline_s is None:
            return act()
        for attempt in stamina.retry_context(
            on=self._retryable, attempts=None, timeout=self._deadline_s, wait_initial=0.05, wait_max=1.0,
            wait_jitter=0.05,
        ):  # fmt: skip
            with attempt:
                return act()
        raise AssertionError("stamina raises the last error itself")
