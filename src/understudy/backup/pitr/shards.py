"""Which shard of a topology is which follower's: pure functions over what was seen, and what is seen now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.backup.pitr.stream import Slots
from understudy.valkey.target import Address
from understudy.valkey.topology import Shard


@dataclass(frozen=True)
class Seen:
    """A shard as it was last seen: its primary, its nodes, its slots (None: it is no cluster) and those moving."""

    primary: Address
    primary_id: str
    nodes: frozenset[str]
    slots: frozenset[int] | None
    moving: frozenset[int] = frozenset()

    @classmethod
    def from_shard(cls, shard: Shard, clustered: bool) -> Seen | None:
        """Return a shard as the followers know it; None while it has no primary."""
        if shard.primary is None:
            return None
        nodes = frozenset(node.node_id or str(node.address) for node in (shard.primary, *shard.replicas))
        moving = frozenset(slot for slot, _ in shard.migrating) | shard.importing
        primary_id = shard.primary.node_id or str(shard.primary.address)
        return cls(shard.primary.address, primary_id, nodes, shard.slots if clustered else None, moving)


def matched(before: Mapping[str, Seen], now: Sequence[Seen]) -> tuple[dict[str, Seen], list[Seen], list[str]]:
    """Return who goes on with which shard, the shards that are new, and the names of those that are there no more.

    A shard is the same where its primary is; else where most of its slots are, for a failover changes the primary and
    leaves the slots; else where a node of it is.
    """
    pairs = sorted(
        ((_likeness(old, new), name, number) for name, old in before.items() for number, new in enumerate(now)),
        reverse=True,
    )
    kept: dict[str, Seen] = {}
    taken: set[int] = set()
    for likeness, name, number in pairs:
        if any(likeness) and name not in kept and number not in taken:
            kept[name] = now[number]
            taken.add(number)
    return kept, [one for number, one in enumerate(now) if number not in taken], [n for n in before if n not in kept]


def _likeness(old: Seen, new: Seen) -> tuple[bool, int, int]:
    if old.slots is None and new.slots is None:
        return True, 0, 0  # outside of a cluster there is one
    shared = len((old.slots or frozenset()) & (new.slots or frozenset()))
    return old.primary_id == new.primary_id, shared, len(old.nodes & new.nodes)


def told(old: Seen | None, old_ms: int, new: Seen, now_ms: int) -> list[Slots]:
    """Return what is to be recorded of what a shard serves: since the last look, and from now on.

    Slots that came or went between two looks were moving since the first of them.
    """
    if new.slots is None:
        return [Slots(now_ms, None)]
    found = []
    if old is not None and old.slots is not None and (changed := old.slots ^ new.slots):
        found.append(Slots(old_ms, old.slots, old.moving | changed))
    return [*found, Slots(now_ms, new.slots, new.moving)]
