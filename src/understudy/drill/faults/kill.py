"""`kill`: a server ends without a word, as after a crash, `kill -9` or `docker kill`."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.drill.fault import Scene, Unprepared, Value


class Kill(Unprepared):
    """SIGKILL. The way back starts the server again, with its port, and with its data where the lab keeps it."""

    name = "kill"
    about = "kill the process (SIGKILL) or container (docker kill)"
    nodes = "primary"
    layouts = frozenset({"standalone", "sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {}
    lasting = True
    mend = "`understudy up {layout} --name {lab}`, with the options the lab was started with, starts it again."

    def apply(self, scene: Scene) -> str:
        """Kill every node that was meant."""
        for node in scene.nodes:
            scene.undo.callback(scene.lab.start, node)
            scene.lab.kill(node)
        return f"killed {scene.names}"
