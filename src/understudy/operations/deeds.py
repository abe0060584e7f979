"""A line of the audit log, and what two of them say: a deed, with its begin and its end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import orjson

START = "0" * 64  # what the first line's `previous` is


@dataclass(frozen=True)
class Entry:
    """One line. `phase` is `began` or `ended`, and `run` ties the two; `outcome` is `ok`, `failed` or None.

    `profile` is None, and not written, in lines of a version that did not know it.
    """

    number: int
    at: str
    actor: str
    action: str
    phase: str
    run: str
    set: str | None = None
    tier: str | None = None
    profile: str | None = None
    components: tuple[str, ...] = ()
    outcome: str | None = None
    seconds: float | None = None
    detail: str | None = None
    found: tuple[str, ...] = ()
    previous: str = START
    hash: str = ""

    @property
    def time(self) -> datetime:
        """Return `at` as a time."""
        return datetime.fromisoformat(self.at)

    def encode(self) -> bytes:
        """Return the line, without its end."""
        return orjson.dumps(_document(self))

    def sealed(self) -> Entry:
        """Return the entry with the hash that belongs to it."""
        document = _document(self)
        del document["hash"]
        return replace(self, hash=hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest())

    @classmethod
    def decode(cls, line: bytes) -> Entry | None:
        """Read a line; None where it is not byte for byte what `encode` writes, or its hash is not its own."""
        try:
            document = orjson.loads(line)
            entry = cls(**{**document, "components": tuple(document["components"]), "found": tuple(document["found"])})
            return entry if entry.sealed() == entry and entry.encode() == line else None
        except (orjson.JSONDecodeError, orjson.JSONEncodeError, TypeError, KeyError):
            return None


_FIELDS = tuple(field.name for field in fields(Entry))


def _document(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _FIELDS if name != "profile" or entry.profile is not None}


@dataclass(frozen=True)
class Deed:
    """A `began` and its `ended`: `ended_at` and `outcome` are None where it never ended, or goes on still."""

    action: str
    run: str
    began_at: datetime
    ended_at: datetime | None
    outcome: str | None
    set: str | None
    tier: str | None
    components: tuple[str, ...]
    seconds: float | None
    detail: str | None
    profile: str | None = None


def deeds(entries: list[Entry]) -> list[Deed]:
    """Return what was done, in the order in which it began."""
    ended = {entry.run: entry for entry in entries if entry.phase == "ended"}
    found = []
    for begin in entries:
        if begin.phase == "began":
            end = ended.get(begin.run)
            last = end or begin
            found.append(Deed(
                begin.action, begin.run, begin.time, end.time if end else None, end.outcome if end else None,
                last.set, last.tier, last.components, last.seconds, last.detail, last.profile,
            ))  # fmt: skip
    return found
