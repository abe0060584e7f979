"""Who owns which slot, merged from many views: an old one changes nothing, whoever tells it and whenever it comes."""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from understudy.valkey.target import Address
from understudy.valkey.topology import SLOTS, Node, Topology


class Owners:
    """The primary of each slot, as the claim with the highest configuration epoch says.

    Source: the Valkey cluster specification, "UPDATE messages and the epoch of a slot's claim": each change of
    an owner, by failover or by migration, has a higher epoch than the one before.
    """

    def __init__(self) -> None:
        self._claims: list[Node | None] = [None] * SLOTS
        self._nodes: dict[Address, Node] = {}

    @property
    def by_slot(self) -> list[Address | None]:
        """Return the owner of each slot, None where nobody claims it."""
        return [claim.address if claim else None for claim in self._claims]

    def see(self, view: Topology, connected: Container[Address]) -> bool:
        """Take in what one node sees; return whether an owner changed.

        An owner that is neither `connected` nor known to the view gives way to any claim: the stack was built anew.
        """
        self._nodes.update({node.address: node for node in view.nodes})
        known = {node.node_id for node in view.nodes}
        changed = False
        for shard in view.shards:
            new = shard.primary
            if new is None:
                continue
            wins_over: dict[int, bool] = {}  # slots have few owners, and there are many slots
            for slot in shard.slots:
                old = self._claims[slot]
                if (wins := wins_over.get(id(old))) is None:
                    alive = old is not None and (old.node_id in known or old.address in connected)
                    wins = wins_over[id(old)] = not alive or _beats(new, old)
                if wins:
                    changed = changed or old is None or old.address != new.address
                    self._claims[slot] = new
        return changed

    def moved(self, slot: int, by: Address, to: Address) -> bool:
        """Take in MOVED; return whether it changes an owner. It does when it comes from the owner that we know."""
        old = self._claims[slot]
        if old is not None and (old.address != by or by == to):
            return False
        epoch = old.epoch if old else 0
        known = self._nodes.get(to, Node(to, "primary"))
        self._claims[slot] = dataclasses.replace(known, role="primary", epoch=epoch)
        return True


def _beats(new: Node, old: Node | None) -> bool:
    same = old is not None and new.node_id == old.node_id
    return old is None or new.epoch > old.epoch or (same and new.epoch == old.epoch)
