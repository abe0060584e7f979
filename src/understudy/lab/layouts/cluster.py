"""Primaries that share the 16,384 slots, and their replicas; formed over RESP, as `--cluster create` would."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from understudy.errors import ServerSaidError, UsageError
from understudy.lab.deadline import Deadline
from understudy.lab.layout import BLOCK, Options, check_counts, of_kind, place
from understudy.lab.layouts.common import await_answers, await_links, front, front_argv, own_source
from understudy.lab.server import LabNode
from understudy.lab.servers.valkey import BUS_OFFSET, Binary, Config
from understudy.lab.talk import ask, info
from understudy.valkey.target import Address, Mode
from understudy.valkey.topology import SLOTS

_TROUBLE = {"handshake", "fail", "fail?", "noaddr"}


class Cluster:
    """A cluster: at least three primaries, so that the others can vote when one fails."""

    name = "cluster"
    mode = Mode.OSS_CLUSTER
    default_port = 7001
    default_primaries = 3
    default_replicas = 1

    def check(self, options: Options) -> None:
        """Bus ports must fit below 65536, and a failover takes a majority of three or more."""
        check_counts(options, max_port=65535 - BLOCK - BUS_OFFSET)
        if options.primaries == 2 and options.replicas:
            raise UsageError(
                f"planning the layout {options.layout}",
                "with two primaries no majority is left when one fails",
                "Use --primaries 3 or more, or --replicas 0.",
            )

    def plan(self, options: Options, directory: Path) -> tuple[LabNode, ...]:
        """Return the primaries, then the replicas, and Envoy in a TLS lab."""
        return front(data_nodes(options, directory, options.port, fronted=options.tls), options, directory)

    def waves(self, nodes: Sequence[LabNode]) -> list[list[LabNode]]:
        """Return all at once: a cluster comes together whoever is first."""
        return [list(nodes)]

    def argv(self, node: LabNode, nodes: Sequence[LabNode], options: Options, binary: Binary) -> list[str]:
        """Return the command of one server."""
        if node.kind == "envoy":
            return front_argv(node, nodes, binary)
        return cluster_argv(node, options, binary, own=own_source(options, binary))

    def form(self, nodes: Sequence[LabNode], options: Options, binary: Binary, deadline: Deadline) -> None:
        """Share out the slots, introduce everyone to everyone, and give each primary its replicas."""
        form(of_kind(nodes, "valkey"), options, binary, deadline)

    def await_usable(self, nodes: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Wait until every node sees the same whole cluster and replicas are in sync."""
        await_answers(nodes, options, deadline)
        await_cluster(of_kind(nodes, "valkey"), options, deadline)

    def forget(self, gone: Sequence[LabNode], left: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Have every node that lives forget them, before one that has not tells the others again."""
        data = [node for node in of_kind(left, "valkey") if node.alive]
        for node in data:
            deadline.until(
                f"having {node.name} forget {', '.join(one.name for one in gone)}",
                lambda node=node: forget(node, gone, options.password),  # type: ignore[misc]
                data,
            )

    def seeds(self, nodes: Sequence[LabNode]) -> tuple[Address, ...]:
        """Return every data node."""
        return tuple(node.address for node in of_kind(nodes, "valkey"))


def data_nodes(options: Options, directory: Path, first: int, *, fronted: bool) -> tuple[LabNode, ...]:
    """Return the primaries, then the replicas, on ports from `first`."""
    total = options.primaries * (1 + options.replicas)
    return tuple(
        place(
            f"node-{i + 1}",
            "valkey",
            "primary" if i < options.primaries else "replica",
            first + i,
            directory,
            fronted=fronted,
        )
        for i in range(total)
    )


def cluster_argv(node: LabNode, options: Options, binary: Binary, *, own: bool) -> list[str]:
    """Return the command of a cluster node."""
    return Config(
        binary,
        node.inner_port,
        node.directory,
        node.address.port,
        options.password,
        options.persist,
        cluster_timeout_ms=options.node_timeout_ms,
        own_source=own,
        bind=options.bind,
    ).argv()


def shares(primaries: int) -> list[tuple[int, int]]:
    """Return the first and the last slot of each primary; they differ in size by one at most."""
    edges = [round(SLOTS * i / primaries) for i in range(primaries + 1)]
    return [(first, after - 1) for first, after in pairwise(edges)]


def form(data: Sequence[LabNode], options: Options, binary: Binary, deadline: Deadline) -> None:
    """Make one cluster of nodes that answer."""
    primaries, replicas = data[: options.primaries], data[options.primaries :]
    for epoch, node in enumerate(data, 1):
        ask(node, options.password, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for node, (first, last) in zip(primaries, shares(len(primaries)), strict=True):
        if binary.knows_7:
            ask(node, options.password, "CLUSTER", "ADDSLOTSRANGE", first, last)
        else:
            ask(node, options.password, "CLUSTER", "ADDSLOTS", *range(first, last + 1))
    # Everyone is introduced to everyone: gossip would get there too, in several of its rounds.
    for i, node in enumerate(data):
        for other in data[i + 1 :]:
            meet(node, other, options.password)
    ids = {node.name: str(ask(node, options.password, "CLUSTER", "MYID")) for node in data}
    for i, replica in enumerate(replicas):
        primary = primaries[i % len(primaries)]
        deadline.until(
            f"introducing {replica.name} to {primary.name}",
            lambda replica=replica, primary=primary: knows(replica, ids[primary.name], options.password),  # type: ignore[misc]
            data,
        )
        ask(replica, options.password, "CLUSTER", "REPLICATE", ids[primary.name])
    for node in data:
        deadline.until(
            f"waiting for {node.name} to see every replica",
            lambda node=node: _counts_replicas(node, len(replicas), options.password),  # type: ignore[misc]
            data,
        )
    await_links(data, options, deadline)
    # Redis 7.0 hides replicas from clients while nothing was ever written: this is a write, of nothing.
    for node in primaries if replicas else ():
        ask(node, options.password, "FLUSHALL")


def meet(node: LabNode, other: LabNode, password: str | None) -> None:
    """Introduce one node to another, at the address where others will reach it."""
    bus = other.inner_port + BUS_OFFSET
    ask(node, password, "CLUSTER", "MEET", other.address.host, other.address.port, bus)


def knows(node: LabNode, other_id: str, password: str | None) -> bool:
    """Return whether a node has shaken hands with another."""
    lines = str(ask(node, password, "CLUSTER", "NODES")).splitlines()
    return any(line.startswith(other_id) and "handshake" not in line for line in lines)


def forget(node: LabNode, gone: Collection[LabNode], password: str | None) -> bool:
    """Have a node forget others; False while it still takes one of them for its primary. Safe to repeat."""
    places = {str(other.address) for other in gone}
    for line in str(ask(node, password, "CLUSTER", "NODES")).splitlines():
        node_id, place, *_ = line.split(" ")
        if place.partition("@")[0] in places:
            try:
                ask(node, password, "CLUSTER", "FORGET", node_id)
            except ServerSaidError as error:
                if "forget my" in error.why:
                    return False
                if "Unknown node" not in error.why:
                    raise
    return True


def await_cluster(data: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
    """Wait until every node sees every other, all slots served and all replicas in place and in sync."""
    for node in data:
        deadline.until(
            f"waiting for {node.name} to see the whole cluster",
            lambda node=node: _sees_whole(node, len(data), options.password),  # type: ignore[misc]
            data,
        )
    await_links(data, options, deadline)


def _sees_whole(node: LabNode, total: int, password: str | None) -> bool:
    said = info(ask(node, password, "CLUSTER", "INFO"))
    if said["cluster_state"] != "ok" or said["cluster_slots_ok"] != str(SLOTS):
        return False
    rows = _rows(node, password)
    if len(rows) != total or any(row.flags & _TROUBLE or not row.connected for row in rows):
        return False
    # A replica is told to clients once the node that they ask has heard that it is in sync.
    told = {f"{host}:{port}" for _, _, *each in ask(node, password, "CLUSTER", "SLOTS") for host, port, *_ in each}
    return all(row.place in told for row in rows if "slave" in row.flags)


class _Row(NamedTuple):
    """What one node says of another, in the raw words of CLUSTER NODES."""

    place: str
    flags: set[str]
    connected: bool


def _rows(node: LabNode, password: str | None) -> list[_Row]:
    lines = (line.split(" ") for line in str(ask(node, password, "CLUSTER", "NODES")).splitlines())
    return [_Row(words[1].partition("@")[0], set(words[2].split(",")), words[7] == "connected") for words in lines]


def _counts_replicas(node: LabNode, replicas: int, password: str | None) -> bool:
    return sum("slave" in row.flags for row in _rows(node, password)) == replicas
