"""Read a stream of any size as commands: entries, ids and counters, groups, consumers and pending entries.

Entries and the pending entries of every group are merged by id. An entry that is pending but was deleted is made,
claimed and deleted again in its place, because nobody may claim what is not there. Deleting sets the newest deleted id,
which can be set to any id afterwards, but not to none: where there is none, such entries are made before all others,
claimed, and trimmed away, and the stream begins anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

from understudy.valkey.slices.commands import Newest, takes
from understudy.valkey.slices.pages import Pages
from understudy.valkey.wire import Command, Reply, ReplyError, Wire, error_for

Id = tuple[int, int]
_PENDING_AT_ONCE = 1000
_LOOKED_FOR_AT_ONCE = 16  # each answer is a whole entry
_PLACEHOLDER = (b"-", b"-")
_NAME = b"understudy"
_NO_ID = b"0-0"


class Pending(NamedTuple):
    """An entry that a consumer was given and has not acknowledged; when it was, in milliseconds since 1970."""

    id: Id
    group: bytes
    consumer: bytes
    delivered_ms: int
    deliveries: int


def read_stream(wire: Wire, key: bytes, slice_bytes: int, newest: Newest | None) -> Iterator[Command]:
    """Yield the commands that build a stream; see `read`."""
    if not wire.call("EXISTS", key):
        return
    about = _about(wire, key)
    groups = [_fields(group) for group in about[b"groups"]]
    for group in groups:
        yield (b"XGROUP", b"CREATE", key, group[b"name"], _NO_ID, b"MKSTREAM")
        for consumer in group[b"consumers"]:
            yield (b"XGROUP", b"CREATECONSUMER", key, group[b"name"], _fields(consumer)[b"name"])
    if not groups and not about[b"length"]:
        yield (b"XGROUP", b"CREATE", key, _NAME, _NO_ID, b"MKSTREAM")
        yield (b"XGROUP", b"DESTROY", key, _NAME)
    first = about.get(b"max-deleted-entry-id", _NO_ID) == _NO_ID
    if first:
        yield from _gone_first(wire, key, heapq.merge(*(pending(wire, key, group) for group in groups)))
    waiting = heapq.merge(*(pending(wire, key, group) for group in groups))
    yield from _entries(wire, key, slice_bytes, waiting, gone_are_made=first)
    yield from _counters(key, about, groups, takes(newest, "stream counters"))


def _counters(key: bytes, about: dict[bytes, Any], groups: list[dict[bytes, Any]], counters: bool) -> Iterator[Command]:
    last = about[b"last-generated-id"]
    if counters:
        added = about.get(b"entries-added", about[b"length"])  # a server before 7.0 does not count them
        deleted = about.get(b"max-deleted-entry-id", _NO_ID)
        yield (b"XSETID", key, last, b"ENTRIESADDED", b"%d" % added, b"MAXDELETEDID", deleted)
    else:
        yield (b"XSETID", key, last)
    for group in groups:
        command: tuple[bytes, ...] = (b"XGROUP", b"SETID", key, group[b"name"], group[b"last-delivered-id"])
        if counters and (entries_read := group.get(b"entries-read")) is not None:
            command += (b"ENTRIESREAD", b"%d" % entries_read)
        yield command


def _gone_first(wire: Wire, key: bytes, waiting: Iterator[Pending]) -> Iterator[Command]:
    """Make the entries that are pending but were deleted, for those who have them, and trim them away."""
    by_id = ((entry, list(rows)) for entry, rows in groupby(waiting, key=lambda one: one.id))
    made = False
    while some := list(islice(by_id, _LOOKED_FOR_AT_ONCE)):
        words = [b"%d-%d" % entry for entry, _ in some]
        replies = wire.pipeline([("XRANGE", key, word, word) for word in words])
        for word, (_, rows), reply in zip(words, some, replies, strict=True):
            if isinstance(reply, ReplyError):
                raise error_for(wire.address, ("XRANGE",), reply)
            if not reply:
                made = True
                yield (b"XADD", key, word, *_PLACEHOLDER)
                for one in rows:
                    yield _claim(key, one)
    if made:
        yield (b"XTRIM", key, b"MAXLEN", b"0")
        yield (b"XSETID", key, _NO_ID)


def _entries(
    wire: Wire, key: bytes, slice_bytes: int, waiting: Iterator[Pending], *, gone_are_made: bool
) -> Iterator[Command]:
    """Yield entries in order, each with who has it pending; `waiting` is asked for more between two pages only."""
    next_one = next(waiting, None)
    made = False  # whether a real entry is there already
    for entry, words in _pages(wire, key, slice_bytes):
        while next_one and next_one.id < entry:
            next_one = next(waiting, None) if gone_are_made else (yield from _deleted(key, next_one, waiting, made))
        yield (b"XADD", key, b"%d-%d" % entry, *words)
        made = True
        while next_one and next_one.id == entry:
            yield _claim(key, next_one)
            next_one = next(waiting, None)
    while next_one and not gone_are_made:
        next_one = yield from _deleted(key, next_one, waiting, made)


def _deleted(
    key: bytes, one: Pending, waiting: Iterator[Pending], made: bool
) -> Generator[Command, None, Pending | None]:
    """Make an entry that was deleted, for those who have it pending, and delete it again."""
    entry = one.id
    yield (b"XADD", key, b"%d-%d" % entry, *_PLACEHOLDER)
    next_one: Pending | None = one
    while next_one and next_one.id == entry:
        yield _claim(key, next_one)
        next_one = next(waiting, None)
    # trimming leaves the newest deleted id as it is, but takes everything that stands before
    yield (b"XDEL", key, b"%d-%d" % entry) if made else (b"XTRIM", key, b"MAXLEN", b"0")
    return next_one


def _claim(key: bytes, one: Pending) -> Command:
    return (
        b"XCLAIM", key, one.group, one.consumer, b"0", b"%d-%d" % one.id, b"TIME", b"%d" % one.delivered_ms,
        b"RETRYCOUNT", b"%d" % one.deliveries, b"FORCE", b"JUSTID",
    )  # fmt: skip


def _pages(wire: Wire, key: bytes, slice_bytes: int) -> Iterator[tuple[Id, list[bytes]]]:
    """Yield entries. A page is read to its end before the first: in between, the connection is free for others."""
    pages = Pages(wire, slice_bytes)
    start = b"-"
    while True:
        page: list[tuple[Id, list[bytes]]] = []
        size = got = 0
        for reply in wire.elements("XRANGE", key, start, "+", "COUNT", pages.count):
            got += 1
            if page and size > slice_bytes:
                continue  # asked for too many: what is left out now is the next page's
            page.append((_id(reply[0]), reply[1]))
            size += sum(len(word) + 8 for word in reply[1])
        if not page:
            return
        pages.adapt(len(page), size)
        start = b"(%d-%d" % page[-1][0]
        yield from page


def pending(wire: Wire, key: bytes, group: dict[bytes, Any]) -> Iterator[Pending]:
    """Yield a group's pending entries by id; `group` is its part of XINFO STREAM FULL.

    XPENDING says how long ago each was delivered, by the server's clock at that moment. One whose time is known
    tells what the clock said: the first from XINFO, and the last of a page begins the next page.
    """
    if not group[b"pending"]:
        return
    first = group[b"pending"][0]
    known, delivered_ms = _id(first[0]), int(first[2])
    start = first[0]
    while True:
        page = wire.call("XPENDING", key, group[b"name"], start, "+", _PENDING_AT_ONCE)
        if not page:
            return
        now_ms = delivered_ms + page[0][2]
        rows = [Pending(_id(row[0]), group[b"name"], row[1], now_ms - row[2], row[3]) for row in page]
        yield from rows[rows[0].id == known and start != first[0] :]
        if len(page) < _PENDING_AT_ONCE:
            return
        known, delivered_ms, start = rows[-1].id, rows[-1].delivered_ms, page[-1][0]


def _about(wire: Wire, key: bytes) -> dict[bytes, Any]:
    return _fields(wire.call("XINFO", "STREAM", key, "FULL", "COUNT", 1))


def _fields(reply: Reply) -> dict[bytes, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _id(text: bytes) -> Id:
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence)


def state(wire: Wire, key: bytes) -> int:
    """Return a number for everything that consumers change in a stream.

    WATCH does not notice when entries are delivered, claimed or acknowledged: who reads a stream that is in use
    compares this from before and after.
    """
    if not wire.call("EXISTS", key):
        return 0
    about = _about(wire, key)
    groups = [_fields(group) for group in about[b"groups"]]
    seen = hash((about[b"last-generated-id"], about[b"length"]))
    for group in groups:
        names = tuple(_fields(consumer)[b"name"] for consumer in group[b"consumers"])
        seen = hash((seen, group[b"name"], group[b"last-delivered-id"], group.get(b"entries-read"), names))
        for one in pending(wire, key, group):
            seen = hash((seen, one))
    return seen
