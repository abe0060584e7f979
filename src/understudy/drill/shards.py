"""Which shard a slot, and a server, belonged to when the drill began."""

from __future__ import annotations

from dataclasses import dataclass, field

from understudy.lab.live import Lab
from understudy.valkey.discovery import discover
from understudy.valkey.target import Address, Mode
from understudy.valkey.topology import SLOTS, Topology


@dataclass
class Shards:
    """Shards are counted from 0, in the order of their slots; without a cluster there is one.

    `of_slot` holds the shard of each slot, a byte each.
    """

    count: int
    of_slot: bytes
    _of_node: dict[Address, int] = field(default_factory=dict)

    @classmethod
    def of_lab(cls, lab: Lab) -> Shards:
        """Ask a lab how it is arranged."""
        clustered = lab.layout in {"cluster", "enterprise"}
        topology = discover(lab.target(Mode.OSS_CLUSTER if clustered else None))
        of_node = {
            node.address: number
            for number, shard in enumerate(topology.shards)
            for node in (shard.primary, *shard.replicas)
            if node
        }
        return cls(len(topology.shards), _of_slots(topology), of_node)

    def of(self, node: Address) -> int | None:
        """Return a server's shard; None for one that belongs to none yet."""
        return self._of_node.get(node)

    def adopt(self, node: Address, primary: Address) -> None:
        """Note that a server that came later is a replica of another."""
        if node not in self._of_node and primary in self._of_node:
            self._of_node[node] = self._of_node[primary]


def _of_slots(topology: Topology) -> bytes:
    of_slot = bytearray(SLOTS)
    for number, shard in enumerate(topology.shards):
        for slot in shard.slots:
            of_slot[slot] = number
    return bytes(of_slot)
