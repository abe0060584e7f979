"""`migrate`: slots move to another primary, key by key, while they are used."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.drill.chosen import data_only, shard_with, shards_of
from understudy.drill.fault import Scene, Unprepared, Value
from understudy.errors import RefusedError, UsageError
from understudy.lab.live import Lab
from understudy.lab.reshard import move_slot
from understudy.lab.server import LabNode
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode
from understudy.valkey.topology import SLOTS, Node


class Migrate(Unprepared):
    """Moves slots that hold keys, one at a time; the way back moves them home. ASK and MOVED are what clients see."""

    name = "migrate"
    about = "move so many slots that hold keys to another primary, key by key"
    nodes = "primary"
    layouts = frozenset({"cluster", "enterprise"})
    defaults: Mapping[str, Value] = {"slots": 16}
    lasting = False
    mend = "The lab is whole; the slots stay where they are now."

    def apply(self, scene: Scene) -> str:
        """Move slots of every primary that was meant to the next one."""
        count = int(scene.params["slots"])
        if not 1 <= count <= SLOTS:
            raise UsageError("moving slots", f"slots={count}", f"From 1 to {SLOTS}.")
        data_only("moving slots", scene.nodes)
        done = []
        with Router(scene.lab.target(Mode.OSS_CLUSTER)) as router:
            for node in scene.nodes:
                source, goal = _ends(scene.lab, node)
                keys = 0
                slots = _used_slots(scene.lab, source, count)
                for slot in slots:
                    scene.undo.callback(_move_back, scene.lab, slot, source, goal)
                    keys += move_slot(router, slot, _known(router, goal))
                    router.refresh()
                done.append(f"{len(slots)} slots with {keys} keys from {source.name} to {goal.name}")
        return f"moved {', '.join(done)}"


def _ends(lab: Lab, node: LabNode) -> tuple[LabNode, LabNode]:
    """Return the primary of a node's shard, and that of the next shard."""
    source = shard_with(lab, node).primary
    primaries = [shard.primary for shard in shards_of(lab) if shard.primary]
    if source is None or len(primaries) < 2:
        raise RefusedError(f"moving slots of {node.name}", "it takes two primaries", "understudy status")
    at = [primary.name for primary in primaries].index(source.name)
    return source, primaries[(at + 1) % len(primaries)]


def _used_slots(lab: Lab, source: LabNode, count: int) -> list[int]:
    """Return up to so many slots of a primary that hold keys.

    Raises:
        RefusedError: it has no key.
    """
    found: set[int] = set()
    cursor = "0"
    while len(found) < count:
        cursor, keys = lab.call(source, "SCAN", cursor, "COUNT", 1000)
        found.update(key_slot(key.encode(errors="surrogateescape")) for key in keys)
        if cursor == "0":
            break
    if not found:
        raise RefusedError(f"moving slots of {source.name}", "it holds no keys", "Write some first.")
    return sorted(found)[:count]


def _known(router: Router, node: LabNode) -> Node:
    return next(one for one in router.topology.nodes if one.address == node.address)


def _move_back(lab: Lab, slot: int, source: LabNode, goal: LabNode) -> None:
    """Move a slot home; a move that broke off half-way is first brought to its end."""
    with Router(lab.target(Mode.OSS_CLUSTER)) as router:
        for node in (goal, source):
            move_slot(router, slot, _known(router, node))
            router.refresh()
