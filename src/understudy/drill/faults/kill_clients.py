"""`kill-clients`: the server hangs up on everyone, as a proxy that is reloaded does."""

from __future__ import annotations

import time
from collections.abc import Mapping

from understudy.drill.chosen import data_only
from understudy.drill.fault import Scene, Unprepared, Value
from understudy.errors import UsageError


class KillClients(Unprepared):
    """`CLIENT KILL TYPE normal`, `times` times, `every_ms` milliseconds apart."""

    name = "kill-clients"
    about = "close every client's connection (CLIENT KILL), times times, every_ms ms apart"
    nodes = "all"
    layouts = frozenset({"standalone", "sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {"times": 1, "every_ms": 500}
    lasting = False
    mend = ""

    def apply(self, scene: Scene) -> str:
        """Hang up."""
        data_only("closing connections", scene.nodes)
        times, every_s = int(scene.params["times"]), float(scene.params["every_ms"]) / 1000
        if times < 1 or every_s < 0:
            raise UsageError("closing connections", f"times={times}, every_ms={every_s * 1000:g}", "times=1 or more.")
        closed = 0
        for i in range(times):
            if i:
                time.sleep(every_s)  # the pace of the fault itself
            for node in scene.nodes:
                closed += int(scene.lab.call(node, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        return f"closed {closed} connections of {scene.names}"
