"""Read a value of any size as commands that build it again, a bounded batch at a time.

What is held is about a slice and one element. The value must stand still meanwhile: in a frozen copy, or watched by
the caller. Lists and sorted sets are read by position, strings by offset, streams by id. A set or a hash is scanned:
an element may come twice, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from understudy.errors import IncompleteError
from understudy.valkey.slices.commands import Newest, batched, grouped, takes
from understudy.valkey.slices.pages import Pages
from understudy.valkey.slices.streams import read_stream
from understudy.valkey.wire import Command, ReplyError, Wire, error_for

_FIELDS_AT_ONCE = 1000


def read(
    wire: Wire, key: bytes, kind: str, *, slice_bytes: int, newest: Newest | None = None
) -> Iterator[list[Command]]:
    """Yield batches of commands that, run in order, build this key's value where no key of its name is.

    `kind` is what TYPE says. A batch has about `slice_bytes`; where one element has more, that element. `newest` is
    the server that is to take the commands: what it has no command for is left out (None: it has all of them). The
    key stands in each command (`named` puts another there). Expiry of the key itself is not among them. A key that
    does not exist gives no batch.

    Raises:
        IncompleteError: there are no commands for this type: a module's.
        ServerSaidError: the key is of another type, or the user may not read it.
        UnreachableError: the connection broke; begin this key anew.
    """
    if kind not in _READERS:
        raise IncompleteError(
            f"reading the key {key[:200]!r} in slices", f"there are no commands that build a value of type {kind}",
            "Raise BACKUP_SLICE_BYTES: it is read in one piece then; or leave it out with --match.",
        )  # fmt: skip
    return batched(_READERS[kind](wire, key, slice_bytes, newest), slice_bytes)


def _string(wire: Wire, key: bytes, slice_bytes: int, _: Newest | None) -> Iterator[Command]:
    at = 0
    while data := wire.call("GETRANGE", key, at, at + slice_bytes - 1):
        yield (b"APPEND" if at else b"SET", key, data)
        at += len(data)
        if len(data) < slice_bytes:
            return
    if not at and wire.call("EXISTS", key):
        yield (b"SET", key, b"")


def _list(wire: Wire, key: bytes, slice_bytes: int, _: Newest | None) -> Iterator[Command]:
    pages = Pages(wire, slice_bytes)

    def elements() -> Iterator[bytes]:
        at = 0
        while True:
            yield from pages.elements("LRANGE", key, at, at + pages.count - 1)
            at += pages.got
            if not pages.got:
                return

    yield from grouped((b"RPUSH", key), elements(), slice_bytes)


def _zset(wire: Wire, key: bytes, slice_bytes: int, _: Newest | None) -> Iterator[Command]:
    pages = Pages(wire, slice_bytes, 2)

    def elements() -> Iterator[bytes]:
        at = 0
        while True:
            pairs = pages.elements("ZRANGE", key, at, at + pages.count - 1, "WITHSCORES")
            for member in pairs:
                yield from (next(pairs), member)
            at += pages.got // 2
            if not pages.got:
                return

    yield from grouped((b"ZADD", key), elements(), slice_bytes, 2)


def _set(wire: Wire, key: bytes, slice_bytes: int, _: Newest | None) -> Iterator[Command]:
    pages = Pages(wire, slice_bytes)

    def elements() -> Iterator[bytes]:
        cursor = b"0"
        while True:
            yield from pages.scanned("SSCAN", key, cursor, "COUNT", pages.count)
            cursor = pages.cursor
            if cursor == b"0":
                return

    yield from grouped((b"SADD", key), elements(), slice_bytes)


def _hash(wire: Wire, key: bytes, slice_bytes: int, newest: Newest | None) -> Iterator[Command]:
    pages = Pages(wire, slice_bytes, 2)
    with_expiry = takes(newest, "field expiry")
    cursor = b"0"
    while True:
        fields: list[bytes] = []
        elements = _noting(pages.scanned("HSCAN", key, cursor, "COUNT", pages.count), fields)
        yield from grouped((b"HSET", key), elements, slice_bytes, 2)
        for start in range(0, len(fields) if with_expiry else 0, _FIELDS_AT_ONCE):
            expiries = _expiries(wire, key, fields[start : start + _FIELDS_AT_ONCE])
            if expiries is None:
                with_expiry = False
                break
            for expiry, those in expiries.items():
                yield (b"HPEXPIREAT", key, b"%d" % expiry, b"FIELDS", b"%d" % len(those), *those)
        cursor = pages.cursor
        if cursor == b"0":
            return


def _noting(elements: Iterator[bytes], fields: list[bytes]) -> Iterator[bytes]:
    """Yield fields and values in turn, and note the fields."""
    for field in elements:
        fields.append(field)
        yield field
        yield next(elements)


def _expiries(wire: Wire, key: bytes, fields: list[bytes]) -> dict[int, list[bytes]] | None:
    """Return the fields that expire, by when; None where the server does not know such a thing."""
    reply = wire.pipeline([("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)])[0]
    if isinstance(reply, ReplyError):
        if "unknown command" in str(reply) or "unsupported command" in str(reply):
            return None
        raise error_for(wire.address, ("HPEXPIRETIME",), reply)
    found: dict[int, list[bytes]] = {}
    for field, expiry in zip(fields, reply or (), strict=False):
        if expiry >= 0:
            found.setdefault(expiry, []).append(field)
    return found


_READERS: dict[str, Callable[[Wire, bytes, int, Newest | None], Iterator[Command]]] = {
    "string": _string,
    "list": _list,
    "set": _set,
    "zset": _zset,
    "hash": _hash,
    "stream": read_stream,
}
KINDS = frozenset(_READERS)
