"""One key of a backup set as one line of JSON, and back; a block of lines at a time, for speed.

The line is specified in docs/backup-set.md.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from understudy.errors import IntegrityError
from understudy.valkey.dump import Dumped
from understudy.valkey.payload import FOOTER_BYTES, TYPE_NAMES

_PLAIN = re.compile(rb"[ !#-\[\]-~]*")  # printable ASCII that JSON does not escape
_TYPE_BYTES = tuple(name.encode() for name in TYPE_NAMES)
BLOCK_BYTES = 1 << 19
MOST_LINE_BYTES = 2 << 30  # a payload of 1.5 GB; servers take 512 MB unless told otherwise


@dataclass(frozen=True)
class Records:
    """Keys, databases, types, absolute expiries in milliseconds (None: never) and DUMP payloads, side by side."""

    keys: list[bytes]
    dbs: list[int]
    types: list[str]
    expire_at_ms: list[int | None]
    payloads: list[bytes]


def encode(dumped: Dumped, db: int) -> list[bytes]:
    """Return one line for each key, newline included."""
    database = b"%d" % db
    names = dumped.keys
    if _PLAIN.fullmatch(b"".join(names)):
        fields = [b'"key":"%b"' % name for name in names]
    else:
        fields = [_key_field(name) for name in names]
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


# what stands between the quotes of a line that we wrote: sixteen pieces a line, at these places
_PIECES = 16
_NUMBER = re.compile(rb":(\d{1,18}),")
_NEVER = b":null,"
_TYPE_TEXTS = {name.encode(): name for name in set(TYPE_NAMES)}
_FIXED = {
    1: b"key",
    2: b":",
    4: b",",
    5: b"db",
    7: b"type",
    8: b":",
    10: b",",
    11: b"expire_at_ms",
    13: b"dump",
    14: b":",
}


def _decode_ours(block: bytes) -> Records | None:
    """Read lines that stand exactly as we write them, several times faster than as JSON; None where one does not."""
    if b"\\" in block:
        return None
    pieces = block.split(b'"')
    count = len(pieces) // _PIECES
    if len(pieces) != count * _PIECES + 1 or pieces[0] != b"{" or pieces[-1] != b"}\n":
        return None
    if pieces[_PIECES:-1:_PIECES].count(b"}\n{") != count - 1:
        return None
    if any(pieces[at::_PIECES].count(text) != count for at, text in _FIXED.items()):
        return None
    try:
        numbers = {text: _NUMBER.fullmatch(text)[1] for text in set(pieces[6::_PIECES])}  # type: ignore[index]
        times = pieces[12::_PIECES]
        if times.count(_NEVER) != count:
            expiries = [None if at == _NEVER else int(_NUMBER.fullmatch(at)[1]) for at in times]  # type: ignore[index]
        else:
            expiries = [None] * count
        payloads = [a2b_base64(dump, strict_mode=True) for dump in pieces[15::_PIECES]]
    except (TypeError, ValueError):
        return None
    dbs = [int(numbers[text]) for text in pieces[6::_PIECES]] if len(numbers) > 1 else [int(*numbers.values())] * count
    types = [_TYPE_TEXTS.get(name, "") for name in pieces[9::_PIECES]]
    return Records(pieces[3::_PIECES], dbs, types, expiries, payloads)


def _decode_any(block: bytes, where: str) -> Records:
    """Read lines of any valid JSON."""
    try:
        # JSON has no raw newline inside a string: so many lines, so many records, read in one go
        rows: list[dict[str, Any]] = orjson.loads(b"[" + block.rstrip(b"\n").replace(b"\n", b",") + b"]")
        keys = [row["key"].encode() if "key" in row else _unbase64(row["key_b64"]) for row in rows]
        payloads = [_unbase64(row["dump"]) for row in rows]
        records = Records(
            keys, [row["db"] for row in rows], [row["type"] for row in rows], [row["expire_at_ms"] for row in rows],
            payloads,
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(where, "a line is no record") from error
    if len(rows) != block.count(b"\n"):
        raise _damaged(where, "it does not end with a whole line")
    return records


def _unbase64(text: Any) -> bytes:
    return a2b_base64(text, strict_mode=True)


def _check(records: Records, where: str) -> None:
    if not set(map(type, records.dbs)) <= {int} or not all(0 <= db < 1 << 31 for db in set(records.dbs)):
        raise _damaged(where, "a database number is out of range")
    times = [at for at in records.expire_at_ms if at is not None]
    if times and (set(map(type, times)) != {int} or min(times) <= 0 or max(times) >= 1 << 63):
        raise _damaged(where, "an expiry is out of range")
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
