"""`partition`: a node is cut off from the other servers while clients still reach it: the split-brain case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from understudy.drill import packet_filter
from understudy.drill.fault import Scene, Value
from understudy.drill.interposed import Interposed, interpose
from understudy.drill.sources import reconnect, tell_apart
from understudy.errors import RefusedError, ServerSaidError, UsageError
from understudy.lab.live import Lab
from understudy.lab.server import LabNode

_EVERYTHING, _NOTHING = -2, -1  # what the filter of cluster packets drops
_WRONG = "understudy-cut-off"
_METHODS = _AUTO, _RELAY, _FILTER = ("auto", "relay", "packet-filter")


class Partition:
    """Cut are the cluster bus, whoever of the servers calls the node, and its own link to its primary.

    By the relay: the first by a filter in the server; the second by the relay, which swallows what replicas, sentinels
    and migrating primaries say; the third by taking the password for the primary away from it. By the packet filter:
    all three by dropping the packets. `auto` chooses by the lab alone, so that a drill does the same wherever it runs.
    """

    name = "partition"
    about = "cut the node off from all other servers; clients still reach it"
    nodes = "primary"
    layouts = frozenset({"sentinel", "cluster", "enterprise"})
    defaults: Mapping[str, Value] = {"method": "auto"}
    lasting = True
    mend = ""

    def prepare(self, scene: Scene) -> None:
        """Put a relay in front of each node, or make the servers differ from clients.

        Raises:
            UsageError: there is no such method.
            RefusedError: it cannot be done with this server, on this machine or as this user.
        """
        if _method(scene) == _FILTER:
            packet_filter.check_usable(scene.lab, scene.nodes)
            tell_apart(scene.lab, scene.nodes, scene.undo)
            return
        if not _bus_can_be_cut(scene.lab):
            raise RefusedError(
                "cutting nodes off",
                f"{scene.lab.binary} cannot be cut off the cluster bus by a relay",
                "Use Valkey 9, or a sentinel lab, or method=packet-filter as root on Linux.",
            )
        if scene.lab.layout != "sentinel" and not scene.lab.options.bridged:
            _check_debug(scene.lab, scene.nodes)
        for node in scene.nodes:
            scene.relays[node.name] = interpose(scene.lab, node, scene.undo)

    def apply(self, scene: Scene) -> str:
        """Cut every node that was meant off from all others."""
        method = _method(scene)
        if method == _FILTER:
            for node in scene.nodes:
                scene.undo.callback(reconnect, scene.lab, node)
            scene.undo.enter_context(packet_filter.PacketFilter(packet_filter.cut_of(scene.lab, scene.nodes)))
        else:
            for node in scene.nodes:
                _cut(scene.relays[node.name], scene.undo.callback, bus=scene.lab.layout != "sentinel")
        return f"cut {scene.names} off from the other servers" + (" with a packet filter" if method == _FILTER else "")


def _method(scene: Scene) -> str:
    wanted = str(scene.params["method"])
    if wanted not in _METHODS:
        raise UsageError("cutting nodes off", f"there is no method {wanted!r}", f"One of: {', '.join(_METHODS)}.")
    if wanted != _AUTO:
        return wanted
    return _RELAY if _bus_can_be_cut(scene.lab) else _FILTER


def _check_debug(lab: Lab, nodes: Sequence[LabNode]) -> None:
    """Refuse servers that somebody else configured, and that do not take DEBUG from us."""
    for node in nodes:
        try:
            lab.call(node, "DEBUG", "DROP-CLUSTER-PACKET-FILTER", _NOTHING)
        except ServerSaidError as error:
            raise RefusedError(
                f"cutting {node.name} off", f"the server said: {error.why}", "It takes enable-debug-command local."
            ) from error


def _bus_can_be_cut(lab: Lab) -> bool:
    """Return whether there is no cluster bus, or the servers can stop hearing it."""
    # Older ones drop packets of one type only, and say OK to the filter that means all.
    return lab.layout == "sentinel" or lab.binary.is_valkey_9


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
