"""List the names of keys, completely, while the cluster changes.

In a cluster the unit is the slot. `CLUSTER GETKEYSINSLOT` lists a slot in one atomic step; if its owner was the
same before and after (same node, same configuration epoch, slot neither coming nor going), the list is exact.
A slot on its way from S to T is listed at S first and then at T: keys only travel from S to T, so a key that
S no longer had is at T by then. SCAN gives no such promise across nodes and is the second choice: for one huge
slot, and for services that do not offer GETKEYSINSLOT; there too the owner must have stood still.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from understudy.errors import IncompleteError, ServerSaidError, UnreachableError
from understudy.valkey.discovery import parse_info
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges, key_slot
from understudy.valkey.target import Address, Mode
from understudy.valkey.topology import Shard, Topology
from understudy.valkey.wire import Command, Reply, ReplyError, error_for

KEYS_A_BATCH = 20_000  # names held at once, give or take one slot
HUGE_SLOT_KEYS = 100_000  # more than this in one slot is scanned, not listed: the server would stand still
_SLOTS_A_LOOK = 512
_SCAN_COUNT = 1000
PATIENCE_S = 60.0


class Batch(NamedTuple):
    """Names of keys, and the node that served all of them a moment ago (None: several, or nobody can tell)."""

    names: list[bytes]
    owner: Address | None


def databases(router: Router) -> list[int]:
    """Return the databases that hold keys; behind a proxy only the selected one can be seen.

    Raises:
        ServerSaidError, NotAuthorisedError: the server does not tell.
    """
    if router.target.mode is Mode.ENTERPRISE:
        return [router.target.db]
    found: set[int] = set()
    for reply in router.on_primaries("INFO", "keyspace"):
        if isinstance(reply, ReplyError):
            raise error_for(router.target.seeds[0], ("INFO",), reply)
        found |= {int(name[2:]) for name in parse_info(reply) if name.startswith("db")}
    return sorted(found) or [0]


def list_slots(router: Router, slots: Iterable[int], match: re.Pattern[bytes] | None = None) -> Iterator[Batch]:
    """Yield the names of all keys in these slots, in batches of about `KEYS_A_BATCH`.

    Every key that exists throughout is yielded; once, unless a huge slot had to be scanned twice.

    Raises:
        IncompleteError: some slots never stood still, or nobody serves them; `items` names them.
        UnreachableError: the cluster stayed away too long.
    """
    return until_done(router, slots, lambda some: _list_some(router, some, match))


def until_done(
    router: Router, slots: Iterable[int], list_some: Callable[[list[int]], Generator[Batch, None, list[int]]]
) -> Iterator[Batch]:
    """List some slots after the other; those that `list_some` returns as left over are listed again.

    Raises:
        IncompleteError: nothing moved forward for `PATIENCE_S` seconds.
    """
    waiting = sorted(slots)
    give_up_at = time.monotonic() + PATIENCE_S
    while waiting:
        left: list[int] = []
        for start in range(0, len(waiting), _SLOTS_A_LOOK):
            left += yield from list_some(waiting[start : start + _SLOTS_A_LOOK])
        if len(left) < len(waiting):
            give_up_at = time.monotonic() + PATIENCE_S
        elif time.monotonic() > give_up_at:
            raise IncompleteError(
                f"listing the keys of {len(left)} slot(s) on {router.target}",
                f"nobody served them undisturbed for {PATIENCE_S:.0f} s",
                "Let the failover or the resharding end (CLUSTER NODES shows it), then run the backup again.",
                as_ranges(left),
            )
        if left:
            time.sleep(0.05)
            _refresh(router)
        waiting = left


def _list_some(
    router: Router, slots: Sequence[int], match: re.Pattern[bytes] | None
) -> Generator[Batch, None, list[int]]:
    """Yield the keys of the slots that stand still; return the others."""
    by_owner: dict[Address, list[int]] = {}
    done: set[int] = set()  # the slots whose keys were yielded, all of them
    for slot in slots:
        if owner := router.owner(slot):
            by_owner.setdefault(owner, []).append(slot)
    for address, owned in by_owner.items():
        with contextlib.suppress(UnreachableError):  # what is not done then is listed again
            yield from _list_owned(router, address, owned, match, done)
    return sorted(set(slots) - done)


def _list_owned(
    router: Router, address: Address, slots: list[int], match: re.Pattern[bytes] | None, done: set[int]
) -> Iterator[Batch]:
    wire = router.wire(address)
    before = _own_view(router, address)
    leaving = dict(before.migrating) if before else {}  # only the node itself knows which of its slots leave
    for slot in slots:
        if before and slot in leaving:
            yield from _list_moving(router, slot, before, match, done)
    slots = [slot for slot in slots if slot not in leaving]
    counts = wire.pipeline(("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots)
    if any(isinstance(count, ReplyError) for count in counts):
        yield from _scan_owned(router, address, slots, match, done)
        return
    huge = [slot for slot, count in zip(slots, counts, strict=True) if count > HUGE_SLOT_KEYS]
    group: list[int] = []
    expected = 0
    for slot, count in zip(slots, counts, strict=True):
        if count > HUGE_SLOT_KEYS:
            continue
        group.append(slot)
        expected += count
        if expected >= KEYS_A_BATCH:
            before = yield from _list_group(router, address, group, before, match, done)
            group, expected = [], 0
    if group:
        yield from _list_group(router, address, group, before, match, done)
    if huge:
        yield from _scan_owned(router, address, huge, match, done)


def _list_group(
    router: Router,
    address: Address,
    slots: list[int],
    before: Shard | None,
    match: re.Pattern[bytes] | None,
    done: set[int],
) -> Generator[Batch, None, Shard | None]:
    """Yield the keys of slots that stood still since `before`; return the owner's view afterwards."""
    most = HUGE_SLOT_KEYS * 2
    lists = router.wire(address).pipeline(("CLUSTER", "GETKEYSINSLOT", slot, most) for slot in slots)
    after = _own_view(router, address)
    names: list[bytes] = []
    for slot, found in zip(slots, lists, strict=True):
        if _stood_still(slot, before, after) and not isinstance(found, ReplyError) and len(found) < most:
            names += found
            done.add(slot)
    yield Batch(_matching(names, match), address)
    return after


