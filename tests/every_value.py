"""Keys of every type, with everything that such a value can have, and all that can be seen of one."""

from __future__ import annotations

import random

from understudy.valkey.wire import Wire

YEAR_2033_MS = 1_999_999_999_999


def plant(wire: Wire) -> None:
    """Make keys of every type: of many elements and of few, empty, and with everything that a stream can have."""
    chance = random.Random(7)

    def some(most: int = 300) -> bytes:
        return chance.randbytes(chance.randrange(1, most))

    wire.pipeline(
        [
            ("SET", "string", chance.randbytes(100_000)),
            ("SET", "number", 5),
            ("SET", "empty", ""),
            ("PFADD", "hyperloglog", *range(1000)),
            ("RPUSH", "list", *(some() for _ in range(1000)), chance.randbytes(50_000), b"", b"last"),
            ("SADD", "set", *(some() for _ in range(1000))),
            ("SADD", "numbers", *range(100)),
            ("ZADD", "zset", *(word for _ in range(1000) for word in (str(chance.gauss(0, 1e9)), some()))),
            ("ZADD", "scores", "inf", "a", "-inf", "b", "0.1", "c", "1e300", "d", "3.0000000000000004", "e"),
            ("HSET", "hash", *(word for number in range(1000) for word in (f"field{number}", some()))),
            ("HPEXPIREAT", "hash", YEAR_2033_MS, "FIELDS", 2, "field1", "field2"),
            ("HPEXPIREAT", "hash", YEAR_2033_MS + 1, "FIELDS", 1, "field999"),
        ]
    )
    wire.pipeline([("XGROUP", "CREATE", "stream", group, 0, "MKSTREAM") for group in ("one", "two")])
    wire.pipeline([("XADD", "stream", f"{at + 1}-{at % 3}", "a", some(), "number", at) for at in range(1500)])
    wire.pipeline(
        [
            ("XGROUP", "CREATECONSUMER", "stream", "one", "lonely"),
            ("XREADGROUP", "GROUP", "one", "first", "COUNT", 1100, "STREAMS", "stream", ">"),
            ("XREADGROUP", "GROUP", "two", "first", "COUNT", 3, "STREAMS", "stream", ">"),
            ("XCLAIM", "stream", "one", "second", 0, "5-1", "6-2", "TIME", 1_700_000_000_000, "RETRYCOUNT", 77),
            ("XACK", "stream", "one", "1-0", "700-0"),
            ("XDEL", "stream", "100-0", "101-1", "1400-1"),
            ("XTRIM", "stream", "MAXLEN", 1490),
            ("XADD", "deleted", "5-5", "a", "b"),
            ("XDEL", "deleted", "5-5"),
            ("XGROUP", "CREATE", "never", "group", 0, "MKSTREAM"),
            ("XGROUP", "DESTROY", "never", "group"),
            ("XADD", "trimmed", "5-5", "a", "b"),
            ("XGROUP", "CREATE", "trimmed", "group", 0),
            ("XREADGROUP", "GROUP", "group", "consumer", "STREAMS", "trimmed", ">"),
            ("XTRIM", "trimmed", "MAXLEN", 0),
            ("XADD", "counted", "5-5", "a", "b"),
            ("XSETID", "counted", "9-9", "ENTRIESADDED", 77, "MAXDELETEDID", "8-8"),
        ]
    )


def kind_of(wire: Wire, key: bytes) -> str:
    return str(wire.call("TYPE", key).decode())


def state_of(wire: Wire, key: bytes) -> object:
    """Everything that can be seen of a value."""
    kind = kind_of(wire, key)
    seen: list[object] = [kind, wire.call("DEBUG", "DIGEST-VALUE", key)]
    if kind == "hash":
        fields = sorted(wire.call("HKEYS", key))
        seen.append(wire.call("HPEXPIRETIME", key, "FIELDS", len(fields), *fields))
    if kind == "stream":
        about = wire.call("XINFO", "STREAM", key, "FULL", "COUNT", 0)
        told = dict(zip(about[::2], about[1::2], strict=True))
        for group in told[b"groups"]:
            for consumer in dict(zip(group[::2], group[1::2], strict=True))[b"consumers"]:
                consumer[3] = consumer[5] = None  # when it was seen: commands cannot bring that back
        seen.append({name: value for name, value in told.items() if not name.startswith(b"radix")})
    return seen
