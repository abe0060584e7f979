"""How the source stands: who is primary of what, in the words of every node that answers, and whether they agree.

A cut is only worth something where the servers that were paused were all the primaries there were. So every node is
asked for itself, primaries and replicas: a replica that was promoted knows it first, an old primary that was cut off
learns it last, and the primaries that voted have raised their epoch before the winner takes its first write. A node
that does not answer is waited for as long as a primary that is cut off from the others goes on: the node timeout.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from understudy.errors import IncompleteError, NotAuthorisedError, ServerSaidError, UnderstudyError, UnreachableError
from understudy.valkey.discovery import ACL_HINT, discover, parse_info
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import SLOTS, Topology
from understudy.valkey.wire import Command, Reply, ReplyError, Wire, error_for, pack

_ANSWERS_WITHIN_S = 4.0
_NODE_TIMEOUT_S = 15.0  # where the cluster does not tell its own
_OVER = {"success", "failed", "canceled", "cancelled"}
_ASKED: tuple[Command, ...] = (("INFO", "server"), ("INFO", "replication"), ("INFO", "clients"))
MIGRATIONS: Command = ("CLUSTER", "GETSLOTMIGRATIONS")  # Valkey 9; refused by others
_ASKED_OF_A_CLUSTER: tuple[Command, ...] = (("CLUSTER", "INFO"), ("CLUSTER", "NODES"), MIGRATIONS)


class UnsettledError(IncompleteError):
    """The source is on the move; trying again can help. `why` is one sentence."""


@dataclass(frozen=True)
class View:
    """What one node says of itself, and of the cluster.

    `paused` is why its clients are held, where it tells (Valkey 8.1) and they are. `moving` are sentences, one for each
    slot that is on its way, `failed` the addresses that most primaries have given up. Outside of a cluster `owners` is
    empty.
    """

    address: Address
    role: str
    run_id: str
    replid: str
    server: tuple[str, str]
    paused: str = ""
    node_id: str = ""
    epoch: int = 0
    owners: Mapping[str, frozenset[int]] = field(default_factory=dict)
    moving: tuple[str, ...] = ()
    failed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, address: Address, replies: Sequence[Reply]) -> View:
        """Read the answers to what a node is asked.

        Raises:
            UnsettledError: it says that this is not the time.
            NotAuthorisedError, ServerSaidError: it refuses.
        """
        for command, reply in zip((*_ASKED, *_ASKED_OF_A_CLUSTER[:2]), replies, strict=False):
            if isinstance(reply, ReplyError):
                raise _refused(address, command, reply)
        server, replication, clients = (parse_info(reply) for reply in replies[:3])
        reason = clients.get("paused_reason", "none")
        name = "valkey" if "valkey_version" in server else "redis"
        view = cls(
            address,
            role=replication.get("role", ""),
            run_id=server.get("run_id", ""),
            replid=replication.get("master_replid", ""),
            server=(name, server.get("valkey_version") or server.get("redis_version", "0")),
            paused="" if reason == "none" else reason,
        )
        if len(replies) == len(_ASKED):
            return view
        state, nodes, moves = replies[3:]
        text = nodes.decode()
        seen = Topology.from_cluster_nodes(text, address)
        given_up = {line.split(" ")[0] for line in text.splitlines() if "fail" in line.split(" ")[2].split(",")}
        myself = next((line for line in text.splitlines() if "myself" in line.split(" ")[2]), "")
        return replace(
            view,
            node_id=myself.split(" ")[0],
            epoch=int(parse_info(state).get("cluster_current_epoch", 0)),
            owners={shard.primary.node_id: shard.slots for shard in seen.shards if shard.primary and shard.slots},
            failed=frozenset(str(node.address) for node in seen.nodes if node.node_id in given_up),
            moving=(*_moving(seen, address), *migrations(moves, address)),
        )


def _refused(address: Address, command: Command, reply: ReplyError) -> UnderstudyError:
    if str(reply).startswith(("LOADING", "MASTERDOWN", "CLUSTERDOWN")):
        return UnsettledError(f"looking at {address}", str(reply))
    error = error_for(address, (" ".join(map(str, command)),), reply)
    if isinstance(error, NotAuthorisedError) and command[0] == "CLUSTER":
        error.hint = ACL_HINT
    return error


def _moving(seen: Topology, address: Address) -> list[str]:
    found = [f"slot {slot} is on its way out of {address}" for shard in seen.shards for slot, _ in shard.migrating]
    return found + [f"slot {slot} is on its way into {address}" for shard in seen.shards for slot in shard.importing]


def migrations(reply: Reply, address: Address) -> list[str]:
    """Return the atomic slot migrations that are under way; none where the server does not know them.

    Raises:
        NotAuthorisedError: it knows them, and does not tell us.
    """
    if isinstance(reply, ReplyError) and str(reply).startswith("NOPERM"):
        raise _refused(address, MIGRATIONS, reply)
    if not isinstance(reply, list):
        return []
    found = []
    for job in reply:
        words = [word.decode(errors="replace") if isinstance(word, bytes) else str(word) for word in job]
        facts = dict(zip(words[::2], words[1::2], strict=False))
        if facts.get("state", "").lower() not in _OVER:
            found.append(f"{address} is moving slots ({facts.get('slot_ranges', '?')}: {facts.get('state', '?')})")
    return found


@dataclass(frozen=True)
class Primary:
    """A server that a copy is made of. `slots` is None outside of a cluster."""

    address: Address
    node_id: str
    run_id: str
    replid: str
    slots: frozenset[int] | None


@dataclass(frozen=True)
class Standing:
    """Who serves what, when all agreed; `epoch` is the newest that any of them has heard of.

    `unseen` names nodes that did not answer, and that others have not given up: one might be a primary by now.
    """

    primaries: tuple[Primary, ...]
    server: tuple[str, str]
    epoch: int = 0
    unseen: tuple[str, ...] = ()

    def changed_to(self, later: Standing) -> str:
        """Return in one sentence what is not as it was; empty where everything is."""
        was = {primary.node_id or str(primary.address): primary for primary in self.primaries}
        now = {primary.node_id or str(primary.address): primary for primary in later.primaries}
        if gone := [was[name].address for name in was if name not in now]:
            return f"{gone[0]} is no primary any more: a failover"
        if come := [now[name].address for name in now if name not in was]:
            return f"{come[0]} has become a primary with slots"
        for name, primary in was.items():
            other = now[name]
            if (other.run_id, other.address) != (primary.run_id, primary.address):
                return f"{primary.address} was restarted"
            if other.replid != primary.replid:
                return f"{primary.address} writes another stream than before: it was a replica in between"
            if other.slots != primary.slots:
                return f"slots of {primary.address} moved"
        return "an election took place" if later.epoch != self.epoch else ""


def judge(views: Sequence[View], silent: Iterable[str] = ()) -> Standing:
    """Return who serves what, where all views agree.

    Raises:
        UnsettledError: they do not; slots are on their way, served by nobody; somebody else holds clients back.
    """
    owners = views[0].owners
    if not owners:
        if len(views) > 1:
            raise _unsettled("the sentinels name different primaries")
        return _alone(views[0])
    for view in views:
        if view.owners != owners:
            raise _unsettled(f"{views[0].address} and {view.address} do not agree who serves which slots")
    if missing := set(range(SLOTS)).difference(*owners.values()):
        raise _unsettled(f"{len(missing)} slot(s) are served by nobody: {', '.join(as_ranges(missing)[:5])}")
    own = {view.node_id: view for view in views}
    for view in views:
        if view.moving:
            raise _unsettled(view.moving[0])
    absent = [node_id for node_id in owners if node_id not in own]
    if absent:
        raise _unsettled(f"the primary with the id {absent[0][:8]}… does not answer")
    primaries = [own[node_id] for node_id in sorted(owners, key=lambda one: min(owners[one]))]
    for view in primaries:
        if view.role != "master":
            raise _unsettled(f"{view.address} is called a primary and says that it is a {view.role or '?'}")
        if view.paused:
            raise _unsettled(f"the clients of {view.address} are held already ({view.paused})")
    return Standing(
        tuple(Primary(one.address, one.node_id, one.run_id, one.replid, owners[one.node_id]) for one in primaries),
        primaries[0].server,
        max(view.epoch for view in views),
        tuple(one for one in silent if not all(one in view.failed for view in views)),
    )


def _alone(view: View) -> Standing:
    if view.paused:
        raise _unsettled(f"the clients of {view.address} are held already ({view.paused})")
    return Standing((Primary(view.address, "", view.run_id, view.replid, None),), view.server)


def _unsettled(why: str) -> UnsettledError:
    return UnsettledError("looking at the source", why, "Try again when it has come to rest, or use --engine scan.")


class Source:
    """The nodes of one target, and a connection to each; not safe for threads."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._wires: dict[Address, Wire] = {}
        self._last: Standing | None = None
        self._stands_since = 0.0

    @property
    def target(self) -> Target:
        """Return how it is reached."""
        return self._router.target

    def wire(self, address: Address) -> Wire:
        """Return the connection to a node; a new one where that broke."""
        wire = self._wires.get(address)
        if wire is None or wire.broken:
            self.drop(address)
            wire = self._wires[address] = Wire(address, self.target.at(address), _ANSWERS_WITHIN_S)
        return wire

    def drop(self, address: Address) -> None:
        """Forget a connection."""
        if wire := self._wires.pop(address, None):
            wire.close()

    def look(self) -> Standing:
        """Ask every node, and return how the source stands.

        Raises:
            UnsettledError: the nodes do not agree, or something is on the move.
            NotAuthorisedError, ServerSaidError: one of them refuses.
        """
        if self.target.mode is Mode.OSS_CLUSTER:
            try:
                self._router.refresh()
            except UnreachableError as error:
                raise _unsettled(error.why) from error
            nodes = self._router.topology.nodes
            views, silent = self._ask([node.address for node in nodes], (*_ASKED, *_ASKED_OF_A_CLUSTER))
        else:
            views, silent = self._ask(self._single(), _ASKED)
        if not views:
            raise _unsettled(f"{', '.join(silent)} does not answer")
        standing = judge(views, silent)
        if self.target.mode is Mode.SENTINEL and views[0].role != "master":
            raise _unsettled(f"{views[0].address} is no primary any more")
        now = time.monotonic()
        if self._last is None or self._last.changed_to(standing):
            self._stands_since = now
        self._last = standing
        timeout_s = self._node_timeout_s() if standing.unseen else 0.0
        if now - self._stands_since < timeout_s:
            raise _unsettled(
                f"{standing.unseen[0]} does not answer; had it been promoted and cut off, it would stop within"
                f" {timeout_s:g} s"
            )
        return standing

    def _single(self) -> list[Address]:
        """Return where the one primary is; every sentinel that answers has to agree."""
        if self.target.mode is not Mode.SENTINEL:
            return [self.target.seeds[0]]
        named = set()
        for seed in self.target.seeds:
            with contextlib.suppress(UnreachableError):
                shard = discover(self.target.at(seed)).shards[0]
                named.update([shard.primary.address] if shard.primary else [])
        if len(named) != 1:
            raise _unsettled("the sentinels name different primaries" if named else "no sentinel answers")
        return list(named)

    def _ask(self, addresses: Sequence[Address], commands: Sequence[Command]) -> tuple[list[View], list[str]]:
        """Send everything to everybody, then read: the slowest decides, not the sum."""
        asked: list[Address] = []
        silent: list[str] = []
        told: list[tuple[Address, list[Reply]]] = []
        packed = b"".join(map(pack, commands))
        for address in addresses:
            try:
                self.wire(address).send(packed)
                asked.append(address)
            except UnreachableError:
                silent.append(str(address))
        for address in asked:
            replies: list[Reply] = []
            try:
                self._wires[address].read_into(replies, len(commands))
            except UnreachableError:
                self.drop(address)
                silent.append(str(address))
            else:
                told.append((address, replies))
        views: list[View] = []
        for address, replies in told:
            try:
                views.append(View.read(address, replies))
            except UnsettledError:  # it loads, say
                silent.append(str(address))
        return views, silent

    def _node_timeout_s(self) -> float:
        for address in self._wires:
            with contextlib.suppress(UnreachableError, ServerSaidError, NotAuthorisedError):
                reply = self.wire(address).call("CONFIG", "GET", "cluster-node-timeout")
                return int(reply[1]) / 1000
        return _NODE_TIMEOUT_S

    def close(self) -> None:
        """Close every connection but the router's."""
        for address in list(self._wires):
            self.drop(address)
