"""What a copy's append-only file consists of, read from its manifest, and what the copy says of it.

A second is exact where the copy had everything that its primary had at `LAG_MS` before the second's end, by the end:
then nothing that was written up to `LAG_MS` before it is counted to a later second, and nothing later is in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import IntegrityError
from understudy.valkey.discovery import parse_info
from understudy.valkey.wire import Reply

LINES = (
    "appendonly yes",
    "appenddirname appendonlydir",
    "appendfilename appendonly.aof",
    "aof-timestamp-enabled yes",
    "aof-use-rdb-preamble yes",
    "appendfsync everysec",
    "no-appendfsync-on-rewrite no",
    "auto-aof-rewrite-percentage 0",
    "aof-disable-auto-gc yes",
)
"""What a copy is configured with, so that its append-only file is the shard's journal and only we remove of it."""
LAG_MS = 200
_FOLDER, _MANIFEST = "appendonlydir", "appendonly.aof.manifest"
_LINE = re.compile(
    r"file (?P<name>appendonly\.aof\.\d+\.(?:base\.(?:rdb|aof)|incr\.aof)) seq (?P<seq>\d+) type (?P<type>[bhi])"
)


@dataclass(frozen=True)
class Manifest:
    """The files that are one dataset: a base, and the increments on top of it by their numbers."""

    base: str
    increments: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Read a manifest. Raises `IntegrityError` where it is none of ours."""
        base, increments = "", []
        for line in filter(None, map(str.strip, text.splitlines())):
            found = _LINE.match(line)
            if not found:
                raise IntegrityError("reading the manifest of a copy", f"a line is none: {line[:80]!r}")
            if found["type"] == "b":
                base = found["name"]
            elif found["type"] == "i":
                increments.append(int(found["seq"]))
        return cls(base, tuple(sorted(increments)))

    @property
    def last(self) -> int:
        """Return the number of the increment that is written to; 0 where there is none yet."""
        return self.increments[-1] if self.increments else 0


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a copy's directory; an empty one where it has none yet."""
    try:
        return Manifest.parse((directory / _FOLDER / _MANIFEST).read_text())
    except FileNotFoundError:
        return Manifest("", ())


def base_path(directory: Path, name: str) -> Path:
    """Return where a base lies."""
    return directory / _FOLDER / name


def increment_path(directory: Path, number: int) -> Path:
    """Return where an increment lies."""
    return directory / _FOLDER / f"appendonly.aof.{number}.incr.aof"


def held_bytes(directory: Path) -> int:
    """Return what a copy's files take, and those of work on them."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # renamed or deleted meanwhile
            continue
    return total


@dataclass(frozen=True)
class Facts:
    """What INFO says of a copy at a moment, `at_ms` by its own clock."""

    at_ms: int
    link_up: bool
    offset: int
    replid: str
    written: int
    buffered: int
    base_size: int
    rewrites: int
    rewriting: bool
    writes_fail: bool
    rewrite_failed: bool
    refusals: int = 0  # commands of its primary that it could not do

    @classmethod
    def from_replies(cls, facts: Reply, time: Reply) -> Facts:
        """Read the answers of INFO and TIME, asked in this order."""
        told = parse_info(facts)
        seconds, micros = time
        return cls(
            at_ms=int(seconds) * 1000 + int(micros) // 1000,
            link_up=told.get("master_link_status") == "up",
            offset=int(told.get("slave_repl_offset", 0)),
            replid=told.get("master_replid", ""),
            written=int(told.get("aof_current_size", 0)),
            buffered=int(told.get("aof_buffer_length", 0)),
            base_size=int(told.get("aof_base_size", 0)),
            rewrites=int(told.get("aof_rewrites", 0)),
            rewriting="1" in (told.get("aof_rewrite_in_progress"), told.get("aof_rewrite_scheduled")),
            writes_fail=told.get("aof_last_write_status", "ok") != "ok",
            rewrite_failed=told.get("aof_last_bgrewrite_status", "ok") != "ok",
            refusals=int(told.get("unexpected_error_replies", 0)),
        )

    def counts_on_from(self, before: Facts) -> bool:
        """Tell whether sizes can be compared: no base took over in between."""
        return (self.base_size, self.rewrites) == (before.base_size, before.rewrites) and self.written >= before.written


@dataclass(frozen=True)
class PrimaryFacts:
    """What a primary says of itself: its offset in its replication stream, and how far its clock is ahead of ours."""

    is_primary: bool
    offset: int
    replid: str
    ahead_ms: float

    @classmethod
    def from_replies(cls, facts: Reply, time: Reply, asked_ms: float, answered_ms: float) -> PrimaryFacts:
        """Read the answers of INFO replication and TIME."""
        told: Mapping[str, str] = parse_info(facts)
        seconds, micros = time
        at_ms = int(seconds) * 1000 + int(micros) / 1000
        return cls(
            told.get("role") == "master",
            int(told.get("master_repl_offset", 0)),
            told.get("master_replid", ""),
            at_ms - (asked_ms + answered_ms) / 2,
        )


def boundary_after(now_ms: float) -> int:
    """Return the end of a second that can still be looked at in time."""
    return (int(now_ms + LAG_MS) // 1000 + 1) * 1000
