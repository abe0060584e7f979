"""What a DUMP payload says about itself: its type, and the version of server that it needs.

A payload is the value's type byte, the serialised value, two bytes of RDB version and a CRC64.
Source: `createDumpPayload` and `rdb.h` of Valkey and Redis.
"""

from __future__ import annotations

FOOTER_BYTES = 10  # RDB version, 2 bytes little-endian; CRC64, 8 bytes

_NAMES = {
    "string": (0,),
    "list": (1, 10, 14, 18),
    "set": (2, 11, 20),
    "zset": (3, 5, 12, 17),
    "hash": (4, 9, 13, 16, 22, 23, 24, 25),
    "stream": (15, 19, 21, 26),
    "module": (6, 7),
}
TYPE_NAMES: tuple[str, ...] = tuple(
    next((name for name, codes in _NAMES.items() if byte in codes), "unknown") for byte in range(256)
)
FIELDS_EXPIRE = frozenset((22, 23, 24, 25))  # type bytes of hashes of which at least one field expires
_HASH_OF_VALKEY, _RDB_OF_VALKEY = 22, 80  # fields with a lifetime as Valkey writes them, from 9.0 on
# the newest RDB version that a server of this name and version reads
_READS = (
    ("valkey", (9, 0), 80),
    ("valkey", (7, 2), 11),
    ("redis", (7, 4), 12),
    ("redis", (7, 2), 11),
    ("redis", (7, 0), 10),
    ("redis", (5, 0), 9),
)


def rdb_version(payload: bytes) -> int:
    """Return the RDB version that a payload was written with."""
    return int.from_bytes(payload[-FOOTER_BYTES : -FOOTER_BYTES + 2], "little")


def body(payload: bytes) -> bytes:
    """Return the type byte and the value, without version and checksum."""
    return payload[:-FOOTER_BYTES]


def all_fields_expired(payload: bytes, now_ms: int) -> bool:
    """Tell whether a hash has no field left by then: a server makes nothing of it, but for removing what stands there.

    Only of Valkey's own hashes this can be told; of any other, and of what is not as it should be, the answer is no.
    """
    if payload[0] != _HASH_OF_VALKEY or rdb_version(payload) < _RDB_OF_VALKEY:
        return False
    end = len(payload) - FOOTER_BYTES
    try:
        fields, at = _length(payload, 1)
        for _ in range(fields):
            at = _after_string(payload, _after_string(payload, at))
            expiry = int.from_bytes(payload[at : at + 8], "little", signed=True)  # -1: this field stays
            at += 8
            if at > end or not 0 <= expiry <= now_ms:
                return False
    except (IndexError, ValueError):
        return False
    return fields > 0 and at == end


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return the length that stands there, and where it ends. Raises `ValueError` where none stands there."""
    first = data[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], at + 2
    width = {0x80: 4, 0x81: 8}.get(first)
    if width is None:
        raise ValueError(first)
    return int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width


def _after_string(data: bytes, at: int) -> int:
    """Return where a string ends: as it is, as an integer of 1, 2 or 4 bytes, or compressed."""
    first = data[at]
    if first in (0xC0, 0xC1, 0xC2):
        return at + 1 + (1 << (first & 3))
    if first == 0xC3:
        packed, at = _length(data, at + 1)
        _, at = _length(data, at)
        return at + packed
    size, at = _length(data, at)
    return at + size


def newest_readable(server: str, version: str) -> int | None:
    """Return the newest RDB version that this server reads, or None where we do not know."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    for name, since, newest in _READS:
        if name == server and numbers >= since:
            return newest
    return None


def built_with_commands(recorded: int, found: int) -> bool:
    """Tell whether a server whose own payloads are of the version `found` refuses one of the version `recorded`.

    Then what stands there was built with commands. Valkey's versions begin at 80, and it refuses Redis' own from 12 on.
    """
    return recorded > found or (found >= 80 and 12 <= recorded < 80)


def written_by(rdb: int) -> str:
    """Return which servers write this RDB version, for a message."""
    known = {
        9: "Redis 5.0 to 6.2", 10: "Redis 7.0", 11: "Redis 7.2 or Valkey 7.2 to 8.x",
        12: "Redis 7.4 or newer", 80: "Valkey 9.0 or newer",
    }  # fmt: skip
    return known.get(rdb, "a server that we do not know")
