"""`/redis/cluster-info` and `/redis/cluster-slots`: what the servers say, and what the client under test believes."""

from __future__ import annotations

from dataclasses import dataclass

from redis.cluster import RedisCluster

from understudy.errors import ServerSaidError
from understudy.probe.arrangement import ASK_WITHIN_S, NodeView, ShardView, look, shards_of
from understudy.probe.connection import CLIENT_ERRORS, Connection
from understudy.valkey.discovery import parse_info
from understudy.valkey.slots import as_ranges, from_ranges
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import SLOTS, Topology
from understudy.valkey.wire import Wire

_RANDOM = "Answered through the endpoint by one of the shards behind it; the next call may show another one's view."
_BEHIND = "What stands behind the endpoint is not visible to a client."
_NO_CLUSTER = "This is no cluster: there are no slots, and every key is on the primary."


@dataclass(frozen=True)
class ClusterInfo:
    """`info` is the answer of CLUSTER INFO; outside a cluster that of INFO replication."""

    mode: Mode
    state: str
    shards: int
    slots_covered: int
    info: dict[str, str]
    nodes: tuple[NodeView, ...]
    asked: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ClientView:
    """What the client under test believes; `stale` are the slots that it would send to somebody else's address."""

    known: bool
    stale: tuple[str, ...]
    stale_count: int
    note: str


@dataclass(frozen=True)
class ClusterSlots:
    """Who serves which slots."""

    mode: Mode
    shards: tuple[ShardView, ...]
    uncovered: tuple[str, ...]
    client_view: ClientView
    notes: tuple[str, ...]


def cluster_info(connection: Connection) -> ClusterInfo:
    """Ask for CLUSTER INFO and CLUSTER NODES, or what there is instead of them.

    Raises:
        UnderstudyError: nobody answered.
    """
    target = connection.reached()
    topology = look(connection)
    if target.mode is Mode.OSS_CLUSTER:
        healthy = [node.address for node in topology.nodes if node.healthy]
        asked = next((seed for seed in target.seeds if seed in healthy), None) or (healthy or target.seeds)[0]
        info, notes = _cluster_facts(asked, target)
    elif target.mode is Mode.ENTERPRISE:
        asked = target.seeds[0]
        info, notes = _cluster_facts(asked, target)
        if info:
            notes = (_RANDOM,)
            topology = _told_by_proxy(asked, target) or topology
    else:
        primary = topology.shards[0].primary
        asked = primary.address if primary else target.seeds[0]
        with Wire(asked, target, ASK_WITHIN_S) as wire:
            info, notes = parse_info(wire.call("INFO", "replication")), (_NO_CLUSTER,)
    shards = shards_of(topology)
    covered = sum(shard.slot_count for shard in shards if shard.primary and shard.primary.healthy)
    return ClusterInfo(
        target.mode, info.get("cluster_state", "none"), len(shards), covered, info,
        tuple(node for shard in shards for node in ((shard.primary,) if shard.primary else ()) + shard.replicas),
        str(asked), notes,
    )  # fmt: skip


def cluster_slots(connection: Connection) -> ClusterSlots:
    """Return who serves which slots, and where the client under test would go astray.

    Raises:
        UnderstudyError: nobody answered.
    """
    target = connection.reached()
    topology = look(connection)
    notes: tuple[str, ...] = ()
    if target.mode is Mode.ENTERPRISE:
        seen = _told_by_proxy(target.seeds[0], target)
        topology, notes = (seen, (_RANDOM,)) if seen else (topology, (_BEHIND,))
    elif target.mode is not Mode.OSS_CLUSTER:
        notes = (_NO_CLUSTER,)
    view = _client_view(connection, topology)
    return ClusterSlots(target.mode, shards_of(topology), tuple(as_ranges(topology.missing_slots)), view, notes)


def _cluster_facts(address: Address, target: Target) -> tuple[dict[str, str], tuple[str, ...]]:
    with Wire(address, target, ASK_WITHIN_S) as wire:
        try:
            return parse_info(wire.call("CLUSTER", "INFO")), ()
        except ServerSaidError as error:
            return {}, (f"CLUSTER INFO is not answered here: {error.why}", _BEHIND)


def _told_by_proxy(address: Address, target: Target) -> Topology | None:
    with Wire(address, target, ASK_WITHIN_S) as wire:
        try:
            return Topology.from_cluster_nodes(wire.call("CLUSTER", "NODES").decode(), address)
        except (ServerSaidError, ValueError):
            return None


def _client_view(connection: Connection, topology: Topology) -> ClientView:
    try:
        client = connection.long_lived()
    except CLIENT_ERRORS as error:
        return ClientView(False, (), 0, f"The client could not be made yet: {connection.explained('', error).why}")
    if not isinstance(client, RedisCluster):
        return ClientView(False, (), 0, "This client keeps no map of slots.")
    believed = {
        slot: Address(str(nodes[0].host), int(nodes[0].port))
        for slot, nodes in dict(client.nodes_manager.slots_cache).items() if nodes
    }  # fmt: skip
    owners = {slot: shard.primary.address for slot, shard in topology.by_slot().items() if shard.primary}
    stale = as_ranges(slot for slot in range(SLOTS) if slot in owners and believed.get(slot) != owners[slot])
    count = len(from_ranges(stale))
    note = f"{count:,} slots are mapped to another address than they are at." if count else "Its map is right."
    return ClientView(True, tuple(stale), count, note)
