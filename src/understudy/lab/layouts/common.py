"""What several layouts share: waiting for answers and replication, and Envoy in front of a TLS lab."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from understudy.errors import ServerSaidError
from understudy.lab.deadline import Deadline
from understudy.lab.layout import INNER_FROM, SENTINELS_FROM, Options, of_kind, place
from understudy.lab.server import LabNode
from understudy.lab.servers.envoy import TlsFront, front_listener, write_bootstrap
from understudy.lab.servers.valkey import OWN_SOURCE, Binary
from understudy.lab.talk import ask, info


def answers(node: LabNode, password: str | None) -> bool:
    """Return whether a server has loaded its data and answers."""
    try:
        return bool(ask(node, password, "PING") == "PONG")
    except ServerSaidError as error:
        if error.why.startswith(("LOADING", "MASTERDOWN", "BUSY")):
            return error.why.startswith("MASTERDOWN")
        raise


def await_answers(nodes: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
    """Wait until every server answers, and every port of Envoy is open."""
    for node in nodes:
        if node.kind == "envoy":
            continue
        deadline.until(f"starting {node.name}", lambda node=node: answers(node, options.password), [node])  # type: ignore[misc]
    for proxy in of_kind(nodes, "envoy"):
        for node in nodes:
            if node.address.port != node.inner_port:
                deadline.until(f"opening {node.address}", lambda node=node: _open(node), [proxy])  # type: ignore[misc]


def _open(node: LabNode) -> bool:
    try:
        socket.create_connection((node.address.host, node.address.port), 1).close()
    except OSError:
        return False
    return True


def linked(node: LabNode, password: str | None) -> bool:
    """Return whether a server is a primary, or a replica in sync with its primary."""
    said = info(ask(node, password, "INFO", "replication"))
    return said["role"] == "master" or (said["master_link_status"] == "up" and said["master_sync_in_progress"] == "0")


def await_links(nodes: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
    """Wait until every replica is in sync with its primary."""
    data = of_kind(nodes, "valkey")
    for node in data:
        deadline.until(f"waiting for {node.name} to be in sync", lambda node=node: linked(node, options.password), data)  # type: ignore[misc]


def own_source(options: Options, binary: Binary) -> bool:
    """Return whether the servers of this lab call each other from an address of their own.

    Only then can Envoy refuse a plain client and let a plain server through. It takes a second loopback address
    (macOS has none) and Redis 7; elsewhere a TLS lab lets plain connections from this machine through.
    """
    return options.tls and sys.platform == "linux" and binary.knows_7


def front(nodes: tuple[LabNode, ...], options: Options, directory: Path) -> tuple[LabNode, ...]:
    """Return the nodes, and in a TLS lab the Envoy that owns their public ports."""
    if not options.tls:
        return nodes
    # It listens on the other nodes' public ports; its own is where nobody listens, for the record only.
    proxy = place("proxy", "envoy", "proxy", options.port + SENTINELS_FROM + INNER_FROM - 1, directory)
    return (*nodes, proxy)


def front_argv(node: LabNode, nodes: Sequence[LabNode], binary: Binary) -> list[str]:
    """Return the command of the Envoy in front of a TLS lab."""
    plain_from = OWN_SOURCE + "/32" if sys.platform == "linux" and binary.knows_7 else "127.0.0.0/8"
    listeners = [
        front_listener(TlsFront(other.address, other.inner, plain_from), node.directory.parent)
        for other in nodes
        if other.address.port != other.inner_port
    ]
    return write_bootstrap(node.directory, [one for one, _ in listeners], [one for _, one in listeners])
