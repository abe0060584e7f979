"""`replace`: new servers at new addresses take over from the old ones, as in a managed service's maintenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.drill.chosen import data_only, shard_with
from understudy.drill.fault import Scene, Unprepared, Value
from understudy.drill.promote import is_primary, take_over
from understudy.errors import RefusedError
from understudy.lab.live import Lab
from understudy.lab.server import LabNode


class Replace(Unprepared):
    """For each node: a new replica of its primary, a graceful failover where it was primary, and the old one is gone.

    There is no way back; a replacement that broke off is finished where a new primary may be there already, else
    the new node is removed again.
    """

    name = "replace"
    about = "replace nodes by new ones at other addresses, one by one; at_once: the old ones vanish together"
    nodes = "all"
    layouts = frozenset({"sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {"at_once": False}
    lasting = False
    mend = ""

    def apply(self, scene: Scene) -> str:
        """Replace every node that was meant."""
        data_only("replacing nodes", scene.nodes)
        if any(node.inner_port != node.address.port for node in scene.nodes):
            raise RefusedError(
                "replacing nodes", "in a TLS lab Envoy owns the public ports, and opens no new ones",
                "Use a lab without --tls, or `enterprise`.",
            )  # fmt: skip
        swaps = [_Swap(scene.lab, node) for node in scene.nodes]
        at_once = bool(scene.params["at_once"])
        for step in [swaps] if at_once else [[swap] for swap in swaps]:
            for swap in step:
                scene.undo.callback(swap.settle)
                swap.make_ready()
                scene.nodes_changed()
            for swap in step:
                swap.switch()
            scene.lab.remove_nodes(*(swap.old for swap in step))
            scene.nodes_changed()
        made = ", ".join(f"{swap.old.name} by {swap.new}" for swap in swaps)
        return f"replaced {made}{', all at once' if at_once else ''}"


@dataclass
class _Swap:
    """One node and its successor. `begun`: the successor may be primary, or become it any moment."""

    lab: Lab
    old: LabNode
    new: str = ""
    begun: bool = False

    def make_ready(self) -> None:
        """Add a replica in sync, of the primary that the old node is or follows."""
        primary = shard_with(self.lab, self.old).primary
        if primary is None:
            raise RefusedError(f"replacing {self.old.name}", "its shard has no primary now", "understudy status")
        before = {node.name for node in self.lab.nodes}
        try:
            self.lab.add_node(replica_of=primary)
        finally:
            self.new = next((node.name for node in self.lab.nodes if node.name not in before), "")

    def switch(self) -> None:
        """Promote the new node where the old one is primary."""
        self.begun = True
        if self.old.alive and is_primary(self.lab, self.old):
            take_over(self.lab, self.lab.node(self.new))

    def settle(self) -> None:
        """Leave either the old node or the new one, not both."""
        if not self.new or self.old.name not in {node.name for node in self.lab.nodes}:
            return
        if self.begun:
            self.switch()
        self.lab.remove_nodes(self.old if self.begun else self.new)
