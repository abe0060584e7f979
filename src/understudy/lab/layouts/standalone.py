"""One server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from understudy.errors import UsageError
from understudy.lab.deadline import Deadline
from understudy.lab.layout import BLOCK, Options, check_counts, of_kind, place, primary_first
from understudy.lab.layouts.common import await_answers, await_links, front, front_argv, own_source
from understudy.lab.server import LabNode
from understudy.lab.servers.valkey import Binary, Config
from understudy.valkey.target import Address, Mode


class Standalone:
    """One server, with as many replicas as asked for (none unless asked)."""

    name = "standalone"
    mode = Mode.STANDALONE
    default_port = 6379
    default_primaries = 1
    default_replicas = 0

    def check(self, options: Options) -> None:
        """One primary; that is what standalone means."""
        if options.primaries != 1:
            raise UsageError("planning the layout standalone", "it has one primary", "For more, use `cluster`.")
        check_counts(options, max_port=65535 - BLOCK)

    def plan(self, options: Options, directory: Path) -> tuple[LabNode, ...]:
        """Return the primary, its replicas, and Envoy in a TLS lab."""
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
        return front(data, options, directory)

    def waves(self, nodes: Sequence[LabNode]) -> list[list[LabNode]]:
        """Return primary, replicas."""
        return primary_first(nodes)

    def argv(self, node: LabNode, nodes: Sequence[LabNode], options: Options, binary: Binary) -> list[str]:
        """Return the command of one server."""
        if node.kind == "envoy":
            return front_argv(node, nodes, binary)
        primary = of_kind(nodes, "valkey")[0]
        return Config(
            binary,
            node.inner_port,
            node.directory,
            node.address.port,
            options.password,
            options.persist,
            replica_of=None if node is primary or node.name == primary.name else primary.address.port,
            own_source=own_source(options, binary),
            databases=options.databases,
            bind=options.bind,
        ).argv()

    def form(self, nodes: Sequence[LabNode], options: Options, binary: Binary, deadline: Deadline) -> None:
        """Nothing to do: replicas were told their primary in their configuration."""

    def await_usable(self, nodes: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Wait for answers, and for replicas to be in sync."""
        await_answers(nodes, options, deadline)
        await_links(nodes, options, deadline)

    def forget(self, gone: Sequence[LabNode], left: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Nothing to do: a replica that is gone is not missed, and nobody is there to replace the primary."""

    def seeds(self, nodes: Sequence[LabNode]) -> tuple[Address, ...]:
        """Return the one address."""
        return (of_kind(nodes, "valkey")[0].address,)
