"""Move slots between primaries, as `--cluster reshard` does, key by key: the slow way that clients notice."""

from __future__ import annotations

import contextlib

from understudy.errors import ServerSaidError, UnreachableError
from understudy.lab.deadline import Deadline
from understudy.valkey.router import Router
from understudy.valkey.topology import Node, Shard
from understudy.valkey.wire import Command, Wire

_MIGRATE_TIMEOUT_MS = 5000
_HEARD_WITHIN_S = 10.0


def move_slot(router: Router, slot: int, goal: Node, keys_a_step: int = 10) -> int:
    """Move one slot to another primary while it is being used; return how many keys were moved.

    A move that broke off is gone on with when it is asked for again. Where it left the slot to nobody (the old owner
    had given it up, the new one died before its replica knew), the goal takes it, as `--cluster fix` would have it.

    Raises:
        UnreachableError, ServerSaidError: a primary did not play along; the slot may be left half-way.
    """
    source = router.topology.by_slot()[slot].primary
    if source is None or source.node_id == goal.node_id:
        return 0
    here, there = router.wire(source.address), router.wire(goal.address)
    moved = 0
    if not _importing(there, slot, source):
        if not here.call("CLUSTER", "GETKEYSINSLOT", slot, 1):
            _tell(router, slot, goal, source)  # it broke off when only the goal had been told
            return 0
        # The keys say who has the slot: the goal gave it away and has not heard so yet. The others tell it.
        Deadline(_HEARD_WITHIN_S).until(
            f"waiting for {goal.address} to hear that it gave slot {slot} away", lambda: _importing(there, slot, source)
        )
    try:
        here.call("CLUSTER", "SETSLOT", slot, "MIGRATING", goal.node_id)
    except ServerSaidError as error:
        if "not the owner" not in error.why:
            raise
        there.call("CLUSTER", "BUMPEPOCH")
    while keys := here.call("CLUSTER", "GETKEYSINSLOT", slot, keys_a_step):
        password = router.target.password
        secret: Command = ("AUTH", password) if password is not None else ()
        host, port = goal.address.host, goal.address.port
        here.call("MIGRATE", host, port, "", 0, _MIGRATE_TIMEOUT_MS, "REPLACE", *secret, "KEYS", *keys)
        moved += len(keys)
    _tell(router, slot, goal, source)
    return moved


def _importing(there: Wire, slot: int, source: Node) -> bool:
    """Have a primary import a slot; False where it takes itself for the owner."""
    try:
        there.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
    except ServerSaidError as error:
        if "already the owner" not in error.why:
            raise
        return False
    return True


def _tell(router: Router, slot: int, goal: Node, source: Node) -> None:
    """Tell every primary who serves the slot now, those two first."""
    for node in (goal, source):
        router.wire(node.address).call("CLUSTER", "SETSLOT", slot, "NODE", goal.node_id)
    for node in _others(router.topology.shards, (goal, source)):
        with contextlib.suppress(UnreachableError):  # it hears of it from the others
            router.wire(node.address).call("CLUSTER", "SETSLOT", slot, "NODE", goal.node_id)


def _others(shards: tuple[Shard, ...], known: tuple[Node, Node]) -> list[Node]:
    return [
        shard.primary for shard in shards if shard.primary and shard.primary.address not in {n.address for n in known}
    ]
