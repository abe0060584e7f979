"""`restart`: a process is killed and comes back after a while, as under a supervisor."""

from __future__ import annotations

import time
from collections.abc import Mapping

from understudy.drill.fault import Scene, Unprepared, Value


class Restart(Unprepared):
    """SIGKILL, and a new process after `for_s` seconds.

    A primary that is back before anybody was promoted comes back empty, unless the lab keeps its data, and its
    replicas follow it: that is the danger of a quick supervisor without persistence, and shows here as it is.
    """

    name = "restart"
    about = "kill the process and start it again after for_s seconds"
    nodes = "primary"
    layouts = frozenset({"standalone", "sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {"for_s": 1.0}
    lasting = False
    mend = ""

    def apply(self, scene: Scene) -> str:
        """Kill every node that was meant, wait, start them."""
        for_s = float(scene.params["for_s"])
        for node in scene.nodes:
            scene.undo.callback(scene.lab.start, node)
            scene.lab.kill(node)
        time.sleep(for_s)  # it is the fault that takes so long
        for node in scene.nodes:
            scene.lab.start(node)
        return f"restarted {scene.names} after {for_s:g} s"
