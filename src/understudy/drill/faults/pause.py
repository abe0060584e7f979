"""`pause`: a server stops and keeps its connections, as a frozen virtual machine does."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.drill.fault import Scene, Unprepared, Value
from understudy.lab.live import Lab
from understudy.lab.server import LabNode


class Pause(Unprepared):
    """SIGSTOP, or `docker pause`; the way back is SIGCONT, or `docker unpause`."""

    name = "pause"
    about = "stop the process without ending it (SIGSTOP): connections stay open, nothing answers"
    nodes = "primary"
    layouts = frozenset({"standalone", "sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {}
    lasting = True
    mend = "`understudy up {layout} --name {lab}`, with the options the lab was started with, lets it go on."

    def apply(self, scene: Scene) -> str:
        """Pause every node that was meant."""
        for node in scene.nodes:
            scene.undo.callback(_resume, scene.lab, node)
            scene.lab.pause(node)
        return f"paused {scene.names}"


def _resume(lab: Lab, node: LabNode) -> None:
    if lab.node(node).alive:
        lab.resume(node)
