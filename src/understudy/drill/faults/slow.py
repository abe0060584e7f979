"""`slow`: a node whose answers come late, as over a bad network or from a busy machine."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.drill.fault import Scene, Value
from understudy.drill.interposed import interpose
from understudy.errors import UsageError


class Slow:
    """A relay in front of the node delays what the server sends, to clients and to replicas."""

    name = "slow"
    about = "delay every answer of the node by ms milliseconds"
    nodes = "primary"
    layouts = frozenset({"standalone", "sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {"ms": 100.0}
    lasting = True
    mend = ""

    def prepare(self, scene: Scene) -> None:
        """Put a relay in front of each node."""
        if float(scene.params["ms"]) <= 0:
            raise UsageError("slowing a node", f"{scene.params['ms']} ms is no delay", "For example ms=100.")
        for node in scene.nodes:
            scene.relays[node.name] = interpose(scene.lab, node, scene.undo)

    def apply(self, scene: Scene) -> str:
        """Set the delay."""
        ms = float(scene.params["ms"])
        for node in scene.nodes:
            relay = scene.relays[node.name].relay
            scene.undo.callback(relay.delay, 0)
            relay.delay(ms)
        return f"slowed {scene.names} by {ms:g} ms"
