"""Which of the 16,384 slots a key belongs to, and slot sets as the short text people write."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from functools import cache


def key_slot(key: bytes) -> int:
    """Return the slot of a key, its hash tag honoured. Source: the Valkey cluster specification, "Hash tags"."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) & 0x3FFF


@cache
def name_in_slot() -> tuple[bytes, ...]:
    """Return, for each slot, a name in it that nobody uses: a word of ours and two bytes.

    CRC16 maps the 65,536 pairs of bytes behind a fixed word to 65,536 different values: each slot gets four.
    """
    names = (b"understudy:probe:" + number.to_bytes(2, "big") for number in range(1 << 16))
    by_slot = {crc_hqx(name, 0) & 0x3FFF: name for name in names}
    return tuple(by_slot[slot] for slot in range(len(by_slot)))


def as_ranges(slots: Iterable[int]) -> list[str]:
    """Return slots as `["0-99", "105"]`."""
    ranges: list[list[int]] = []
    for slot in sorted(slots):
        if ranges and slot == ranges[-1][1] + 1:
            ranges[-1][1] = slot
        else:
            ranges.append([slot, slot])
    return [f"{first}-{last}" if last > first else str(first) for first, last in ranges]


def from_ranges(ranges: Iterable[str]) -> set[int]:
    """Read what `as_ranges` wrote."""
    slots: set[int] = set()
    for text in ranges:
        first, _, last = text.partition("-")
        slots.update(range(int(first), int(last or first) + 1))
    return slots
