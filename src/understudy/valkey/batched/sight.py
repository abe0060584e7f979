"""What one look at one server says about who is primary, and how it is weighed against what others said before."""

from __future__ import annotations

from collections.abc import Container

from understudy.errors import NotAuthorisedError, NotFoundError, ServerSaidError, UnreachableError, UsageError
from understudy.valkey.batched.connection import Connection
from understudy.valkey.batched.owners import Owners
from understudy.valkey.discovery import mode_from, pairs, parse_info, refusal_for
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import Topology
from understudy.valkey.wire import ReplyError, error_for


async def ask_mode(connection: Connection) -> Mode:
    """Ask a server what it is.

    Raises:
        UsageError: it does not tell.
        UnreachableError: the connection broke.
    """
    facts, client_id = await connection.ask(("INFO", "server"), ("CLIENT", "ID"))
    if isinstance(facts, ReplyError):
        error = error_for(connection.address, ("INFO",), facts)
        if not isinstance(error, ServerSaidError):
            raise error
        raise UsageError(
            f"asking {connection.address} what it is", error.why, f"Set REDIS_MODE to one of {', '.join(Mode)}."
        )
    return mode_from(parse_info(facts), client_id)


class ClusterSight:
    """The owners of a cluster's slots; `new` are addresses heard of for the first time."""

    def __init__(self) -> None:
        self.owners = Owners()
        self.new: list[Address] = []
        self._known: set[Address] = set()
        self._shapes: dict[Address, object] = {}

    async def look(self, connection: Connection, connected: Container[Address]) -> bool:
        """Ask a node; return whether an owner changed.

        Raises:
            UnreachableError: it does not say.
            NotAuthorisedError: we may not ask.
            UsageError: it is no cluster.
        """
        address = connection.address
        (nodes,) = await connection.ask(("CLUSTER", "NODES"))
        if isinstance(nodes, ReplyError):
            raise refusal_for(address, nodes) or UnreachableError(f"asking {address} for its cluster", str(nodes))
        text = nodes.decode()
        shape = _shape(text)
        if self._shapes.get(address) == shape:
            return False  # reading it costs milliseconds in which nobody is served
        self._shapes[address] = shape
        view = Topology.from_cluster_nodes(text, address)
        self.new += {node.address for node in view.nodes} - self._known - {address}
        self._known.update(self.new, {address})
        return self.owners.see(view, connected)


def _shape(text: str) -> list[list[str]]:
    """Return what matters of CLUSTER NODES: all but the times of its pings."""
    return [words[:4] + words[6:] for words in (line.split(" ") for line in text.splitlines())]


class SentinelSight:
    """The primary that the sentinels name: that of the highest configuration epoch.

    Source: the Sentinel documentation, "Configuration propagation": a failover's epoch is above all before it.
    """

    def __init__(self, target: Target) -> None:
        self.primary: Address | None = None
        self._epoch = -1
        self._target = target
        self._said: dict[Address, tuple[int, Address]] = {}

    async def look(self, connection: Connection, connected: Container[Address]) -> bool:
        """Ask a sentinel; return whether another server is primary.

        Raises:
            UnreachableError: it does not say.
            NotAuthorisedError: we may not ask.
            NotFoundError: it knows no such service.
        """
        address = connection.address
        (reply,) = await connection.ask(("SENTINEL", "MASTER", self._target.service))
        if isinstance(reply, ReplyError):
            error = error_for(address, ("SENTINEL MASTER",), reply)
            if isinstance(error, NotAuthorisedError):
                raise error
            raise NotFoundError(
                f"asking {address} for the service {self._target.service!r}", error.why, "Name it with ?service=NAME."
            )
        facts = pairs(reply)
        self._said[address] = int(facts["config-epoch"]), Address(facts["ip"], int(facts["port"]))
        return self._weigh(connected)

    def unheard(self, address: Address) -> None:
        """Forget what a sentinel said that does not answer any more."""
        self._said.pop(address, None)

    def _weigh(self, connected: Container[Address]) -> bool:
        epoch, named = max(self._said.values())
        majority = 2 * len(self._said) > len(self._target.seeds)
        # A lower epoch is an old view, unless most agree and who we know is gone: the stack was built anew.
        if epoch < self._epoch and not (majority and self.primary not in connected):
            return False
        changed = named != self.primary
        self._epoch, self.primary = epoch, named
        return changed
