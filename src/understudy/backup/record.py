"""One key of a backup set as one line of JSON, and back; a block of lines at a time, for speed.

The line is specified in docs/backup-set.md.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import orjson

from understudy.errors import IntegrityError
from understudy.valkey.dump import Dumped
from understudy.valkey.payload import FOOTER_BYTES, TYPE_NAMES

_PLAIN = re.compile(rb"[ !#-\[\]-~]*")  # printable ASCII that JSON does not escape
_TYPE_BYTES = tuple(name.encode() for name in TYPE_NAMES)
BLOCK_BYTES = 1 << 19
_MOST_IDLE_S, _MOST_FREQ = 1 << 53, 255
MOST_LINE_BYTES = 2 << 30  # a payload of 1.5 GB; servers take 512 MB unless told otherwise


@dataclass(frozen=True)
class Records:
    """Keys, databases, types, absolute expiries in milliseconds (None: never) and DUMP payloads, side by side.

    `idle_s` and `freq`, where any line has them, are how long a key had not been used, in seconds, and how often it
    was used, as the server's own counter from 0 to 255.
    """

    keys: list[bytes]
    dbs: list[int]
    types: list[str]
    expire_at_ms: list[int | None]
    payloads: list[bytes]
    idle_s: list[int | None] | None = None
    freq: list[int | None] | None = None

    def part(self, start: int, end: int) -> Records:
        """Return those from `start` up to `end`."""
        if start == 0 and end == len(self.keys):
            return self
        return self._made(lambda column: column[start:end])

    def only(self, places: Sequence[int]) -> Records:
        """Return those at these places."""
        if len(places) == len(self.keys):
            return self
        return self._made(lambda column: [column[at] for at in places])

    def matching(self, pattern: re.Pattern[bytes]) -> Records:
        """Return those whose key matches."""
        return self.only([at for at, key in enumerate(self.keys) if pattern.fullmatch(key)])

    def _made(self, some: Callable[[list[Any]], list[Any]]) -> Records:
        columns: tuple[list[Any], ...] = (self.keys, self.dbs, self.types, self.expire_at_ms, self.payloads)
        ranks = (some(column) if column is not None else None for column in (self.idle_s, self.freq))
        return Records(*map(some, columns), *ranks)


def encode(dumped: Dumped, db: int) -> list[bytes]:
    """Return one line for each key, newline included."""
    database = b"%d" % db
    names = dumped.keys
    if _PLAIN.fullmatch(b"".join(names)):
        fields = [b'"key":"%b"' % name for name in names]
    else:
        fields = [_key_field(name) for name in names]
    if dumped.ranks is not None:
        return _encode_ranked(dumped, fields, database)
    return [
        b'{%b,"db":%b,"type":"%b","expire_at_ms":%b,"dump":"%b"}\n'
        % (
            field,
            database,
            _TYPE_BYTES[payload[0]],
            b"null" if expiry < 0 else b"%d" % expiry,
            b2a_base64(payload, newline=False),
        )
        for field, payload, expiry in zip(fields, dumped.payloads, dumped.expiries_ms, strict=True)
    ]


def _encode_ranked(dumped: Dumped, fields: list[bytes], database: bytes) -> list[bytes]:
    line = b'{%%b,"db":%b,"type":"%%b","expire_at_ms":%%b,"%b":%%d,"dump":"%%b"}\n' % (
        database, b"freq" if dumped.by_use else b"idle_s",
    )  # fmt: skip
    return [
        line
        % (
            field,
            _TYPE_BYTES[payload[0]],
            b"null" if expiry < 0 else b"%d" % expiry,
            rank,
            b2a_base64(payload, newline=False),
        )
        for field, payload, expiry, rank in zip(
            fields, dumped.payloads, dumped.expiries_ms, dumped.ranks or (), strict=True
        )
    ]


def _key_field(name: bytes) -> bytes:
    try:
        return b'"key":' + orjson.dumps(name.decode())
    except UnicodeDecodeError:
        return b'"key_b64":"' + b2a_base64(name, newline=False) + b'"'


def decode(block: bytes, where: str) -> Records:
    """Return the keys that stand in a block of whole lines; `where` names the block in an error.

    Raises:
        IntegrityError: a line is not a whole, well-formed record.
    """
    records = _decode_ours(block) or _decode_any(block, where)
    _check(records, where)
    return records


_NUMBER = re.compile(rb":(\d{1,18}),")
_NEVER = b":null,"
_TYPE_TEXTS = {name.encode(): name for name in set(TYPE_NAMES)}
# what stands between the quotes of a line that we wrote: so many pieces a line, of which these never change
_FIXED = {1: b"key", 2: b":", 4: b",", 5: b"db", 7: b"type", 8: b":", 10: b",", 11: b"expire_at_ms"}
_PLAIN_LINE = (16, {**_FIXED, 13: b"dump", 14: b":"})
_RANKED_LINES = (
    ("idle_s", (18, {**_FIXED, 13: b"idle_s", 15: b"dump", 16: b":"})),
    ("freq", (18, {**_FIXED, 13: b"freq", 15: b"dump", 16: b":"})),
)


def _decode_ours(block: bytes) -> Records | None:
    """Read lines that stand exactly as we write them, several times faster than as JSON; None where one does not."""
    if b"\\" in block:
        return None
    pieces = block.split(b'"')
    if _stand_as(pieces, *_PLAIN_LINE):
        return _from_pieces(pieces, _PLAIN_LINE[0])
    for name, shape in _RANKED_LINES:
        if _stand_as(pieces, *shape) and (records := _from_pieces(pieces, shape[0])):
            return _with_ranks(records, name, pieces[14 :: shape[0]])
    return None


def _stand_as(pieces: list[bytes], a_line: int, fixed: dict[int, bytes]) -> bool:
    """Tell whether the pieces are those of whole lines of this shape."""
    count = len(pieces) // a_line
    if len(pieces) != count * a_line + 1 or pieces[0] != b"{" or pieces[-1] != b"}\n":
        return False
    if pieces[a_line:-1:a_line].count(b"}\n{") != count - 1:
        return False
    return all(pieces[at::a_line].count(text) == count for at, text in fixed.items())


def _from_pieces(pieces: list[bytes], a_line: int) -> Records | None:
    """Return what the pieces hold; the payload is the last one of each line. None where a number is none."""
    count = len(pieces) // a_line
    try:
        numbers = {text: _NUMBER.fullmatch(text)[1] for text in set(pieces[6::a_line])}  # type: ignore[index]
        times = pieces[12::a_line]
        if times.count(_NEVER) != count:
            expiries = [None if at == _NEVER else int(_NUMBER.fullmatch(at)[1]) for at in times]  # type: ignore[index]
        else:
            expiries = [None] * count
        payloads = [a2b_base64(dump, strict_mode=True) for dump in pieces[a_line - 1 :: a_line]]
    except (TypeError, ValueError):
        return None
    dbs = [int(numbers[text]) for text in pieces[6::a_line]] if len(numbers) > 1 else [int(*numbers.values())] * count
    types = [_TYPE_TEXTS.get(name, "") for name in pieces[9::a_line]]
    return Records(pieces[3::a_line], dbs, types, expiries, payloads)


def _with_ranks(records: Records, name: str, texts: list[bytes]) -> Records | None:
    try:
        ranks: list[int | None] = [int(_NUMBER.fullmatch(text)[1]) for text in texts]  # type: ignore[index]
    except TypeError:
        return None
    return replace(records, idle_s=ranks) if name == "idle_s" else replace(records, freq=ranks)


def _decode_any(block: bytes, where: str) -> Records:
    """Read lines of any valid JSON."""
    try:
        # JSON has no raw newline inside a string: so many lines, so many records, read in one go
        rows: list[dict[str, Any]] = orjson.loads(b"[" + block.rstrip(b"\n").replace(b"\n", b",") + b"]")
        keys = [row["key"].encode() if "key" in row else _unbase64(row["key_b64"]) for row in rows]
        payloads = [_unbase64(row["dump"]) for row in rows]
        records = Records(
            keys, [row["db"] for row in rows], [row["type"] for row in rows], [row["expire_at_ms"] for row in rows],
            payloads, _optional(rows, "idle_s"), _optional(rows, "freq"),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(where, "a line is no record") from error
    if len(rows) != block.count(b"\n"):
        raise _damaged(where, "it does not end with a whole line")
    return records


def _optional(rows: list[dict[str, Any]], name: str) -> list[int | None] | None:
    found = [row.get(name) for row in rows]
    return None if found.count(None) == len(found) else found


def _unbase64(text: Any) -> bytes:
    return a2b_base64(text, strict_mode=True)


def _check(records: Records, where: str) -> None:
    if not set(map(type, records.dbs)) <= {int} or not all(0 <= db < 1 << 31 for db in set(records.dbs)):
        raise _damaged(where, "a database number is out of range")
    times = [at for at in records.expire_at_ms if at is not None]
    if times and (set(map(type, times)) != {int} or min(times) <= 0 or max(times) >= 1 << 63):
        raise _damaged(where, "an expiry is out of range")
    for ranks, most in ((records.idle_s, _MOST_IDLE_S), (records.freq, _MOST_FREQ)):
        if ranks and any(type(rank) is not int or not 0 <= rank <= most for rank in ranks if rank is not None):
            raise _damaged(where, "an idle time or a frequency is out of range")
    if any(len(payload) <= FOOTER_BYTES for payload in records.payloads):
        raise _damaged(where, "a payload is cut off")
    if [TYPE_NAMES[payload[0]] for payload in records.payloads] != records.types:
        raise _damaged(where, "a payload is not of the type that its line names")


def _damaged(where: str, why: str) -> IntegrityError:
    return IntegrityError(f"reading {where}", why, "Use another set: `understudy list` shows them.")


def read_blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield a part in blocks of whole lines of about `BLOCK_BYTES`; a longer line is a block of its own.

    Raises:
        IntegrityError: a line is longer than any value can be.
    """
    while block := file.read(BLOCK_BYTES):
        if not block.endswith(b"\n"):
            rest = file.readline(MOST_LINE_BYTES)
            if len(rest) == MOST_LINE_BYTES and not rest.endswith(b"\n"):
                raise _damaged(name, "a line is longer than any value can be")
            block += rest
        yield block
