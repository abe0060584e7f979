"""How servers are arranged, as frozen values, and how each mode tells us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from understudy.valkey.target import Address, Mode

SLOTS = 16384
Role = Literal["primary", "replica", "sentinel", "proxy"]


@dataclass(frozen=True)
class Node:
    """One server process, as the topology reports it.

    `epoch` is a cluster node's configuration epoch: it changes whenever the node gains slots or is promoted.
    `healthy` is false once the others call it failed.
    """

    address: Address
    role: Role
    node_id: str = ""
    epoch: int = 0
    healthy: bool = True


@dataclass(frozen=True)
class Shard:
    """One primary (or none, while a failover is under way), its replicas, and the slots that it serves.

    `migrating` maps a slot that is on its way out to the node id that it goes to.
    """

    primary: Node | None
    replicas: tuple[Node, ...] = ()
    slots: frozenset[int] = frozenset()
    migrating: tuple[tuple[int, str], ...] = ()
    importing: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Topology:
    """Every shard of one stack, as one node (or sentinel) saw it."""

    mode: Mode
    shards: tuple[Shard, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return every node, primaries first."""
        primaries = [shard.primary for shard in self.shards if shard.primary]
        return (*primaries, *(node for shard in self.shards for node in shard.replicas))

    @property
    def missing_slots(self) -> frozenset[int]:
        """Return the slots that no healthy primary serves; none outside a cluster."""
        if self.mode is not Mode.OSS_CLUSTER:
            return frozenset()
        served = (shard.slots for shard in self.shards if shard.primary and shard.primary.healthy)
        return frozenset(range(SLOTS)).difference(*served)

    def by_slot(self) -> dict[int, Shard]:
        """Return who serves each slot."""
        return {slot: shard for shard in self.shards for slot in shard.slots}

    @classmethod
    def from_single(cls, address: Address, mode: Mode) -> Topology:
        """Return the arrangement of one endpoint behind which we cannot see."""
        role: Role = "proxy" if mode is Mode.ENTERPRISE else "primary"
        return cls(mode, (Shard(Node(address, role)),))

    @classmethod
    def from_sentinel(cls, primary: Mapping[str, str], replicas: Iterable[Mapping[str, str]]) -> Topology:
        """Read the answers of `SENTINEL MASTER` and `SENTINEL REPLICAS`."""

        def node(row: Mapping[str, str], role: Role) -> Node:
            down = {"s_down", "o_down", "disconnected"} & set(row.get("flags", "").split(","))
            return Node(Address(row["ip"], int(row["port"])), role, row.get("runid", ""), healthy=not down)

        shard = Shard(node(primary, "primary"), tuple(node(row, "replica") for row in replicas))
        return cls(Mode.SENTINEL, (shard,))

    @classmethod
    def from_cluster_nodes(cls, text: str, seed: Address) -> Topology:
        """Read the answer of `CLUSTER NODES`.

        A node that does not know its own address yet is reached where we asked, `seed`.
        Source: the CLUSTER NODES reference of Valkey ("Serialization format").
        """
        owners: dict[str, Shard] = {}
        replicas: dict[str, list[Node]] = {}
        for line in text.splitlines():
            node_id, place, flags_text, primary_id, _, _, epoch, link, *slots = line.split(" ")
            flags = set(flags_text.split(","))
            if {"noaddr", "handshake"} & flags:
                continue
            healthy = "fail" not in flags and (link == "connected" or "myself" in flags)
            address = _announced(place, seed)
            role: Role = "primary" if {"master", "primary"} & flags else "replica"
            node = Node(address, role, node_id, int(epoch), healthy)
            if role == "replica":
                replicas.setdefault(primary_id, []).append(node)
            else:
                owners[node_id] = _owned(node, slots)
        shards = [
            Shard(shard.primary, tuple(replicas.get(node_id, ())), shard.slots, shard.migrating, shard.importing)
            for node_id, shard in owners.items()
            if shard.slots or node_id in replicas or shard.importing
        ]
        return cls(Mode.OSS_CLUSTER, tuple(sorted(shards, key=lambda shard: min(shard.slots, default=SLOTS))))


def _announced(place: str, seed: Address) -> Address:
    """Read `ip:port@bus[,hostname[,key=value…]]`; a hostname, where announced, is what clients should use."""
    endpoint, _, names = place.partition(",")
    ip, _, port = endpoint.partition("@")[0].rpartition(":")
    hostname = names.split(",")[0]
    host = hostname if hostname and "=" not in hostname else ip
    return Address(host or seed.host, int(port))


def _owned(node: Node, words: Iterable[str]) -> Shard:
    """Read the slot words of one line: `5`, `0-99`, `[7->-id]` (on its way out), `[7-<-id]` (on its way in)."""
    slots: set[int] = set()
    migrating: list[tuple[int, str]] = []
    importing: set[int] = set()
    for word in words:
        if word.startswith("["):
            slot, _, other = word[1:-1].partition("-")
            if other.startswith(">-"):
                migrating.append((int(slot), other[2:]))
            else:
                importing.add(int(slot))
        elif word:
            first, _, last = word.partition("-")
            slots.update(range(int(first), int(last or first) + 1))
    return Shard(node, (), frozenset(slots), tuple(migrating), frozenset(importing))
