"""Does a primary hold keys of slots that are not its own? After a slot has moved it may, for a while.

A copy holds them too, and is no cluster that could tell. Where there are none, nobody need look at every key's slot.
"""

from __future__ import annotations

from collections.abc import Iterable

from understudy.errors import UnderstudyError
from understudy.valkey.router import Router
from understudy.valkey.target import Address
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import Wire

_SLOTS_AT_ONCE = 512  # some hundred microseconds of the server's time


class Strays:
    """What was found at the last look: the slots of each primary that held keys of no others."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._alone: dict[Address, frozenset[int]] = {}

    def look(self) -> None:
        """Ask every primary; one that does not tell may hold some."""
        self._alone = {}
        try:
            for shard in self._router.refresh().shards:
                if shard.primary and shard.slots:
                    wire = self._router.wire(shard.primary.address)
                    if _none(wire, [slot for slot in range(SLOTS) if slot not in shard.slots]):
                        self._alone[shard.primary.address] = shard.slots
        except UnderstudyError:
            return  # whoever looks at the source next says what is wrong

    def none_at(self, address: Address, slots: frozenset[int] | None) -> bool:
        """Tell whether a primary that serves these slots then held keys of no others."""
        return slots is not None and self._alone.get(address) == slots


def _none(wire: Wire, others: list[int]) -> bool:
    return all(
        reply == 0
        for start in range(0, len(others), _SLOTS_AT_ONCE)
        for reply in wire.pipeline(_counts(others[start : start + _SLOTS_AT_ONCE]))
    )


def _counts(slots: Iterable[int]) -> list[tuple[str, str, int]]:
    return [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
