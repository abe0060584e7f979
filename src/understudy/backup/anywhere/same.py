"""Compare two payloads as values: those of servers of different versions are never the same bytes."""

from __future__ import annotations

from typing import Any, Literal

from understudy.backup.anywhere.losses import CONSUMER_TIMES, FIELD_EXPIRY, STREAM_COUNTERS
from understudy.backup.anywhere.values import Value, fields, read_values
from understudy.valkey.payload import rdb_version
from understudy.valkey.wire import ReplyError, Wire

Likeness = Literal["same", "unheld", "differs"]
_NOT_HELD = {9: {FIELD_EXPIRY, STREAM_COUNTERS}, 10: {FIELD_EXPIRY}, 11: {FIELD_EXPIRY}}  # by RDB version


def compare(wire: Wire, recorded: bytes, found: bytes, now_ms: int) -> Likeness:
    """Tell whether two payloads are one value, are one but for what the server of the second cannot hold, or differ.

    Fields that have expired by `now_ms` may be there or not: the scratch server's connection must show them.
    """
    one, other = read_values(wire, [recorded, found])
    if isinstance(one, ReplyError) or isinstance(other, ReplyError) or one.kind != other.kind:
        return "differs"
    if _equal(one, other, frozenset(), now_ms):
        return "same"
    without = {CONSUMER_TIMES} | _NOT_HELD.get(rdb_version(found), set())
    return "unheld" if _equal(one, other, frozenset(without), now_ms) else "differs"


def same(wire: Wire, recorded: bytes, found: bytes, now_ms: int = 0) -> bool:
    """Tell whether what stands there is what was built of a payload."""
    return compare(wire, recorded, found, now_ms) != "differs"


def _equal(one: Value, other: Value, without: frozenset[str], now_ms: int) -> bool:
    if one.kind == "hash":
        return _hashes(one, other, FIELD_EXPIRY in without, now_ms)
    return bool(comparable(one, without) == comparable(other, without))


def comparable(value: Value, without: frozenset[str]) -> Any:
    """Return a value in a form in which the same is equal: what has no order is sorted."""
    if value.kind == "set":
        return sorted(value.reply)
    if value.kind == "stream":
        return _stream(value, without)
    if value.kind == "hash":
        return _pairs(value), value.expiries
    return value.reply


def _pairs(value: Value) -> dict[bytes, bytes]:
    return fields(value.reply)


def _hashes(one: Value, other: Value, no_expiries: bool, now_ms: int) -> bool:
    over = {word for value in (one, other) for word, at in value.expiries.items() if at <= now_ms}
    mine, theirs = ({word: data for word, data in _pairs(value).items() if word not in over} for value in (one, other))
    if no_expiries:
        return mine == theirs
    return mine == theirs and all(one.expiries.get(word) == other.expiries.get(word) for word in mine)


def _stream(value: Value, without: frozenset[str]) -> Any:
    about = value.stream
    named = [b"length", b"last-generated-id", b"entries"]
    if STREAM_COUNTERS not in without:
        named += [b"entries-added", b"max-deleted-entry-id"]
    return [about.get(name) for name in named], sorted(_group(group, without) for group in value.groups)


def _group(group: dict[bytes, Any], without: frozenset[str]) -> Any:
    read = None if STREAM_COUNTERS in without else group.get(b"entries-read")
    consumers = [fields(consumer) for consumer in group[b"consumers"]]
    times = (b"seen-time", b"active-time") if CONSUMER_TIMES not in without else ()
    rows = sorted((one[b"name"], [one.get(name) for name in times]) for one in consumers)
    return group[b"name"], group[b"last-delivered-id"], repr(read), group[b"pending"], rows
