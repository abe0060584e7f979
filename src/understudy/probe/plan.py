"""Which keys a recovery test writes: one for each client on every shard."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from understudy.drill.operation import Part
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode
from understudy.valkey.topology import SLOTS, Topology

_SAMPLE = 3  # keys in so many parts of the slots, where nobody tells how many shards there are
_KEPT_S = 600  # beyond the test: keys that could not be removed go by themselves


@dataclass(frozen=True)
class Lane:
    """One shard, as far as it is known, and a tag whose keys it serves."""

    shard: int
    tag: str


@dataclass(frozen=True)
class Plan:
    """What a recovery test writes to; `run` makes its keys its own."""

    run: str
    lanes: tuple[Lane, ...]
    expire_s: int

    @classmethod
    def of(cls, topology: Topology | None, mode: Mode, duration_s: float) -> Plan:
        """Return a key for every shard; where shards are not visible, keys in different parts of the slots."""
        if mode is Mode.OSS_CLUSTER and topology:
            sets = [shard.slots for shard in topology.shards if shard.slots]
        elif mode in {Mode.STANDALONE, Mode.SENTINEL}:
            sets = [frozenset(range(SLOTS))]
        else:
            part = SLOTS // _SAMPLE
            sets = [frozenset(range(number * part, (number + 1) * part)) for number in range(_SAMPLE)]
        lanes = tuple(Lane(number, _tag_in(slots)) for number, slots in enumerate(sets))
        return cls(secrets.token_hex(4), lanes, int(duration_s) + _KEPT_S)

    def key(self, lane: Lane, part: Part) -> str:
        """Return the key of a lane; the two clients have their own, so that neither reads what the other wrote."""
        return f"understudy:probe:{self.run}:{part}:{{{lane.tag}}}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key."""
        return tuple(self.key(lane, part) for part in (Part.BUSY, Part.FRESH) for lane in self.lanes)


def _tag_in(slots: frozenset[int]) -> str:
    return next(str(number) for number in range(10 * SLOTS) if key_slot(str(number).encode()) in slots)
