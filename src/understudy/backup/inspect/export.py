"""Lists of keys for other programs: lines of JSON, CSV, Parquet. A file appears complete, or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from understudy.backup.durable import sync
from understudy.backup.inspect.listing import Row
from understudy.backup.inspect.names import harmless, text_of
from understudy.backup.inspect.times import iso
from understudy.backup.tasks.write_keys import name_of
from understudy.errors import UnreachableError
from understudy.installed import missing_extra

Write = Callable[[Iterable[Row], BinaryIO, bool], int]
COLUMNS = ("key", "key_b64", "db", "type", "bytes", "expire_at_ms", "expires_at")
VALUE_COLUMNS = ("value", "length", "truncated", "error")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", *"\uff1d\uff0b\uff0d\uff20")  # some also take the wide ones
_BY_SUFFIX = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
_GROUP_ROWS, _GROUP_BYTES = 50_000, 32 << 20


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file that appears under its name when the block ends well, for its owner only.

    Raises:
        UnreachableError: it cannot be written there.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        try:
            if path.exists() and not path.is_file():  # a pipe or a device must stay what it is
                with path.open("wb") as file:
                    yield file
                return
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UnreachableError(
            f"writing {path}", error.strerror or str(error), "Check the directory's rights and space."
        ) from error


def json_line(row: Row) -> bytes:
    """Return a key as one line of JSON, which no terminal acts on."""
    return harmless(orjson.dumps(row.as_data()).decode()).encode() + b"\n"


def write_json(rows: Iterable[Row], out: BinaryIO, _: bool = False) -> int:
    """Write a line of JSON a key; return how many."""
    written = 0
    for row in rows:
        out.write(json_line(row))
        written += 1
    return written


def cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: a `'` before what begins like one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_csv(rows: Iterable[Row], out: BinaryIO, values: bool = False) -> int:
    """Write CSV with a header, in UTF-8; return how many keys.

    `key` is the name as people read it; where that is not the name itself, `key_b64` is,
    behind `base64:`. A value stands there as JSON,
    which begins with a quote, a bracket or a brace, and so never like a formula.
    """
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=True)
    table = csv.writer(text, lineterminator="\n")
    written = 0
    try:
        table.writerow((*COLUMNS, *(VALUE_COLUMNS if values else ())))
        for row in rows:
            table.writerow(_cells(row, values))
            written += 1
    finally:
        text.detach()  # else it would close what is not its own
    return written


def _cells(row: Row, values: bool) -> list[Any]:
    name = cell(name_of(row.key)) if row.key else ""
    # base64 may begin with a plus
    exact = b"" if name.encode(errors="replace") == row.key else b"base64:" + b2a_base64(row.key, newline=False)
    expires = "" if row.expire_at_ms is None else iso(row.expire_at_ms)
    cells = [name, exact.decode(), row.db, row.type, row.size, row.expire_at_ms, expires]
    if values:
        value = row.value
        assert value is not None, "values were asked for"  # noqa: S101
        cells += ["" if value.error else _json(value.value, value.more), value.length, value.truncated or ""]
        cells.append(cell(name_of(value.error.encode())) if value.error else "")
    return cells


def _json(value: Any, more: dict[str, Any]) -> str:
    told = {"value": value, **more} if more else value
    return harmless(orjson.dumps(told).decode())


def write_parquet(rows: Iterable[Row], out: BinaryIO, values: bool = False) -> int:
    """Write Parquet, in row groups of bounded size; return how many keys.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("writing Parquet", error, "inspect") from error
    fields = [
        ("key", arrow.binary()), ("key_text", arrow.string()), ("db", arrow.int32()), ("type", arrow.string()),
        ("bytes", arrow.int64()), ("expires_at", arrow.timestamp("ms", tz="UTC")),
    ]  # fmt: skip
    if values:
        fields += [("value", arrow.large_string()), ("length", arrow.int64()), ("truncated", arrow.bool_())]
        fields += [("error", arrow.string())]
    schema = arrow.schema(fields)
    written = 0
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for group in _groups(rows):
            columns = [list(column) for column in zip(*(_fields(row, values) for row in group), strict=True)]
            writer.write_table(arrow.table(columns, schema=schema), row_group_size=len(group))
            written += len(group)
    return written


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row.key) + (row.size if row.value else 0)
        if len(group) >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _fields(row: Row, values: bool) -> tuple[Any, ...]:
    told = (row.key, name_of(row.key), row.db, row.type, row.size, row.expire_at_ms)
    if not values:
        return told
    value = row.value
    assert value is not None, "values were asked for"  # noqa: S101
    shown = None if value.error else _json(value.value, value.more)
    return (*told, shown, value.length, value.truncated, value.error)


WRITERS: dict[str, Write] = {"json": write_json, "csv": write_csv, "parquet": write_parquet}


def form_of(path: Path) -> str:
    """Return which of `WRITERS` a file's name asks for; CSV where it does not say."""
    return _BY_SUFFIX.get(path.suffix.lower(), "csv")


def readable(row: Row) -> str:
    """Return a value as one line, which no terminal acts on; what is not told of it is marked."""
    value = row.value
    if value is None or value.error:
        return "" if value is None else f"({name_of((value.error or '').encode())})"
    unit = "bytes" if row.type == "string" else "elements"
    rest = f" … of {value.length:,} {unit}" if value.truncated else ""
    return _json(value.value, value.more) + rest


def whole(row: Row) -> str:
    """Return a value as people read it: a text as it is, everything else as JSON over several lines."""
    value = row.value
    if value is None or value.error:
        return "" if value is None else f"({name_of((value.error or '').encode())})"
    if isinstance(value.value, str):
        return text_of(value.value)
    told = {"value": value.value, **value.more} if value.more else value.value
    return harmless(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())


class Limited:
    """So many of the rows at most, None: all; afterwards `more` tells whether there are others."""

    def __init__(self, rows: Iterator[Row], limit: int | None) -> None:
        self._rows, self._limit = rows, limit
        self.more = False

    def __iter__(self) -> Iterator[Row]:
        yield from islice(self._rows, self._limit)
        self.more = self._limit is not None and next(self._rows, None) is not None
