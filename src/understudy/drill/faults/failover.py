"""`failover`: a replica takes over gracefully, as before planned maintenance."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.drill.chosen import data_only, shard_with
from understudy.drill.fault import Scene, Unprepared, Value
from understudy.drill.promote import promote
from understudy.errors import RefusedError
from understudy.lab.live import Lab
from understudy.lab.server import LabNode


class Failover(Unprepared):
    """`CLUSTER FAILOVER` to the first replica in sync; the way back promotes the old primary again."""

    name = "failover"
    about = "have a replica take over gracefully (CLUSTER FAILOVER)"
    nodes = "primary"
    layouts = frozenset({"cluster", "enterprise"})
    defaults: Mapping[str, Value] = {}
    lasting = False
    mend = "The lab is whole; the roles stay as they are."

    def apply(self, scene: Scene) -> str:
        """Promote a replica of every shard that was meant; a node that is a replica itself is the one promoted."""
        done = []
        data_only("failing over", scene.nodes)
        for node in scene.nodes:
            old, new = _pair(scene.lab, node)
            scene.undo.callback(promote, scene.lab, old)
            scene.undo.callback(promote, scene.lab, new)  # one that was interrupted would end at any moment
            promote(scene.lab, new)
            done.append(f"{new.name} instead of {old.name}")
        return f"promoted {', '.join(done)}"


def _pair(lab: Lab, node: LabNode) -> tuple[LabNode, LabNode]:
    """Return the shard's primary and the replica to promote."""
    shard = shard_with(lab, node)
    if shard.primary and node.name != shard.primary.name:
        return shard.primary, node
    running = [replica for replica in shard.replicas if replica.state == "running"]
    if shard.primary is None or not running:
        raise RefusedError(f"failing over {node.name}", "it has no replica that runs", "understudy status")
    return shard.primary, running[0]