def _list_moving(
    router: Router, slot: int, source: Shard, match: re.Pattern[bytes] | None, done: set[int]
) -> Iterator[Batch]:
    """List a slot that is on its way from `source` to another node: at the source first, then there."""
    goal_id = dict(source.migrating)[slot]
    goal = next((node for node in router.topology.nodes if node.node_id == goal_id), None)
    if goal is None or source.primary is None:
        return
    command: Command = ("CLUSTER", "GETKEYSINSLOT", slot, HUGE_SLOT_KEYS)
    try:
        found = [router.wire(place).call(*command) for place in (source.primary.address, goal.address)]
        now = _own_view(router, source.primary.address)
    except (UnreachableError, ServerSaidError):
        return
    still_leaving = now is not None and slot in now.slots and dict(now.migrating).get(slot) == goal_id
    gone = now is not None and slot not in now.slots
    if (still_leaving or gone) and all(len(names) < HUGE_SLOT_KEYS for names in found):
        done.add(slot)
        yield Batch(_matching(list(dict.fromkeys([*found[0], *found[1]])), match), None)


def _scan_owned(
    router: Router, address: Address, slots: Iterable[int], match: re.Pattern[bytes] | None, done: set[int]
) -> Iterator[Batch]:
    wanted = set(slots)
    before = _own_view(router, address)
    for names, _ in scan(router, address, None):
        yield Batch(_matching([name for name in names if key_slot(name) in wanted], match), address)
    after = _own_view(router, address)
    done.update(slot for slot in wanted if _stood_still(slot, before, after))


def _own_view(router: Router, address: Address) -> Shard | None:
    """Return a node's own account of itself, or None when it is no primary (any more)."""
    text = router.wire(address).call("CLUSTER", "NODES").decode()
    myself = "\n".join(line for line in text.splitlines() if "myself" in line.split(" ", 3)[2])
    shards = Topology.from_cluster_nodes(myself, address).shards
    return shards[0] if shards and shards[0].primary else None


def _stood_still(slot: int, before: Shard | None, after: Shard | None) -> bool:
    """Tell whether a slot was served by the same node, in the same epoch, neither coming nor going."""
    if before is None or after is None or before.primary is None or after.primary is None:
        return False
    same = (before.primary.node_id, before.primary.epoch) == (after.primary.node_id, after.primary.epoch)
    views = (before, after)
    settled = all(slot in view.slots and slot not in dict(view.migrating) for view in views)
    return same and settled


def scan(router: Router, address: Address, match: str | None) -> Iterator[Batch]:
    """Yield names from one SCAN of one node (and the target's database), a page at a time.

    The server may name a key twice when its table is resized meanwhile.

    Raises:
        UnreachableError: the connection broke; the cursor is worth nothing on another server.
    """
    wire = router.wire(address)
    pattern = ("MATCH", match) if match else ()
    cursor: bytes | int = 0
    while True:
        cursor, names = _page(wire.call("SCAN", cursor, *pattern, "COUNT", _SCAN_COUNT))
        if names:
            yield Batch(names, address)
        if cursor == b"0":
            return


def _page(reply: Reply) -> tuple[bytes, list[bytes]]:
    cursor, names = reply
    return cursor, list(names)


def _matching(names: list[bytes], match: re.Pattern[bytes] | None) -> list[bytes]:
    return [name for name in names if match.fullmatch(name)] if match else names


def _refresh(router: Router) -> None:
    with contextlib.suppress(UnreachableError):  # the caller's deadline decides how long
        router.refresh()
