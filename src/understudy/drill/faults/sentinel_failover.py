"""`sentinel-failover`: the sentinels promote a replica because somebody asked them to."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.drill.fault import Scene, Unprepared, Value
from understudy.drill.promote import is_primary, sentinels_promote
from understudy.errors import UsageError


class SentinelFailover(Unprepared):
    """`SENTINEL FAILOVER`. Roles stay as they are afterwards: which replica the sentinels take is their choice.

    Unless it is coordinated, the old primary goes on acknowledging writes, which are lost, until they reconfigure it.
    """

    name = "sentinel-failover"
    about = "have the sentinels promote a replica (SENTINEL FAILOVER); coordinated: nothing is lost (Valkey 9)"
    nodes = "primary"
    layouts = frozenset({"sentinel"})
    defaults: Mapping[str, Value] = {"coordinated": False}
    lasting = False
    mend = ""

    def apply(self, scene: Scene) -> str:
        """Ask one sentinel, and wait until all of them name the new primary."""
        if len(scene.nodes) != 1 or not is_primary(scene.lab, scene.nodes[0]):
            raise UsageError("failing over", f"the sentinels replace the primary, not {scene.names}", "Name no node.")
        coordinated = bool(scene.params["coordinated"])
        new = sentinels_promote(scene.lab, coordinated=coordinated)
        return f"the sentinels promoted {new.name}{', coordinated' if coordinated else ''}"
