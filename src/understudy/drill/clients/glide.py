"""Valkey GLIDE under test, through its synchronous client.

It has no Sentinel mode, and finds no primary through the lab's enterprise endpoint, which answers INFO for a shard.

Its core is written in Rust and shows nothing of the wire: redirections are not counted, an error is a refusal only
where its text is one, and every call may have been tried twice, so that less can be proven of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.drill.client import Client, Preset, Trace, Watch
from understudy.drill.operation import Outcome
from understudy.errors import UsageError
from understudy.valkey.target import Mode, Target

_REFUSING_WORDS = (
    "READONLY", "OOM", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "MISCONF", "LOADING", "NOAUTH", "NOPERM", "WRONGTYPE",
)  # fmt: skip
_RECOMMENDED_TIMEOUT_MS = 2000


def connect(target: Target, preset: Preset) -> tuple[Client, Watch]:
    """Return a GLIDE client.

    Raises:
        UsageError: the mode is not one of GLIDE's, or it does not know a setting.
    """
    import glide_sync as glide  # noqa: PLC0415 - only where it is under test

    if target.mode in (Mode.SENTINEL, Mode.ENTERPRISE):
        raise UsageError(
            "connecting with GLIDE", f"it does not work in {target.mode} mode here", "Choose another client."
        )
    cluster = target.mode is Mode.OSS_CLUSTER
    keywords: dict[str, Any] = {"addresses": [glide.NodeAddress(seed.host, seed.port) for seed in target.seeds]}
    if target.password is not None:
        keywords["credentials"] = glide.ServerCredentials(target.password, target.username)
    if preset.base != "defaults":
        keywords["request_timeout"] = _RECOMMENDED_TIMEOUT_MS
    if target.tls:
        ca = Path(target.tls.ca_file).read_bytes() if target.tls.ca_file else None
        tls = glide.TlsAdvancedConfiguration(use_insecure_tls=not target.tls.verify, root_pem_cacerts=ca)
        advanced = glide.AdvancedGlideClusterClientConfiguration if cluster else glide.AdvancedGlideClientConfiguration
        keywords |= {"use_tls": True, "advanced_config": advanced(tls_config=tls)}
    keywords |= preset.settings
    try:
        if cluster:
            clustered = glide.GlideClusterClientConfiguration(**keywords)
            return _Client(glide.GlideClusterClient.create(clustered)), _watch
        plain = glide.GlideClientConfiguration(**keywords)
        return _Client(glide.GlideClient.create(plain)), _watch
    except TypeError as error:
        raise UsageError(f"setting up the client {preset.name!r}", str(error)) from error


class _Client:
    def __init__(self, made: Any) -> None:
        self._made = made

    def set(self, key: str, value: str) -> None:
        self._made.set(key, value)

    def get(self, key: str) -> str | None:
        found = self._made.get(key)
        return None if found is None else found.decode()

    def append(self, key: str, value: str) -> None:
        self._made.rpush(key, [value])

    def close(self) -> None:
        self._made.close()


@contextmanager
def _watch(key: str) -> Iterator[Trace]:
    trace = Trace(key.encode(), attempts=2)
    try:
        yield trace
    except Exception as error:  # noqa: BLE001 - whatever a library raises is an outcome
        trace.error, trace.text = type(error).__name__, str(error)
        refused = str(error).removeprefix("An error was signalled by the server: ").startswith(_REFUSING_WORDS)
        trace.outcome = Outcome.FAILED if refused else Outcome.INDETERMINATE
