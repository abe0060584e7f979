"""Where servers call each other from: an address for each, so that a packet filter can tell them from clients.

Everyone on this machine talks from 127.0.0.1 otherwise. What is open stays as it was: it is opened anew, and a
cluster's links are known by their ports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from understudy.drill.interposed import LINKED_WITHIN_S
from understudy.lab.deadline import Deadline
from understudy.lab.layout import of_kind, running
from understudy.lab.layouts.common import await_links
from understudy.lab.live import Lab
from understudy.lab.server import LabNode
from understudy.lab.servers.valkey import BUS_OFFSET

_HALF = "127.77"  # the port is the other half
SERVERS = f"{_HALF}.0.0/16"
_CONNECTIONS = ("pubsub", "replica", "master")


def source(node: LabNode) -> str:
    """Return the address that a server calls the others from while it can be told from clients."""
    return f"{_HALF}.{node.inner_port >> 8}.{node.inner_port & 255}"


def tell_apart(lab: Lab, nodes: Sequence[LabNode], undo: ExitStack) -> None:
    """Have every server call the others from its own address, and everyone connect to these nodes anew.

    Raises:
        UnreachableError: one of these nodes does not answer.
    """
    names = {node.name for node in (*running(lab.nodes, "valkey"), *nodes)}
    servers = [node for node in of_kind(lab.nodes, "valkey") if node.name in names]
    undo.callback(_as_before, lab)
    for node in servers:
        lab.call(node, "CONFIG", "SET", "bind-source-addr", source(node))
    for node in servers:  # a primary keeps connections for MIGRATE for a while
        lab.call(node, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    for node in nodes:
        reconnect(lab, node)
    await_links(servers, lab.options, Deadline(LINKED_WITHIN_S))


def reconnect(lab: Lab, node: LabNode) -> None:
    """End a server's connections, if it runs; not the cluster's links, which it renews by itself."""
    if node.name in {one.name for one in running(lab.nodes, "valkey")}:
        for kind in _CONNECTIONS:
            lab.call(node, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def bus_ports(lab: Lab) -> list[int]:
    """Return the ports at which only servers call, and every server calls every other."""
    return [node.inner_port + BUS_OFFSET for node in of_kind(lab.nodes, "valkey")]


def old_links(lab: Lab, nodes: Sequence[LabNode]) -> list[int]:
    """Return the local ports of cluster links that these servers opened before they had an address of their own.

    The servers' own way to end them (`DEBUG CLUSTERLINK KILL`) crashes one whose link has just gone by itself.
    """
    found, goals = [], set(bus_ports(lab))
    for pid in (lab.node(node).pid for node in nodes if lab.node(node).alive):
        sockets = _sockets(pid)
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            (_, port), (_, goal) = (words[i].split(":") for i in (1, 2))
            if words[9] in sockets and int(goal, 16) in goals:
                found.append(int(port, 16))
    return found


def _sockets(pid: int | None) -> set[str]:
    """Return the inodes of a process's sockets."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            kind, _, inode = str(file.readlink()).partition(":")
            if kind == "socket":
                inodes.add(inode.strip("[]"))
    return inodes


def _as_before(lab: Lab) -> None:
    for node in running(lab.nodes, "valkey"):
        lab.call(node, "CONFIG", "SET", "bind-source-addr", "")
