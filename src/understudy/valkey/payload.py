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
