"""Values in readable form: a scratch server decodes each payload, and is asked for so much of it as is wanted.

A payload is put there with RESTORE; what its type's own commands say is the value. Nothing of the format is known here.
"""

from __future__ import annotations

import functools
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.backup.inspect import elements
from understudy.backup.inspect.names import chosen
from understudy.backup.record import Records
from understudy.valkey.wire import Wire

MOST_BYTES = 64 << 10
_STEP_KEYS, _STEP_BYTES = 256, 4 << 20


@dataclass
class Readable:
    """A value as JSON can hold it. `length` counts bytes of a string and elements of everything else.

    `truncated` tells that `value` is only the beginning; `more` are fields beside it, as a hash's expiries; `error`
    says why there is no value.
    """

    value: Any = None
    length: int | None = None
    truncated: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def as_data(self) -> dict[str, Any]:
        """Return the fields of a line."""
        told: dict[str, Any] = {"value": self.value, "length": self.length, **self.more}
        if self.truncated:
            told["truncated"] = True
        if self.error is not None:
            told["error"] = self.error
        return told


def text(data: bytes) -> Any:
    """Return bytes as text, or as `{"base64": …}` where they are no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b2a_base64(data, newline=False).decode()}


class Room:
    """How many bytes of a value may still be told, None: all. `cut` says that not all was."""

    def __init__(self, most: int | None) -> None:
        self.left = most
        self.cut = False

    @property
    def over(self) -> bool:
        """Tell whether there is none left."""
        return self.left is not None and self.left <= 0

    def take(self, data: bytes) -> Any:
        """Return the bytes as text, as many as there is room for."""
        if self.left is None:
            return text(data)
        if len(data) > self.left:
            data, self.cut = whole(data[: max(self.left, 0)]), True
            self.left = 0
        else:
            self.left -= len(data)
        return text(data)


def whole(data: bytes) -> bytes:
    """Return a text without the character at its end that was cut through; of other bytes all."""
    for drop in range(min(4, len(data) + 1)):
        try:
            data[: len(data) - drop].decode()
        except UnicodeDecodeError:
            continue
        return data[: len(data) - drop]
    return data


class Decoder:
    """Reads values through a connection to a server whose database 0 is ours: what stands there is removed.

    `most_bytes` of a value are told; None: all of it. `connect` is called when the first value is read.
    """

    def __init__(self, connect: Callable[[], Wire], most_bytes: int | None = MOST_BYTES) -> None:
        self._connect, self.most_bytes = connect, most_bytes

    @functools.cached_property
    def wire(self) -> Wire:
        """Return the connection."""
        return self._connect()

    def read(self, records: Records) -> Iterator[tuple[Records, list[Readable]]]:
        """Yield the records in steps, with their values."""
        at = 0
        while at < len(records.keys):
            end, size = at, 0
            while end < len(records.keys) and end - at < _STEP_KEYS and (end == at or size < _STEP_BYTES):
                size += len(records.payloads[end])
                end += 1
            step = chosen(records, range(at, end))
            yield step, self._step(step)
            at = end

    def _step(self, step: Records) -> list[Readable]:
        names = [b"%d" % at for at in range(len(step.keys))]
        replies = self.wire.pipeline(
            [("RESTORE", name, 0, payload, "REPLACE") for name, payload in zip(names, step.payloads, strict=True)]
        )
        found = [Readable(error=f"the server cannot decode it: {reply}") for reply in replies]
        for kind in dict.fromkeys(step.types):
            meant = [at for at in range(len(names)) if step.types[at] == kind and replies[at] == b"OK"]
            for at, value in zip(meant, self.values(kind, [names[at] for at in meant]), strict=True):
                found[at] = value
        self.wire.pipeline([("FLUSHDB",)])
        return found

    def values(self, kind: str, names: Sequence[bytes]) -> list[Readable]:
        """Return the values of keys of one type that stand in the server's database."""
        if kind == "string":
            return self._strings(names)
        if kind == "hash":
            return self._hashes(names)
        if kind not in elements.KINDS:
            return [Readable(error=f"values of type {kind} cannot be shown") for _ in names]
        found = []
        for pages in elements.of(self.wire, kind, names):
            room = Room(self.most_bytes)
            found.append(Readable(READ[kind](pages, room), pages.length, room.cut))
        return found

    def _strings(self, names: Sequence[bytes]) -> list[Readable]:
        end = -1 if self.most_bytes is None else max(self.most_bytes, 1) - 1
        values = self.wire.pipeline([("GETRANGE", name, 0, end) for name in names])
        found = []
        for value, length in zip(values, self.wire.pipeline([("STRLEN", name) for name in names]), strict=True):
            cut = len(value) < length
            found.append(Readable(text(whole(value) if cut else value), length, cut))
        return found

    def _hashes(self, names: Sequence[bytes]) -> list[Readable]:
        found: list[Readable] = []
        read: list[list[tuple[bytes, Any]]] = []
        for pages in elements.of(self.wire, "hash", names):
            room = Room(self.most_bytes)
            pairs = []
            for key, value in pages:
                if room.over:
                    break
                if room.left is not None:
                    room.left -= len(key)
                pairs.append((key, room.take(value)))
            found.append(Readable(None, pages.length, room.cut or len(pairs) < pages.length))
            read.append(sorted(pairs, key=lambda pair: pair[0]))
        expiries = elements.field_expiries(self.wire, names, [[key for key, _ in pairs] for pairs in read])
        for one, pairs, times in zip(found, read, expiries, strict=True):
            try:
                one.value = {key.decode(): value for key, value in pairs}
                named: Any = {key.decode(): at for key, at in times}
            except UnicodeDecodeError:  # no names for an object: an array of pairs says the same
                one.value = [[text(key), value] for key, value in pairs]
                named = [[text(key), at] for key, at in times]
            if times:
                one.more["field_expire_at_ms"] = named
        return found


