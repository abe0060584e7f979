"""Move slots between primaries, as `--cluster reshard` does, key by key: the slow way that clients notice."""

from __future__ import annotations

import contextlib

from understudy.errors import ServerSaidError, UnreachableError
from understudy.valkey.router import Router
from understudy.valkey.topology import Node, Shard
from understudy.valkey.wire import Command

_MIGRATE_TIMEOUT_MS = 5000


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
    try:
        there.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
    except ServerSaidError as error:
        if "already the owner" not in error.why:
            raise
        _tell(router, slot, goal, source)  # it broke off when only the goal had been told
        return 0
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
