"""Fill a stack with keys of every type and every encoding that servers have, for demos, tests and benchmarks.

The same seed gives the same keys and values. What a server is too old for is left out.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode
from understudy.valkey.wire import Command, ReplyError

_STEP = 500
FUNCTION_LIBRARY = (
    b"#!lua name=understudy_sample\nredis.register_function('understudy_echo', function(_, a) return a[1] end)"
)

Kind = Callable[[bytes, random.Random], list[Command]]


def _kinds() -> dict[str, Kind]:
    """Return, by name, how to make one key of each kind."""

    def groups(name: bytes, _: random.Random) -> list[Command]:
        entries: list[Command] = [("XADD", name, f"{n}-1", "field", f"value-{n}") for n in range(1, 30)]
        return [
            *entries,
            ("XGROUP", "CREATE", name, "workers", "0"),
            ("XGROUP", "CREATE", name, "auditors", "10-1"),
            ("XREADGROUP", "GROUP", "workers", "ann", "COUNT", 5, "STREAMS", name, ">"),  # five stay pending
            ("XREADGROUP", "GROUP", "workers", "ben", "COUNT", 3, "STREAMS", name, ">"),
            ("XACK", name, "workers", "1-1"),
            ("XGROUP", "CREATECONSUMER", name, "workers", "idle"),
            ("XDEL", name, "20-1"),
        ]

    return {
        "int": lambda k, r: [("SET", k, r.randrange(1 << 40))],
        "embstr": lambda k, r: [("SET", k, r.randbytes(20))],
        "raw": lambda k, r: [("SET", k, r.randbytes(r.randrange(60, 400)))],
        "text": lambda k, r: [("SET", k, f"이름-{r.randrange(1 << 30)} " * 4)],
        "empty": lambda k, _: [("SET", k, "")],
        "ttl": lambda k, r: [("SET", k, r.randbytes(30), "PX", r.randrange(3_600_000, 7_200_000))],
        "bitmap": lambda k, r: [("SETBIT", k, r.randrange(4096), 1) for _ in range(9)],
        "hll-sparse": lambda k, r: [("PFADD", k, *(r.randbytes(6) for _ in range(20)))],
        "hll-dense": lambda k, r: [("PFADD", k, *(r.randbytes(6) for _ in range(2000)))],
        "list-listpack": lambda k, r: [("RPUSH", k, *(r.randbytes(8) for _ in range(10)))],
        "list-quicklist": lambda k, r: [("RPUSH", k, *(r.randbytes(200) for _ in range(120)))],
        "set-intset": lambda k, r: [("SADD", k, *(r.randrange(1 << 33) for _ in range(20)))],
        "set-listpack": lambda k, r: [("SADD", k, *(f"m{r.randrange(1 << 20)}" for _ in range(20)))],
        "set-hashtable": lambda k, r: [("SADD", k, *(f"member-{r.randrange(1 << 40)}" for _ in range(400)))],
        "zset-listpack": lambda k, r: [("ZADD", k, *(x for n in range(12) for x in (repr(r.random()), f"m{n}")))],
        "zset-skiplist": lambda k, r: [("ZADD", k, *(x for n in range(300) for x in (repr(r.gauss(0, 9)), f"m{n}")))],
        "zset-inf": lambda k, _: [("ZADD", k, "-inf", "low", "+inf", "high", "0", "zero")],
        "geo": lambda k, r: [
            ("GEOADD", k, repr(r.uniform(-180, 180)), repr(r.uniform(-80, 80)), f"place-{n}") for n in range(5)
        ],
        "hash-listpack": lambda k, r: [("HSET", k, *(x for n in range(8) for x in (f"f{n}", r.randbytes(9))))],
        "hash-hashtable": lambda k, r: [("HSET", k, *(x for n in range(300) for x in (f"field-{n}", r.randbytes(30))))],
        "hash-field-ttl": lambda k, r: [
            ("HSET", k, "stays", r.randbytes(9), "goes", r.randbytes(9)),
            ("HPEXPIRE", k, r.randrange(3_600_000, 7_200_000), "FIELDS", 1, "goes"),
        ],
        "stream": lambda k, r: [("XADD", k, "*", "field", r.randbytes(9), "n", n) for n in range(5)],
        "stream-groups": groups,
        "stream-empty": lambda k, _: [("XGROUP", "CREATE", k, "waiting", "$", "MKSTREAM")],
    }


_ODD_NAMES = (
    b"\x00\xff binary \xfe",
    "한글:열쇠".encode(),
    b'"quoted"\\',
    b"line\nfeed",
    b"",
    b"{tag}:a",
    b"{tag}:b",
    b" ",
)


def fill(router: Router, keys: int, seed: int = 1) -> int:
    """Write `keys` keys, every kind equally often, and a handful with odd names; return how many were written."""
    chance = random.Random(seed)  # noqa: S311 - data, not secrets
    makers = {name: make for name, make in _kinds().items() if _known(router, name)}
    written: int = 0
    for names, commands in _steps(makers, keys, chance):
        written += names
        for reply in router.execute([(key_slot(_name(command)), command) for command in commands]).values:
            if isinstance(reply, ReplyError):
                raise reply
    return written


def _name(command: Command) -> bytes:
    """Return the key that a command is about."""
    position = {"XGROUP": 2, "XREADGROUP": -2}.get(str(command[0]), 1)
    name = command[position]
    return name if isinstance(name, bytes) else str(name).encode()


def _steps(makers: dict[str, Kind], keys: int, chance: random.Random) -> Iterator[tuple[int, list[Command]]]:
    """Yield commands in steps of bounded size, with the number of keys that they make."""
    kinds = itertools.cycle(makers.items())
    step: list[Command] = [("SET", name, f"odd name {number}") for number, name in enumerate(_ODD_NAMES)]
    names = len(step)
    for number in range(keys):
        kind, make = next(kinds)
        step += make(b"sample:%b:%d" % (kind.encode(), number), chance)
        names += 1
        if len(step) >= _STEP:
            yield names, step
            names, step = 0, []
    yield names, step


def _known(router: Router, kind: str) -> bool:
    """Tell whether the server has this kind; only fields that expire are young."""
    if kind != "hash-field-ttl":
        return True
    reply = router.execute([(key_slot(b"none"), ("HPEXPIRE", "none", 1, "FIELDS", 1, "f"))]).values[0]
    return not isinstance(reply, ReplyError)


def load_function(router: Router) -> None:
    """Load a small function library on every primary; nothing happens on servers without functions."""
    if router.target.mode is Mode.ENTERPRISE:
        return
    for shard in router.topology.shards:
        if shard.primary:
            router.wire(shard.primary.address).pipeline([("FUNCTION", "LOAD", "REPLACE", FUNCTION_LIBRARY)])


def wipe(router: Router) -> None:
    """Delete every key and every function of every primary."""
    for shard in router.topology.shards:
        if shard.primary:
            router.wire(shard.primary.address).pipeline([("FLUSHALL",), ("FUNCTION", "FLUSH")])
