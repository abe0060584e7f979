"""`partition`: a node is cut off from the other servers while clients still reach it: the split-brain case."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from understudy.drill.fault import Scene, Value
from understudy.drill.interposed import Interposed, interpose
from understudy.errors import RefusedError
from understudy.lab.servers.valkey import find_binary

_EVERYTHING, _NOTHING = -2, -1  # what the filter of cluster packets drops
_FILTERS_ALL = (9,)  # older ones drop packets of one type only, and say OK to this one
_WRONG = "understudy-cut-off"


class Partition:
    """Cut are the cluster bus, whoever of the servers calls the node, and its own link to its primary.

    The first by a filter in the server; the second by the relay, which swallows what replicas, sentinels and migrating
    primaries say; the third by taking the password for the primary away from it.
    """

    name = "partition"
    about = "cut the node off from all other servers; clients still reach it"
    nodes = "primary"
    layouts = frozenset({"sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {}
    lasting = True
    mend = ""

    def prepare(self, scene: Scene) -> None:
        """Put a relay in front of each node.

        Raises:
            RefusedError: the server's filter cannot drop every cluster packet.
        """
        binary = find_binary(scene.lab.options.server)
        if scene.lab.layout != "sentinel" and not (binary.name == "valkey" and binary.version >= _FILTERS_ALL):
            raise RefusedError(
                "cutting nodes off", f"{binary} cannot be cut off the cluster bus", "Use Valkey 9, or a sentinel lab."
            )
        for node in scene.nodes:
            scene.relays[node.name] = interpose(scene.lab, node, scene.undo)

    def apply(self, scene: Scene) -> str:
        """Cut every node that was meant off from all others."""
        for node in scene.nodes:
            _cut(scene.relays[node.name], scene.undo.callback, bus=scene.lab.layout != "sentinel")
        return f"cut {', '.join(node.name for node in scene.nodes)} off from the other servers"


def _cut(place: Interposed, undo: Callable[..., object], *, bus: bool) -> None:
    [_, password] = place.call("CONFIG", "GET", "masterauth")
    link = (("CONFIG", "SET", "masterauth", password), ("CLIENT", "KILL", "TYPE", "master"))
    heard = (("DEBUG", "DROP-CLUSTER-PACKET-FILTER", _NOTHING),) if bus else ()
    place.last_words([*link, *heard])
    undo(_mend, place, [*link, *heard])
    place.relay.cut_servers(True)
    place.call("CONFIG", "SET", "masterauth", _WRONG)
    place.call("CLIENT", "KILL", "TYPE", "master")
    if bus:
        place.call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", _EVERYTHING)


def _mend(place: Interposed, commands: list[tuple[str, ...]]) -> None:
    place.relay.cut_servers(False)
    if place.node.alive:
        for command in commands:
            place.call(*command)
