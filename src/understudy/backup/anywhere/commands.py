"""The commands that build a value of moderate size anew, lossless where the target has a place for it.

Big ones are built by `valkey/slices`, a slice at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from understudy.backup.anywhere.values import Value, fields
from understudy.valkey.abilities import Abilities
from understudy.valkey.wire import Command

_MOST_WORDS = 4000  # a script unpacks at most 8,000
PAD = b"understudy:" + b"-" * 65_525  # longer than any zset-max-listpack-value: a set with it becomes a skip list
_NEGATIVE_ZERO = b"-0"
_NOTHING = b"0-0"


def commands_of(value: Value, key: bytes, able: Abilities, *, groups: bool, now_ms: int) -> list[Command]:
    """Return the commands that build the value under `key`, where nothing is; none where all of it has expired.

    `able` is who takes them; what it has no command for is left out. `groups`: whether consumer groups are wanted.
    """
    reply = value.reply
    if value.kind == "string":
        return [("SET", key, reply)]
    if value.kind == "list":
        return list(_several("RPUSH", key, reply))
    if value.kind == "set":
        return list(_several("SADD", key, reply))
    if value.kind == "zset":
        return list(_zset(key, reply))
    if value.kind == "hash":
        return list(_hash(key, value, able, now_ms))
    return list(_stream(key, value, able, groups))


def _several(word: str, key: bytes, elements: Sequence[bytes]) -> Iterator[Command]:
    for start in range(0, len(elements), _MOST_WORDS):
        yield (word, key, *elements[start : start + _MOST_WORDS])


def _zset(key: bytes, reply: Sequence[bytes]) -> Iterator[Command]:
    """A listpack takes -0 for 0, a skip list does not: a long member, which goes again, makes one of it."""
    flat = list(chain.from_iterable(zip(reply[1::2], reply[::2], strict=True)))
    signed = _NEGATIVE_ZERO in reply[1::2]
    if signed:
        yield ("ZADD", key, 0, PAD)
    yield from _several("ZADD", key, flat)
    if signed and PAD not in reply[::2]:
        yield ("ZREM", key, PAD)


def _hash(key: bytes, value: Value, able: Abilities, now_ms: int) -> Iterator[Command]:
    words = value.reply
    if not value.expiries:
        yield from _several("HSET", key, words)
        return
    over = {word for word, at in value.expiries.items() if at <= now_ms}
    if over:
        pairs = zip(words[::2], words[1::2], strict=True)
        words = list(chain.from_iterable(pair for pair in pairs if pair[0] not in over))
    yield from _several("HSET", key, words)
    if able.field_expiries:
        by_time: dict[int, list[bytes]] = {}
        for word, at in value.expiries.items():
            if word not in over:
                by_time.setdefault(at, []).append(word)
        for at, those in by_time.items():
            for start in range(0, len(those), _MOST_WORDS):
                some = those[start : start + _MOST_WORDS]
                yield ("HPEXPIREAT", key, at, "FIELDS", len(some), *some)


Id = tuple[int, int]


def _id(text: bytes) -> Id:
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence)


def _stream(key: bytes, value: Value, able: Abilities, groups: bool) -> Iterator[Command]:
    """Entries first, then the counters, then groups, which look at both.

    Nobody may claim what is not there: entries that are pending, but were deleted, come before everything else, are
    claimed, and go again by trimming, which unlike XDEL leaves max-deleted-entry-id alone. Then the stream begins anew.
    """
    about = value.stream
    wanted = value.groups if groups else []
    here = {entry for entry, _ in about[b"entries"]}
    gone = sorted({row[0] for group in wanted for row in group[b"pending"]} - here, key=_id)
    if gone or not here:
        for entry in gone or (b"0-1",):
            yield ("XADD", key, entry, "-", "-")
        for group in wanted if gone else ():
            yield ("XGROUP", "CREATE", key, group[b"name"], _NOTHING)
            yield from _claims(key, group, (row for row in group[b"pending"] if row[0] not in here))
        yield ("XTRIM", key, "MAXLEN", 0)
        yield ("XSETID", key, _NOTHING)
    for entry, words in about[b"entries"]:
        yield ("XADD", key, entry, *words)
    last = about[b"last-generated-id"]
    if able.stream_counters:
        added, deleted = about.get(b"entries-added", len(here)), about.get(b"max-deleted-entry-id", _NOTHING)
        yield ("XSETID", key, last, "ENTRIESADDED", added, "MAXDELETEDID", deleted)
    else:
        yield ("XSETID", key, last)
    for group in wanted:
        name, delivered = group[b"name"], group[b"last-delivered-id"]
        read = group.get(b"entries-read")
        counted = ("ENTRIESREAD", read) if able.stream_counters and read is not None else ()
        yield ("XGROUP", "SETID" if gone else "CREATE", key, name, delivered, *counted)
        for consumer in group[b"consumers"]:
            yield ("XGROUP", "CREATECONSUMER", key, name, fields(consumer)[b"name"])
        yield from _claims(key, group, (row for row in group[b"pending"] if row[0] in here))


def _claims(key: bytes, group: dict[bytes, Any], rows: Iterable[Sequence[Any]]) -> Iterator[Command]:
    for entry, consumer, delivered_ms, deliveries in rows:
        yield (
            "XCLAIM", key, group[b"name"], consumer, 0, entry, "TIME", delivered_ms, "RETRYCOUNT", deliveries,
            "FORCE", "JUSTID",
        )  # fmt: skip
