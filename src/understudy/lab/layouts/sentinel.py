"""One primary, its replicas, and three sentinels that promote one of them when the primary fails."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from understudy.errors import ServerSaidError, UsageError
from understudy.lab.deadline import Deadline
from understudy.lab.layout import BLOCK, SENTINELS_FROM, Options, check_counts, of_kind, place, primary_first
from understudy.lab.layouts.common import await_answers, await_links, front, front_argv, own_source
from understudy.lab.server import LabNode
from understudy.lab.servers.sentinel import SERVICE, SentinelConfig
from understudy.lab.servers.valkey import Binary, Config
from understudy.lab.talk import ask, fields
from understudy.valkey.target import Address, Mode

_SENTINELS = 3
_QUORUM = 2
_CURIOUS_MS = 500
_TROUBLE = {"s_down", "o_down", "disconnected", "failover_in_progress"}


class Sentinel:
    """A primary with replicas, watched by three sentinels of which two must agree."""

    name = "sentinel"
    mode = Mode.SENTINEL
    default_port = 7001
    default_primaries = 1
    default_replicas = 2

    def check(self, options: Options) -> None:
        """One primary: sentinels can watch several, this layout has one."""
        if options.primaries != 1:
            raise UsageError("planning the layout sentinel", "it has one primary", "For more, use `cluster`.")
        check_counts(options, max_port=65535 - BLOCK)

    def plan(self, options: Options, directory: Path) -> tuple[LabNode, ...]:
        """Return the primary, its replicas, the sentinels, and Envoy in a TLS lab."""
        data = tuple(
            place(
                f"node-{i + 1}",
                "valkey",
                "replica" if i else "primary",
                options.port + i,
                directory,
                fronted=options.tls,
            )
            for i in range(1 + options.replicas)
        )
        first = options.port + SENTINELS_FROM
        sentinels = tuple(
            place(f"sentinel-{i + 1}", "sentinel", "sentinel", first + i, directory, fronted=options.tls)
            for i in range(_SENTINELS)
        )
        return front((*data, *sentinels), options, directory)

    def waves(self, nodes: Sequence[LabNode]) -> list[list[LabNode]]:
        """Return primary, replicas, sentinels."""
        return primary_first(nodes)

    def argv(self, node: LabNode, nodes: Sequence[LabNode], options: Options, binary: Binary) -> list[str]:
        """Return the command of one server."""
        if node.kind == "envoy":
            return front_argv(node, nodes, binary)
        own = own_source(options, binary)
        primary, *replicas = of_kind(nodes, "valkey")
        if node.kind == "valkey":
            return Config(
                binary,
                node.inner_port,
                node.directory,
                node.address.port,
                options.password,
                options.persist,
                replica_of=None if node.name == primary.name else primary.address.port,
                own_source=own,
                bind=options.bind,
            ).argv()
        others = [other for other in of_kind(nodes, "sentinel") if other.name != node.name]
        return SentinelConfig(
            binary,
            node.inner_port,
            node.address.port,
            _sentinel_id(node),
            node.directory,
            primary.address.port,
            tuple(replica.address.port for replica in replicas),
            tuple((other.address.port, _sentinel_id(other)) for other in others),
            _QUORUM,
            options.down_after_ms,
            options.password,
            own_source=own,
            bind=options.bind,
        ).argv()

    def form(self, nodes: Sequence[LabNode], options: Options, binary: Binary, deadline: Deadline) -> None:
        """Nothing to do: servers and sentinels were told of each other in their configuration."""

    def await_usable(self, nodes: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Wait until replicas are in sync and every sentinel sees all of them and the other sentinels."""
        await_answers(nodes, options, deadline)
        await_links(nodes, options, deadline)
        replicas = len(of_kind(nodes, "valkey")) - 1
        for node in of_kind(nodes, "sentinel"):
            deadline.until(
                f"waiting for {node.name} to see everyone",
                lambda node=node: _sees_everyone(node, replicas, options.password),  # type: ignore[misc]
                nodes,
            )

    def forget(self, gone: Sequence[LabNode], left: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Reset one sentinel after the other, each when the one before sees everyone again."""
        replicas = len(of_kind(left, "valkey")) - 1
        for node in of_kind(left, "sentinel"):
            with _curious(node, options.password):
                ask(node, options.password, "SENTINEL", "RESET", SERVICE)
                deadline.until(
                    f"waiting for {node.name} to see everyone but {', '.join(one.name for one in gone) or 'nobody'}",
                    lambda node=node: _sees_everyone(node, replicas, options.password),  # type: ignore[misc]
                    left,
                )

    def seeds(self, nodes: Sequence[LabNode]) -> tuple[Address, ...]:
        """Return the sentinels."""
        return tuple(node.address for node in of_kind(nodes, "sentinel"))


@contextlib.contextmanager
def _curious(node: LabNode, password: str | None) -> Iterator[None]:
    """Have a sentinel ask everyone twice a second who is there, instead of every ten (from Redis 7.0 on)."""
    try:
        before = fields(ask(node, password, "SENTINEL", "DEBUG"))["INFO-PERIOD"]
        ask(node, password, "SENTINEL", "DEBUG", "INFO-PERIOD", _CURIOUS_MS)
    except ServerSaidError:
        yield
        return
    try:
        yield
    finally:
        ask(node, password, "SENTINEL", "DEBUG", "INFO-PERIOD", before)


def _sentinel_id(node: LabNode) -> str:
    """Return the id of a sentinel: 40 hexadecimal digits, different for every sentinel on this machine."""
    return hashlib.sha256(str(node.directory).encode()).hexdigest()[:40]


def _sees_everyone(node: LabNode, replicas: int, password: str | None) -> bool:
    primary = fields(ask(node, password, "SENTINEL", "MASTER", SERVICE))
    seen = [fields(row) for row in ask(node, password, "SENTINEL", "REPLICAS", SERVICE)]
    others = [fields(row) for row in ask(node, password, "SENTINEL", "SENTINELS", SERVICE)]
    return (
        (len(seen), len(others)) == (replicas, _SENTINELS - 1)
        and all(row["master-link-status"] == "ok" for row in seen)
        and not any(_TROUBLE & set(row["flags"].split(",")) for row in (primary, *seen, *others))
    )
