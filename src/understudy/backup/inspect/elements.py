"""The elements of lists, sets, hashes, sorted sets and streams of a server: of many small ones at once, or in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.valkey.wire import Command, ReplyError, Wire

_SMALL = 100
_PAGES = (100, 1_000, 10_000)  # elements asked for at once, more each time
_MOST_PENDING = 100
_STEP = 64  # small keys read at once
_LENGTH = {"list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}
KINDS = frozenset(_LENGTH)


@dataclass
class Pages:
    """The elements of one key: values, or pairs of field and value, member and score, id and fields."""

    wire: Wire
    kind: str
    name: bytes
    length: int
    first: list[Any] | None = None  # all there is, where it was read already

    def __iter__(self) -> Iterator[Any]:
        if self.first is not None:
            yield from _paired(self.kind, self.first)
        elif self.kind in ("set", "hash"):
            yield from self._scanned("SSCAN" if self.kind == "set" else "HSCAN")
        elif self.kind == "stream":
            yield from self._entries()
        else:
            at = 0
            for page in _sizes():
                row = self.wire.call(*_range(self.kind, self.name, at, at + page - 1))
                yield from _paired(self.kind, row)
                at += page
                if at >= self.length:
                    return

    def _scanned(self, command: str) -> Iterator[Any]:
        cursor = b"0"
        seen: set[bytes] = set()  # SCAN may return an element twice, though nothing changes here
        for page in _sizes():
            cursor, row = self.wire.call(command, self.name, cursor, "COUNT", page)
            for one in _paired(self.kind, row):
                name = one if self.kind == "set" else one[0]
                if name not in seen:
                    seen.add(name)
                    yield one
            if cursor == b"0":
                return

    def _entries(self) -> Iterator[Any]:
        start = b"-"
        for page in _sizes():
            row = self.wire.call("XRANGE", self.name, start, "+", "COUNT", page)
            yield from row
            if len(row) < page:
                return
            start = b"(" + row[-1][0]


def _sizes() -> Iterator[int]:
    yield from _PAGES
    while True:
        yield _PAGES[-1]


def _range(kind: str, name: bytes, start: int, end: int) -> Command:
    if kind == "zset":
        return ("ZRANGE", name, start, end, "WITHSCORES")
    return ("LRANGE", name, start, end)


def _whole(kind: str, name: bytes) -> Command:
    if kind == "set":
        return ("SMEMBERS", name)
    if kind == "hash":
        return ("HGETALL", name)
    if kind == "stream":
        return ("XRANGE", name, "-", "+")
    return _range(kind, name, 0, -1)


def _paired(kind: str, row: list[Any]) -> Iterable[Any]:
    return zip(row[::2], row[1::2], strict=True) if kind in ("hash", "zset") else row


def of(wire: Wire, kind: str, names: Sequence[bytes]) -> Iterator[Pages]:
    """Yield the elements of these keys, all of one kind, in order."""
    for at in range(0, len(names), _STEP):
        some = names[at : at + _STEP]
        lengths = wire.pipeline([(_LENGTH[kind], name) for name in some])
        small = [name for name, length in zip(some, lengths, strict=True) if length <= _SMALL]
        read = dict(zip(small, wire.pipeline([_whole(kind, name) for name in small]), strict=True)) if small else {}
        for name, length in zip(some, lengths, strict=True):
            yield Pages(wire, kind, name, length, read.pop(name, None))


def field_expiries(
    wire: Wire, names: Sequence[bytes], fields: Sequence[Sequence[bytes]]
) -> list[list[tuple[bytes, int]]]:
    """Return for each hash which of these fields expire, and when, in milliseconds."""
    found: list[list[tuple[bytes, int]]] = []
    asked: list[Command] = []
    meant: list[tuple[int, Sequence[bytes]]] = []
    for number, (name, each) in enumerate(zip(names, fields, strict=True)):
        found.append([])
        for at in range(0, len(each), _PAGES[1]):
            some = each[at : at + _PAGES[1]]
            asked.append(("HPEXPIRETIME", name, "FIELDS", len(some), *some))
            meant.append((number, some))
    for (number, some), reply in zip(meant, wire.pipeline(asked) if asked else [], strict=True):
        if not isinstance(reply, ReplyError):  # a server that does not know them has refused what holds any
            found[number] += [(one, when) for one, when in zip(some, reply, strict=True) if when >= 0]
    return found


@dataclass(frozen=True)
class Group:
    """A consumer group of a stream. `pending` are the first of its pending entries."""

    name: bytes
    last_delivered: str
    consumers: Sequence[tuple[bytes, int]]
    pending: Sequence[Any]
    pending_in_all: int


def about_stream(wire: Wire, name: bytes) -> tuple[str, list[Group]]:
    """Return a stream's last id, and its groups."""
    last = _named(wire.call("XINFO", "STREAM", name))["last-generated-id"].decode()
    groups = []
    for one in map(_named, wire.call("XINFO", "GROUPS", name)):
        title, waiting = one["name"], one["pending"]
        pending = wire.call("XPENDING", name, title, "-", "+", _MOST_PENDING) if waiting else []
        consumers = map(_named, wire.call("XINFO", "CONSUMERS", name, title))
        told = [(each["name"], each["pending"]) for each in consumers]
        groups.append(Group(title, one["last-delivered-id"].decode(), told, pending, waiting))
    return last, groups


def _named(reply: Sequence[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
