"""The keys of a set one after another, in its own order, and with their values where those are wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from understudy.backup.inspect import big
from understudy.backup.inspect.names import chosen, identity
from understudy.backup.inspect.times import iso
from understudy.backup.inspect.values import Decoder, Readable
from understudy.backup.record import Records, decode, read_blocks
from understudy.backup.set import BackupSet
from understudy.installed import missing_extra
from understudy.progress import Progress, stage
from understudy.valkey.glob import compile_glob
from understudy.valkey.wire import Wire

_MOST_ARGUMENT = "proto-max-bulk-len 4gb"  # a payload may be larger than servers take by default
_DECODES_WITHIN_S = 600.0  # a value of gigabytes takes its time
Fits = Callable[[bytes], object]


@dataclass(frozen=True)
class Row:
    """One key; `value` where values were asked for."""

    key: bytes
    db: int
    type: str
    size: int
    expire_at_ms: int | None
    idle_s: int | None = None
    freq: int | None = None
    value: Readable | None = None

    def as_data(self) -> dict[str, Any]:
        """Return it as a line of JSON."""
        told: dict[str, Any] = identity(self.key) | {
            "db": self.db, "type": self.type, "bytes": self.size, "expire_at_ms": self.expire_at_ms,
            "expires_at": None if self.expire_at_ms is None else iso(self.expire_at_ms),
        }  # fmt: skip
        told |= {name: one for name, one in (("idle_s", self.idle_s), ("freq", self.freq)) if one is not None}
        return told | self.value.as_data() if self.value else told


def fitting(match: str | None) -> Fits | None:
    """Return what tells whether a name matches a glob; None: every name does."""
    return compile_glob(match).fullmatch if match is not None else None


def rows(
    backup: BackupSet, fits: Fits | None, progress: Progress, decoder: Decoder | None = None
) -> Generator[Row, None, None]:
    """Yield the keys whose names fit, in the set's order; with their values where a decoder is given.

    Raises:
        IntegrityError: a line of the set is no record.
    """
    with stage(progress, "Reading keys", backup.metadata.keys, "keys"):
        for records in _blocks(backup, fits, progress):
            if decoder is None:
                yield from _rows(records, repeat(None))
                continue
            for step, values in decoder.read(records):
                yield from _rows(step, values)
        for one in big.of(backup, fits):
            progress.advance(1)
            value = big.value(decoder, backup, one) if decoder else None
            yield Row(one.key, one.db, one.kind, one.size, one.expire_at_ms, value=value)


def _rows(records: Records, values: Iterable[Readable | None]) -> Iterator[Row]:
    return map(
        Row, records.keys, records.dbs, records.types, map(len, records.payloads), records.expire_at_ms,
        records.idle_s or repeat(None), records.freq or repeat(None), values,
    )  # fmt: skip


def _blocks(backup: BackupSet, fits: Fits | None, progress: Progress) -> Iterator[Records]:
    for entry in backup.parts():
        with (backup.directory / entry.path).open("rb") as file:
            for block in read_blocks(file, entry.path):
                records = decode(block, entry.path)
                progress.advance(len(records.keys))
                if fits:
                    records = chosen(records, [at for at, key in enumerate(records.keys) if fits(key)])
                if records.keys:
                    yield records


@contextlib.contextmanager
def decoding(most_bytes: int | None) -> Iterator[Decoder]:
    """Give what reads values: a scratch server of ours, started for the first of them, gone when the block ends.

    Raises:
        UsageError: the lab, whose server it is, is not installed.
    """
    try:
        from understudy.lab.scratch import Scratch  # noqa: PLC0415 - the lab is an extra
    except ImportError as error:
        raise missing_extra("reading values", error, "lab") from error
    with contextlib.ExitStack() as stack:

        def connect() -> Wire:
            scratch = stack.enter_context(Scratch())
            server = scratch.server("values", lines=[_MOST_ARGUMENT], databases=1)
            return stack.enter_context(server.wire(_DECODES_WITHIN_S))

        yield Decoder(connect, most_bytes)
