"""Read whole slots as DUMP payloads: list and dump in one atomic script, where the server lets us.

The quick way of `keyspace.list_slots` and `dump.Dumper` together: a step names some slots, and the server lists and
dumps them in one go, or refuses because one of them is not settled there. What is refused, or too big for a step, is
left to the careful way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

from understudy.errors import UnreachableError
from understudy.valkey.dump import BIG, BUDGET_BYTES, KEYS_A_STEP, Dumped, Dumper
from understudy.valkey.router import Router
from understudy.valkey.slots import name_in_slot
from understudy.valkey.target import Address
from understudy.valkey.wire import Reply, ReplyError, Wire, pack

_SCRIPT = files("understudy.valkey").joinpath("dump_slots.lua").read_bytes()
_SCRIPT_SHA1 = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()
_SLOTS_A_STEP = 256
_MOST_KEYS = 4 * KEYS_A_STEP  # a fuller slot would keep the server busy for too long in one go
_UNDER_WAY = 2


def read_slots(router: Router, dumper: Dumper, slots: Iterable[int], left: list[int]) -> Iterator[Dumped]:
    """Yield the keys of slots, step by step; put the slots of which nothing was read into `left`."""
    by_owner: dict[Address | None, list[int]] = {}
    for slot in sorted(slots):
        by_owner.setdefault(router.owner(slot), []).append(slot)
    left += by_owner.pop(None, [])
    for address, owned in by_owner.items():
        if address:
            yield from _read_owned(router, dumper, address, owned, left)


def _read_owned(
    router: Router, dumper: Dumper, address: Address, slots: list[int], left: list[int]
) -> Iterator[Dumped]:
    try:
        counts = router.wire(address).pipeline(("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots)
        loaded = router.wire(address).pipeline([("SCRIPT", "LOAD", _SCRIPT)])[0]
        wire = Wire(address, router.target)
        most = dumper.most_bytes(address)
    except UnreachableError:
        left += slots
        return
    if any(isinstance(reply, ReplyError) for reply in (*counts, loaded)):
        wire.close()
        left += slots
        return
    left += [slot for slot, count in zip(slots, counts, strict=True) if count > _MOST_KEYS]
    steps = _steps([(slot, count) for slot, count in zip(slots, counts, strict=True) if count <= _MOST_KEYS])
    with wire:
        for step, reply in _replies(wire, steps, most):
            if reply is None or isinstance(reply, ReplyError):
                left += step
            else:
                yield from _sort_out(dumper, address, reply)


def _replies(wire: Wire, steps: Iterator[list[int]], most_bytes: int) -> Iterator[tuple[list[int], Reply]]:
    """Ask step by step, one ahead, and yield each with its reply; None once the connection has broken."""
    asked: list[list[int]] = []  # sent, in order; a step leaves the list when its reply is here
    try:
        while True:
            while len(asked) < _UNDER_WAY and (step := next(steps, None)):
                asked.append(step)
                wire.send(_packed(step, most_bytes))
            if not asked:
                return
            reply = wire.read()
            yield asked.pop(0), reply
    except UnreachableError:
        for step in (*asked, *steps):
            yield step, None


def _steps(counted: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    step: list[int] = []
    keys = 0
    for slot, count in counted:
        step.append(slot)
        keys += count
        if keys >= KEYS_A_STEP or len(step) >= _SLOTS_A_STEP:
            yield step
            step, keys = [], 0
    if step:
        yield step


def _packed(slots: Sequence[int], most_bytes: int) -> bytes:
    names = name_in_slot()
    arguments = (part for slot in slots for part in (slot, names[slot]))
    return pack(("EVALSHA_RO", _SCRIPT_SHA1, 0, BUDGET_BYTES, 2 * _MOST_KEYS, most_bytes, *arguments))


def _sort_out(dumper: Dumper, address: Address, reply: Reply) -> Iterator[Dumped]:
    """Yield what was dumped; fetch what the budget did not allow."""
    names, payloads, expiries = reply[0::3], reply[1::3], reply[2::3]
    dumper.pace.spend(len(names))
    if None not in payloads:
        if names:
            yield Dumped(names, payloads, expiries)
        return
    rows = list(zip(names, payloads, expiries, strict=True))
    if here := [row for row in rows if row[1] is not None]:
        yield Dumped([row[0] for row in here], [row[1] for row in here], [row[2] for row in here])
    unread = [name for name, _, expiry in rows if expiry is None]
    dumper.big += (big := [name for name, _, expiry in rows if expiry == BIG])
    dumper.gone += len(rows) - len(here) - len(unread) - len(big)
    yield from dumper.read(unread, address)
