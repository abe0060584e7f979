"""What a layout is: which servers it is made of, how they become one stack, and when that is usable.

To add a layout, write one file in `layouts/` with a class that has these members, and name it in
`layouts/__init__.py`. Every layout takes the same options and the same block of ports, counted from
`Options.port`: data nodes first, sentinels 100 above, and in a TLS lab the plain inner ports 50 above the public
ones. A cluster's bus ports are 10,000 above the ports that its nodes listen on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from understudy.errors import UsageError
from understudy.lab.deadline import Deadline
from understudy.lab.server import Kind, LabNode
from understudy.lab.servers.valkey import BUS_OFFSET, Binary
from understudy.valkey.target import Address, Mode
from understudy.valkey.topology import Role

HOST = "127.0.0.1"
BLOCK = 200
SENTINELS_FROM = 100
INNER_FROM = 50
MAX_NODES = INNER_FROM - 1


@dataclass(frozen=True)
class Options:
    """What was asked of a lab. Two `up` of one name agree when these are equal.

    `replicas` counts a primary's replicas. Times are in milliseconds. `server` is a program's path; None is the
    one that is found without being named. With an `image` the servers are containers of it, on the `network` `host` or
    `bridge`.
    """

    layout: str
    port: int
    primaries: int = 1
    replicas: int = 0
    server: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    persist: bool = False
    node_timeout_ms: int = 2000
    down_after_ms: int = 1000
    databases: int = 16
    image: str | None = None
    network: str | None = None

    @property
    def bridged(self) -> bool:
        """Return whether the servers are on a network of their own, behind published ports."""
        return self.network == "bridge"

    @property
    def bind(self) -> str:
        """Return where the servers listen: published connections come from outside of their network."""
        return "0.0.0.0" if self.bridged else HOST  # noqa: S104 - of a container; published on loopback only

    def as_data(self) -> dict[str, Any]:
        """Return the options as the state file keeps them, password included: that file is 0600."""
        return dataclasses.asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Options:
        """Read what `as_data` wrote."""
        return cls(**data)


class Layout(Protocol):
    """How servers are arranged and brought together. Stateless: everything is in the arguments."""

    name: str
    mode: Mode
    default_port: int
    default_primaries: int
    default_replicas: int

    def check(self, options: Options) -> None:
        """Refuse options that this layout cannot follow.

        Raises:
            UsageError: it cannot.
        """

    def plan(self, options: Options, directory: Path) -> tuple[LabNode, ...]:
        """Return every server of the lab; nothing is started or written."""

    def waves(self, nodes: Sequence[LabNode]) -> list[list[LabNode]]:
        """Return the nodes in the order in which they are to be started: a wave when the one before answers."""

    def argv(self, node: LabNode, nodes: Sequence[LabNode], options: Options, binary: Binary) -> list[str]:
        """Write what the server reads at its start into the node's directory, and return its command."""

    def form(self, nodes: Sequence[LabNode], options: Options, binary: Binary, deadline: Deadline) -> None:
        """Make one stack of servers that answer and know nothing of each other yet. Done once in a lab's life."""

    def await_usable(self, nodes: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Wait until a client finds everything as it should be, also after servers were started again.

        Raises:
            StartError: not in time, or a server died.
        """

    def forget(self, gone: Sequence[LabNode], left: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Have the nodes that are left forget those that ended for good. Safe to repeat.

        Raises:
            StartError: one of them still followed one of those when time was up.
        """

    def seeds(self, nodes: Sequence[LabNode]) -> tuple[Address, ...]:
        """Return the addresses that a client in this layout's mode starts from."""


def place(name: str, kind: Kind, role: Role, port: int, directory: Path, *, fronted: bool = False) -> LabNode:
    """Return one node of a plan; `fronted` puts its process behind Envoy's public port."""
    inner = port + INNER_FROM if fronted else port
    return LabNode(name, kind, role, Address(HOST, port), inner, directory / name, directory / "logs" / f"{name}.log")


def of_kind(nodes: Sequence[LabNode], kind: Kind) -> list[LabNode]:
    """Return the nodes of one kind, in order."""
    return [node for node in nodes if node.kind == kind]


def running(nodes: Sequence[LabNode], kind: Kind) -> list[LabNode]:
    """Return the nodes of one kind that run: neither dead nor paused."""
    return [node for node in of_kind(nodes, kind) if node.state == "running"]


def primary_first(nodes: Sequence[LabNode]) -> list[list[LabNode]]:
    """Return waves in which replicas find their primary, and sentinels everyone.

    Whoever is early tries again only a second later, and to a sentinel a server that is starting looks dead.
    """
    waves = ({"primary", "proxy"}, {"replica"}, {"sentinel"})
    return [[node for node in nodes if node.role in roles] for roles in waves]


def listening_ports(nodes: Sequence[LabNode], *, cluster: bool) -> dict[int, str]:
    """Return every port that these nodes will listen on, and which node does."""
    ports = {port: node.name for node in nodes for port in node.ports}
    if cluster:
        ports |= {node.inner_port + BUS_OFFSET: f"{node.name} (cluster bus)" for node in of_kind(nodes, "valkey")}
    return ports


def check_counts(options: Options, *, max_port: int) -> None:
    """Refuse numbers that no layout can follow."""
    total = options.primaries * (1 + options.replicas)
    if options.primaries < 1 or options.replicas < 0 or total > MAX_NODES:
        raise UsageError(
            f"planning the layout {options.layout}",
            f"{options.primaries} primaries with {options.replicas} replicas each: it takes 1 to {MAX_NODES} nodes",
        )
    if not 1024 <= options.port <= max_port:
        raise UsageError(
            f"planning the layout {options.layout}",
            f"the port {options.port} is not between 1024 and {max_port}",
        )
    if options.node_timeout_ms < 100 or options.down_after_ms < 100:
        raise UsageError(f"planning the layout {options.layout}", "timeouts below 100 ms make healthy nodes look dead")
