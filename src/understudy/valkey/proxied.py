"""List keys through a proxy that hides a cluster.

A proxy that implements SCAN over its shards (Redis Enterprise, Azure) is simply scanned. Envoy's `redis_proxy` sends
SCAN to all shards at once and returns their cursors side by side, which nobody can go on from (envoyproxy/envoy
issue 42889). There a script, brought to a slot's owner by a key of that slot, lists the slot and tells whether the
owner really serves it; the list is as exact as `keyspace.list_slots`.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from importlib.resources import files

from understudy.valkey.keyspace import HUGE_SLOT_KEYS, Batch, until_done
from understudy.valkey.router import Router
from understudy.valkey.slots import name_in_slot
from understudy.valkey.topology import Topology
from understudy.valkey.wire import Command, Reply, ReplyError

_SCRIPT = files("understudy.valkey").joinpath("list_slot.lua").read_bytes()


def scans_properly(router: Router) -> bool:
    """Tell whether SCAN through this proxy answers as SCAN should: one cursor, one list."""
    reply = router.execute([(None, ("SCAN", 0, "COUNT", 1))]).values[0]
    return not isinstance(reply, ReplyError) and len(reply) == 2


def list_slots(router: Router, slots: Iterable[int], match: re.Pattern[bytes] | None = None) -> Iterator[Batch]:
    """Yield the names of all keys in these slots, in batches; a slot that is on the move is asked again.

    Raises:
        IncompleteError: some slots never stood still, or hold more keys than may be listed; `items` names them.
    """
    return until_done(router, slots, lambda some: _list_some(router, some, match))


def _list_some(router: Router, slots: list[int], match: re.Pattern[bytes] | None) -> Generator[Batch, None, list[int]]:
    """Yield the keys of the slots that stand still; return the others."""
    left: list[int] = []
    names: list[bytes] = []
    for slot, reply in zip(slots, _ask(router, slots), strict=True):
        found = _settled(slot, reply, router)
        if found is None:
            left.append(slot)
        else:
            names += [name for name in found if not match or match.fullmatch(name)]
    yield Batch(names, None)
    return left


def _ask(router: Router, slots: Iterable[int]) -> list[Reply]:
    names = name_in_slot()
    commands: list[tuple[int | None, Command]] = [
        (slot, ("EVAL", _SCRIPT, 1, names[slot], slot, HUGE_SLOT_KEYS)) for slot in slots
    ]
    return router.execute(commands).values


def _settled(slot: int, reply: Reply, router: Router) -> list[bytes] | None:
    """Return the names, or None where the slot is on the move or its owner does not answer just now."""
    if isinstance(reply, ReplyError):
        return None
    names, myself = reply
    shards = Topology.from_cluster_nodes(myself.decode(), router.target.seeds[0]).shards
    if not shards or slot not in shards[0].slots or slot in dict(shards[0].migrating) or len(names) >= HUGE_SLOT_KEYS:
        return None
    return list(names)
