"""What is in a set, as a value: what each component recorded, and of redis every key counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.backup import functions
from understudy.backup.describe import summary_of
from understudy.backup.functions import FUNCTIONS
from understudy.backup.inspect import big
from understudy.backup.inspect.heavy import Count, totals
from understudy.backup.inspect.listing import fitting
from understudy.backup.inspect.names import identity
from understudy.backup.inspect.tally import NEVER, WHEN, Large, Plan, Tally
from understudy.backup.set import BackupSet, Metadata
from understudy.backup.tasks import inspect_keys
from understudy.backup.workers import run_all, shares
from understudy.progress import Progress, stage

_TASK = "understudy.backup.tasks.inspect_keys:run"
_FEW = 20_000  # keys that are counted sooner than a worker has started
Row = tuple[str, int, int]  # what it is, keys, bytes


@dataclass(frozen=True)
class Library:
    """A library of functions: its name, its engine (`LUA`), the bytes of its source."""

    name: str
    engine: str
    size: int


@dataclass(frozen=True)
class Counted:
    """The keys of a set, or those that match: each view's rows add up to `keys` and `size`.

    `prefixes` are the largest, `without` the keys whose name has no separator, `rest` all other prefixes together.
    Where `slack` is not zero there were too many prefixes to hold: a prefix may have so many keys and bytes more than
    it says, which are in the rest.
    """

    keys: int
    size: int
    types: Sequence[Row]
    databases: Sequence[Row]
    sizes: Sequence[tuple[int, int, int]]  # from so many bytes to ten times as many; keys; bytes
    at_taking: Sequence[Row]
    now: Sequence[Row]
    prefixes: Sequence[tuple[bytes, int, int]]
    without: Count
    rest: Count
    rest_prefixes: int | None
    slack: Count
    largest: Sequence[Large]
    libraries: Sequence[Library] = ()
    plan: Plan = field(default_factory=lambda: Plan((), 1, 1, 0, 0))


@dataclass(frozen=True)
class Contents:
    """What `inspect` found: of which set, which keys were meant, and what they are; None: the set has no redis."""

    metadata: Metadata
    match: str | None
    redis: Counted | None


def contents(
    backup: BackupSet, match: str | None, plan: Plan, progress: Progress, *, stored: Metadata | None = None
) -> Contents:
    """Count what a set with plain files holds; `stored` is what it says of itself where it lies, encrypted perhaps.

    Raises:
        IntegrityError: a line of it is no record.
    """
    stored = stored or backup.metadata
    if "redis" not in backup.metadata.components:
        return Contents(stored, match, None)
    plans = [
        {
            "directory": str(backup.directory),
            "parts": [entry.path for entry in share],
            "match": match,
            "count": plan.as_data(),
        }
        for share in shares(backup.parts())
        if share
    ]
    tally = Tally(plan)
    with stage(progress, "Reading keys", backup.metadata.keys, "keys"):
        few = backup.metadata.keys <= _FEW
        counts = (
            [inspect_keys.run(one, progress.advance) for one in plans]
            if few
            else run_all(_TASK, plans, progress.advance)
        )
        for result in counts:
            tally.merge(result)
        big.count_into(tally, backup, fitting(match))
    return Contents(stored, match, counted(tally, libraries_of(backup)))


def counted(tally: Tally, libraries: Sequence[Library] = ()) -> Counted:
    """Return every view of what was counted."""
    keys, size = totals(tally.cells.values())
    heavy = tally.prefixes
    top = heavy.largest(tally.plan.top)
    shown = totals(row[1:] for row in top)
    held = totals(heavy.table.values())
    databases = sorted((int(name), *entry) for name, entry in tally.databases.table.items())
    rows = [(str(db), one, other) for db, one, other in databases]
    if tally.databases.rest[0]:
        rows.append(("others", tally.databases.rest[0], tally.databases.rest[1]))
    return Counted(
        keys,
        size,
        types=sorted(_by(tally, lambda cell: cell[0]), key=lambda row: (-row[2], row[0])),
        databases=rows,
        sizes=[(10**at if at else 0, one, other) for at, one, other in sorted(_by(tally, lambda cell: cell[1]))],
        at_taking=_in_order(_by(tally, lambda cell: cell[2])),
        now=_in_order(_by(tally, lambda cell: cell[3])),
        prefixes=top,
        without=tally.without,
        rest=[heavy.rest[at] + held[at] - shown[at] for at in (0, 1)],
        rest_prefixes=len(heavy.table) - len(top) if heavy.exact else None,
        slack=heavy.slack,
        largest=tally.largest,
        libraries=libraries,
        plan=tally.plan,
    )


def _by(tally: Tally, what: Callable[[Any], Any]) -> list[tuple[Any, int, int]]:
    found: dict[Any, Count] = {}
    for cell, count in tally.cells.items():
        entry = found.setdefault(what(cell), [0, 0])
        entry[0] += count[0]
        entry[1] += count[1]
    return [(name, entry[0], entry[1]) for name, entry in found.items()]


def _in_order(rows: Sequence[tuple[int, int, int]]) -> list[Row]:
    by_place = {row[0]: row for row in rows}
    return [(WHEN[at], *by_place.get(at, (at, 0, 0))[1:]) for at in range(len(WHEN))]


def libraries_of(backup: BackupSet) -> list[Library]:
    """Return the libraries of functions that a set holds."""
    if not any(entry.path == FUNCTIONS for entry in backup.metadata.files):
        return []
    found = functions.decode((backup.directory / FUNCTIONS).read_bytes(), FUNCTIONS)
    return [Library(name, _engine(code), len(code)) for name, code in found]


def _engine(code: bytes) -> str:
    first = code.split(b"\n", 1)[0].decode(errors="replace")
    return first.removeprefix("#!").split(" ")[0].upper() if first.startswith("#!") else "?"


def as_data(found: Contents) -> dict[str, Any]:
    """Return it as `--json` prints it."""
    metadata, redis = found.metadata, found.redis
    told: dict[str, Any] = {
        "id": str(metadata.id), "profile": metadata.profile, "taken_at": metadata.id.created.isoformat(),
        "tool": metadata.tool, "tier": metadata.tier, "encrypted": metadata.encryption is not None,
        "files": len(metadata.files), "set_bytes": metadata.size, "match": found.match,
        "components": {name: component(name, said) for name, said in metadata.components.items()},
        "missing": dict(metadata.missing),
        "redis": None,
    }  # fmt: skip
    if redis:
        told["redis"] = _redis(redis)
    return told


def _redis(redis: Counted) -> dict[str, Any]:
    plan = redis.plan
    return {
        "keys": redis.keys,
        "bytes": redis.size,
        "types": _rows("type", redis.types),
        "databases": _rows("db", redis.databases),
        "prefixes": {
            "separators": "".join(one.decode() for one in plan.separators),
            "depth": plan.depth,
            "top": [
                {name.replace("key", "prefix"): value for name, value in identity(begins).items()}
                | {"keys": keys, "bytes": size}
                for begins, keys, size in redis.prefixes
            ],
            "without": _pair(redis.without),
            "rest": _pair(redis.rest) | {"prefixes": redis.rest_prefixes},
            "approximate": redis.slack != [0, 0],
            "a_prefix_may_lack": _pair(redis.slack),
        },
        "sizes": [{"from": low, "below": 10 * low or 10} | _pair([keys, size]) for low, keys, size in redis.sizes],
        "largest": [
            identity(key) | {"db": db, "type": kind, "bytes": size, "expire_at_ms": None if at == NEVER else at}
            for size, key, db, kind, at in redis.largest
        ],
        "expiry": {
            "taken_ms": plan.taken_ms, "at_taking": _rows("expires", redis.at_taking),
            "now_ms": plan.now_ms, "now": _rows("expires", redis.now),
        },
        "functions": [{"library": one.name, "engine": one.engine, "bytes": one.size} for one in redis.libraries],
    }  # fmt: skip


def _pair(count: Count) -> dict[str, int]:
    return {"keys": count[0], "bytes": count[1]}


def _rows(name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{name: what, "keys": keys, "bytes": size} for what, keys, size in rows]


def component(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a component recorded of what it holds: tables with their rows, collections with their points."""
    told: dict[str, Any] = {"summary": summary_of(name, said), "warnings": list(said.get("warnings", ()))}
    if name == "postgres":
        told["databases"] = [
            {"name": one.get("name"), "tables": dict(one.get("tables", {}))} for one in said.get("databases", ())
        ]
    elif name == "qdrant":
        told["collections"] = [
            {"name": one.get("name"), "points": one.get("points")} for one in said.get("collections", ())
        ]
    return told
