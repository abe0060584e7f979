"""The page of a set's contents: pictures of what it holds, by prefix, type, size and expiry; never a value.

It may go into a ticket, so names of keys stay out of it unless they are asked for: it shows what several keys' names
begin with, and of a single key no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.backup.describe import title_of
from understudy.backup.inspect import tell
from understudy.backup.inspect.names import brief, prefix
from understudy.backup.inspect.summary import Contents, Counted, component
from understudy.backup.inspect.tally import NEVER, Large
from understudy.backup.inspect.times import moment
from understudy.backup.tasks.write_keys import name_of
from understudy.pages.charts import Bar, bars, strip
from understudy.pages.figures import count, size
from understudy.pages.page import render
from understudy.pages.treemap import Tile, treemap

TEMPLATE = Path(__file__).parent / "templates" / "inspect.html"
_MOST_BARS = 20


@dataclass(frozen=True)
class _Prefix:
    title: str
    keys: int
    bytes: int
    faint: bool = False


def contents_page(found: Contents, command: str, *, names: bool = False) -> str:
    """Return the page, one HTML file that needs nothing else. `names`: with names of keys."""
    metadata, redis = found.metadata, found.redis
    return render(
        TEMPLATE,
        id=metadata.called,
        when=f"{metadata.id.created:%Y-%m-%d %H:%M:%S} UTC" if metadata.called == str(metadata.id) else None,
        match=found.match,
        tool=metadata.tool,
        command=command,
        names=names,
        components=[_component(name, said) for name, said in metadata.components.items()],
        missing=[(title_of(name), why) for name, why in metadata.missing.items()],
        redis=_redis(redis, names) if redis else None,
    )


def _component(name: str, said: Any) -> tuple[str, str, str]:
    about = component(name, said)
    each = [f"{one['name']}: {count(len(one['tables']), 'table')}" for one in about.get("databases", ())]
    each += [str(one["name"]) for one in about.get("collections", ())]
    return title_of(name), about["summary"], ", ".join(each) or "–"


def _redis(redis: Counted, names: bool) -> dict[str, Any]:
    expiring = redis.keys - next(keys for what, keys, _ in redis.at_taking if what == "never")
    rows = _prefixes(redis, names)
    return {
        "keys": redis.keys,
        "headline": [
            ("Keys", f"{redis.keys:,}", _in_databases(redis)),
            ("Bytes", size(redis.size), "of all values, as dumped"),
            ("Largest", size(redis.largest[0][0]) if redis.largest else "–", "one value"),
            ("Expire", f"{100 * expiring / redis.keys:.0f} %" if redis.keys else "–", f"{count(expiring, 'key')}"),
        ],
        "map": treemap(
            "Bytes by what names begin with: the area is the share",
            [Tile(row.title, row.bytes, f"{size(row.bytes)}, {count(row.keys, 'key')}", row.faint) for row in rows],
        ),
        "prefixes": [
            (row.title, f"{row.keys:,}", f"{row.bytes:,}", f"{100 * row.bytes / redis.size:.1f} %") for row in rows
        ],
        "types": strip(
            "Bytes by type",
            [Bar(kind, large, f"{size(large)}, {count(keys, 'key')}") for kind, keys, large in redis.types],
        ),
        "databases": [(name, f"{keys:,}", f"{large:,}") for name, keys, large in redis.databases],
        "sizes": bars(
            "Keys by the bytes of their value",
            [Bar(what, keys, f"{keys:,}", size(large) if keys else "") for what, keys, large in tell.sizes(redis)],
        ),
        "then": _expiry("When they expire, seen from the beginning of the backup", redis.at_taking),
        "now": _expiry(f"The same, seen from when this page was made, {moment(redis.plan.now_ms)}", redis.now),
        "largest": bars(
            "The largest values" + ("" if names else ", by what their names begin with"),
            [_large(one, redis, names) for one in redis.largest[:_MOST_BARS]],
        ),
        "functions": [(one.name, one.engine, f"{one.size:,}") for one in redis.libraries],
        "separators": " ".join(one.decode() for one in redis.plan.separators),
        "remarks": tell.remark(redis),
    }  # fmt: skip


def _in_databases(redis: Counted) -> str:
    number = len(redis.databases)
    return f"in {number:,} databases" if number > 1 else f"of {count(len(redis.types), 'type')}"


def _prefixes(redis: Counted, names: bool) -> list[_Prefix]:
    """Return what is shown of the prefixes: one that a single key has is as good as its name."""
    told = [row for row in redis.prefixes if names or row[1] > 1]
    hidden = [row for row in redis.prefixes if not names and row[1] == 1]
    rows = [_Prefix(f"{brief(name_of(begins))}*", keys, large) for begins, keys, large in told]
    if redis.without[0]:
        rows.append(_Prefix("(no separator)", redis.without[0], redis.without[1], faint=True))
    keys, large = redis.rest[0] + len(hidden), redis.rest[1] + sum(row[2] for row in hidden)
    if keys:
        rows.append(_Prefix("(others)", keys, large, faint=True))
    return rows


def _expiry(caption: str, rows: Any) -> Any:
    return bars(caption, [Bar(tell.WHEN[what], keys, f"{keys:,}") for what, keys, _ in rows])


def _large(one: Large, redis: Counted, names: bool) -> Bar:
    large, key, db, kind, at = one
    title = tell.shown(key)
    if not names:
        begins = prefix(key, redis.plan.separators, redis.plan.depth)
        several = begins is not None and any(row[0] == begins and row[1] > 1 for row in redis.prefixes)
        title = f"{brief(name_of(begins))}…" if begins is not None and several else "a key"
    note = "" if at == NEVER or not names else f"expires {moment(at)}"
    return Bar(f"{title} ({kind}{f', database {db}' if db else ''})", large, size(large), note)
