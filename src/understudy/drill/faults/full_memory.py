"""`full-memory`: a server has no room left and refuses writes."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.drill.chosen import data_only
from understudy.drill.fault import Scene, Unprepared, Value
from understudy.drill.relay import Relay
from understudy.lab.live import Lab
from understudy.lab.server import LabNode
from understudy.lab.talk import info

_LIMITS = ("maxmemory", "maxmemory-policy")


class FullMemory(Unprepared):
    """`maxmemory` just above what is used, and nothing is evicted: reads go on, writes get `OOM`."""

    name = "full-memory"
    about = "leave room_kb KiB of memory and evict nothing: then writes are refused (OOM)"
    nodes = "primary"
    layouts = frozenset({"standalone", "sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {"room_kb": 0}
    lasting = True
    mend = ""

    def apply(self, scene: Scene) -> str:
        """Lower the limit of every node that was meant."""
        data_only("filling the memory", scene.nodes)
        for node in scene.nodes:
            before = {limit: str(scene.lab.call(node, "CONFIG", "GET", limit)[1]) for limit in _LIMITS}
            # A limit outlives us, however we end: whoever sees our end without this restores it then.
            keeper = scene.undo.enter_context(Relay([node.inner], listening=False))
            restoring = [("CONFIG", "SET", *pair) for pair in before.items()]
            keeper.last_words(node.inner, scene.lab.options.password, restoring)
            scene.undo.callback(_restore, scene.lab, node, before)
            said = info(scene.lab.call(node, "INFO", "memory"))
            counted = int(said["used_memory"]) - int(said.get("mem_not_counted_for_evict", 0))
            scene.lab.call(node, "CONFIG", "SET", "maxmemory-policy", "noeviction")
            scene.lab.call(node, "CONFIG", "SET", "maxmemory", counted + 1024 * int(scene.params["room_kb"]))
        return f"filled the memory of {scene.names}"


def _restore(lab: Lab, node: LabNode, limits: Mapping[str, str]) -> None:
    if lab.node(node).alive:  # else its limits died with it
        for limit, value in limits.items():
            lab.call(node, "CONFIG", "SET", limit, value)
