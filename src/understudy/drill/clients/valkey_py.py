"""valkey-py under test."""

from __future__ import annotations

from understudy.drill.client import Client, Preset, Watch
from understudy.drill.clients.redis_py import Library, connect_as
from understudy.valkey.target import Target


def connect(target: Target, preset: Preset) -> tuple[Client, Watch]:
    """Return a valkey-py client and the eye on it."""
    import valkey.backoff  # noqa: PLC0415 - only where it is under test
    import valkey.cluster  # noqa: PLC0415
    import valkey.connection  # noqa: PLC0415
    import valkey.retry  # noqa: PLC0415
    import valkey.sentinel  # noqa: PLC0415

    return connect_as(
        Library(
            valkey, valkey.connection, valkey.cluster, valkey.sentinel, valkey.Valkey, valkey.cluster.ValkeyCluster,
            valkey.retry.Retry, valkey.backoff.ExponentialBackoff,
        ), target, preset,
    )  # fmt: skip