def _list(pages: elements.Pages, room: Room) -> list[Any]:
    found = []
    for item in pages:
        if room.over:
            break
        found.append(room.take(item))
    room.cut |= len(found) < pages.length
    return found


def _set(pages: elements.Pages, room: Room) -> list[Any]:
    members: list[bytes] = []
    size = 0
    for member in pages:
        if room.left is not None and size >= room.left:
            break
        members.append(member)
        size += len(member)
    room.cut |= len(members) < pages.length
    return [room.take(member) for member in sorted(members)]


def _zset(pages: elements.Pages, room: Room) -> list[Any]:
    found: list[Any] = []
    for member, score in pages:
        if room.over:
            break
        found.append([room.take(member), number(score)])
    room.cut |= len(found) < pages.length
    return found


def number(score: bytes) -> float | int | str:
    """Return a score as a number of JSON; infinity, for which JSON has none, as the server writes it."""
    value = float(score)
    if value in (float("inf"), float("-inf")):
        return score.decode()
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def _stream(pages: elements.Pages, room: Room) -> Any:
    entries: list[Any] = []
    for entry, fields in pages:
        if room.over:
            break
        pairs = zip(fields[::2], fields[1::2], strict=True)
        entries.append({"id": entry.decode(), "fields": [[room.take(one), room.take(two)] for one, two in pairs]})
    room.cut |= len(entries) < pages.length
    last, groups = elements.about_stream(pages.wire, pages.name)
    return {
        "last_id": last,
        "entries": entries,
        "groups": [
            {
                "name": text(one.name),
                "last_delivered_id": one.last_delivered,
                "consumers": [{"name": text(name), "pending": pending} for name, pending in one.consumers],
                "pending": [
                    {"id": entry.decode(), "consumer": text(consumer), "deliveries": times}
                    for entry, consumer, _, times in one.pending
                ],
                **({"pending_in_all": one.pending_in_all} if one.pending_in_all > len(one.pending) else {}),
            }
            for one in groups
        ],
    }


READ = {"list": _list, "set": _set, "zset": _zset, "stream": _stream}
