"""What tests of faults do to a lab: keys that must still be there afterwards, and one fault in effect."""

from __future__ import annotations

from contextlib import ExitStack

from understudy.drill.chosen import chosen
from understudy.drill.fault import Scene
from understudy.drill.faults import find_fault, params_for
from understudy.lab import Lab
from understudy.lab.server import LabNode
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address

KEYS = 300
EXPECTED = [b"%d" % i for i in range(KEYS)]


def fill(one: Lab) -> None:
    with Router(one.target()) as router:
        router.execute([(key_slot(b"key:%d" % i), ("SET", f"key:{i}", i)) for i in range(KEYS)])


def values(one: Lab) -> list[bytes]:
    with Router(one.target()) as router:
        return router.execute([(key_slot(b"key:%d" % i), ("GET", f"key:{i}")) for i in range(KEYS)]).values


def applied(one: Lab, undo: ExitStack, name: str, *words: str, given: tuple[str, ...] = ()) -> Scene:
    """A fault in effect until `undo` ends."""
    fault = find_fault(name, one.layout)
    scene = Scene(one, chosen(one, words or [fault.nodes]), undo, params_for(fault, given))
    fault.prepare(scene)
    fault.apply(scene)
    return scene


def replica_of(cluster: Lab, address: Address) -> LabNode:
    """A replica of the primary at an address."""
    with Router(cluster.target()) as router:
        shard = next(one for one in router.topology.shards if one.primary and one.primary.address == address)
    return cluster.node(str(shard.replicas[0].address.port))
