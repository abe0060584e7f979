"""The topology as an answer, and what changed between two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from understudy.errors import ServerSaidError, UnreachableError
from understudy.probe.connection import HINT, Connection
from understudy.valkey.discovery import discover
from understudy.valkey.slots import as_ranges
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import Node, Role, Topology
from understudy.valkey.wire import Wire

ASK_WITHIN_S = 2.0
ChangeKind = Literal["joined", "left", "promoted", "demoted", "failed", "healthy", "slots", "uncovered", "covered"]


@dataclass(frozen=True)
class NodeView:
    """One server. `epoch` is 0 outside a cluster."""

    address: str
    role: Role
    healthy: bool
    node_id: str
    epoch: int


@dataclass(frozen=True)
class ShardView:
    """One shard, counted from 1 by its first slot; `slots` as ranges, empty outside a cluster."""

    shard: int
    primary: NodeView | None
    replicas: tuple[NodeView, ...]
    slots: tuple[str, ...]
    slot_count: int


@dataclass(frozen=True)
class Change:
    """Something that is not as it was, in a word and a sentence."""

    kind: ChangeKind
    text: str


def look(connection: Connection, seen: Topology | None = None) -> Topology:
    """Return the topology now, over connections made for it; those that were `seen` are asked where no seed answers.

    Raises:
        UnderstudyError: nobody answered.
    """
    known = tuple(node.address for node in seen.nodes) if seen else ()
    target = connection.reached()
    asked = Target(target.seeds, target.mode, None, target.sentinel_password, target.tls)
    asked = asked if target.mode is Mode.SENTINEL else target
    first = _answering((*target.seeds, *known), asked)
    if target.mode is Mode.OSS_CLUSTER or target.mode is Mode.SENTINEL:
        target = target.at(*dict.fromkeys((first, *target.seeds)))
    return discover(target, known)


def _answering(addresses: Iterable[Address], target: Target) -> Address:
    """Return the first address that answers soon: a server that is stopped, not dead, holds up whoever asks it."""
    reasons: list[str] = []
    for address in dict.fromkeys(addresses):
        try:
            with Wire(address, target, ASK_WITHIN_S) as wire:
                wire.call("PING")
            return address
        except UnreachableError as error:
            reasons.append(f"{address} ({error.why})")
        except ServerSaidError:  # it loads, or has lost its primary: it answers
            return address
    raise UnreachableError("looking for a server", f"none answered: {', '.join(reasons)}", HINT)


def shards_of(topology: Topology) -> tuple[ShardView, ...]:
    """Return a topology as an answer."""
    return tuple(
        ShardView(
            number,
            _node(shard.primary) if shard.primary else None,
            tuple(_node(one) for one in sorted(shard.replicas, key=lambda one: one.address)),
            tuple(as_ranges(shard.slots)),
            len(shard.slots),
        )
        for number, shard in enumerate(topology.shards, 1)
    )


def changes(before: Topology, after: Topology) -> tuple[Change, ...]:
    """Return what is not as it was."""
    return (*_of_nodes(before, after), *_of_slots(before, after))


def _of_nodes(before: Topology, after: Topology) -> Iterator[Change]:
    old = {node.address: node for node in before.nodes}
    new = {node.address: node for node in after.nodes}
    for address in sorted(old.keys() - new.keys()):
        yield Change("left", f"{address} is gone from the topology (it was {_article(old[address].role)})")
    for address, node in new.items():
        was = old.get(address)
        if was is None:
            yield Change("joined", f"{address} is there, as {_article(node.role)}")
            continue
        if was.role != node.role:
            kind: ChangeKind = "promoted" if node.role == "primary" else "demoted"
            yield Change(kind, f"{address} is now {_article(node.role)} (it was {_article(was.role)})")
        if was.healthy != node.healthy:
            yield Change(
                *(("healthy", f"{address} answers again") if node.healthy else ("failed", f"{address} failed"))
            )


def _of_slots(before: Topology, after: Topology) -> Iterator[Change]:
    owners = [{slot: shard.primary for slot, shard in one.by_slot().items()} for one in (before, after)]
    moved = Counter(
        (old.address, new.address)
        for slot, new in owners[1].items()
        if (old := owners[0].get(slot)) and new and old.address != new.address
    )
    for (source, goal), count in sorted(moved.items()):
        yield Change("slots", f"{count:,} slots went from {source} to {goal}")
    gone, back = after.missing_slots - before.missing_slots, before.missing_slots - after.missing_slots
    if gone:
        yield Change("uncovered", f"nobody healthy serves {len(gone):,} slots")
    if back:
        yield Change("covered", f"{len(back):,} slots are served again")


def _node(node: Node) -> NodeView:
    return NodeView(str(node.address), node.role, node.healthy, node.node_id, node.epoch)


def _article(role: Role) -> str:
    return f"a {role}"
