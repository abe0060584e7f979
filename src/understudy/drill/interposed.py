"""A relay in front of a node that runs already: nobody has to be told another address."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from understudy.drill.relay import Relay
from understudy.errors import RefusedError
from understudy.lab.deadline import Deadline
from understudy.lab.layout import HOST, running
from understudy.lab.layouts.common import await_links
from understudy.lab.live import Lab
from understudy.lab.server import LabNode
from understudy.lab.talk import ask
from understudy.valkey.target import Address
from understudy.valkey.wire import Command

LINKED_WITHIN_S = 20.0
_CONNECTIONS = ("normal", "pubsub", "replica")


@dataclass(frozen=True)
class Interposed:
    """A node, the relay that has its port, and where the node itself listens meanwhile."""

    node: LabNode
    relay: Relay
    behind: Address
    password: str | None

    def call(self, *command: str | int) -> Any:
        """Run a command on the server, past the relay."""
        return ask(self.behind, self.password, *command)

    def last_words(self, commands: Sequence[Command]) -> None:
        """Have these commands run too, before the server gets its port back, if we are gone without undoing it."""
        home = ("CONFIG", "SET", "port", self.node.inner_port)
        self.relay.last_words(self.behind, self.password, [*commands, home])


def interpose(lab: Lab, node: LabNode, undo: ExitStack) -> Interposed:
    """Move a server to another port, let a relay have its own, and have everyone connect again, through the relay.

    Where Envoy owns the node's public port (a TLS lab), the relay stands between Envoy and the server.

    Raises:
        RefusedError: the server is too old to change its port while it runs, or is no data node.
    """
    doing = f"putting a relay in front of {node.name}"
    if node.kind != "valkey":
        raise RefusedError(doing, "only data nodes can change their port while they run", "Name a data node.")
    if lab.options.bridged:
        raise RefusedError(
            doing, "Docker publishes its port, and nobody can take its place",
            "Use a lab of processes, or of containers on the host's network (Linux).",
        )  # fmt: skip
    binary = lab.binary
    if not binary.knows_7:
        raise RefusedError(doing, f"{binary} cannot change its port while it runs", "It takes Valkey, or Redis 7.0.")
    password = lab.options.password
    behind = Address(HOST, _free_port())
    undo.callback(_put_back, node, behind, password)
    relay = undo.enter_context(Relay([behind], node.inner_port, listening=False, host=node.address.host))
    interposed = Interposed(node, relay, behind, password)
    interposed.last_words([])
    ask(node, password, "CONFIG", "SET", "port", behind.port)
    relay.listen()
    for kind in _CONNECTIONS:
        interposed.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    await_links(running(lab.nodes, "valkey"), lab.options, Deadline(LINKED_WITHIN_S))
    return interposed


def _put_back(node: LabNode, behind: Address, password: str | None) -> None:
    """Give a server its port again; the relay is gone. One that died has its port in its configuration file."""
    if node.alive and _listens(behind):
        ask(behind, password, "CONFIG", "SET", "port", node.inner_port)
    # A sentinel may have had the server write its configuration down meanwhile.
    path = node.directory / "valkey.conf"
    if not path.exists():  # a container that somebody else configured
        return
    text = path.read_text()
    path.write_text(re.sub(rf"(?m)^port {behind.port}$", f"port {node.inner_port}", text))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _listens(address: Address) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0
