"""What is in a set, as lines and tables of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.backup.describe import title_of
from understudy.backup.inspect.names import brief
from understudy.backup.inspect.summary import Contents, Counted, component
from understudy.backup.inspect.tally import MOST_NAME_BYTES, NEVER
from understudy.backup.inspect.times import moment
from understudy.backup.tasks.write_keys import name_of
from understudy.pages.figures import count, size

WHEN = {
    "never": "never",
    "past": "before that",
    "hour": "within an hour",
    "day": "within a day",
    "week": "within a week",
    "month": "within 30 days",
    "later": "later",
}


@dataclass(frozen=True)
class Table:
    """A table with its header; columns named in `right` are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ("KEYS", "BYTES", "SHARE", "AT THE BACKUP", "NOW")


def head(found: Contents) -> list[str]:
    """Return the lines that say which set it is, and what its components recorded."""
    metadata = found.metadata
    told = [f"Set {metadata.id}, taken {metadata.id.created:%Y-%m-%d %H:%M:%S} UTC by {plain(metadata.tool)}"]
    if metadata.called != str(metadata.id):
        told = [f"{metadata.called[0].upper()}{metadata.called[1:]}, as it was when that second ended"]
    for name, said in metadata.components.items():
        about = component(name, said)
        told.append(f"{plain(title_of(name))}: {plain(about['summary'])}")
        for each in about.get("databases", ()):
            tables = each["tables"]
            told.append(f"  {plain(str(each['name']))}: {count(len(tables), 'table')}")
        for each in about.get("collections", ()):
            points = each["points"]
            shown = "–".join(f"{one:,}" for one in points) if isinstance(points, list) else f"{points:,}"
            told.append(f"  {plain(str(each['name']))}: {shown} points")
    told += [f"Missing: {plain(title_of(name))} ({plain(why)})" for name, why in metadata.missing.items()]
    return told


def plain(text: str) -> str:
    """Return a text of the metadata without what a terminal might act on."""
    return brief(name_of(text.encode(errors="replace")), 200)


def tables(redis: Counted) -> list[Table]:
    """Return the views of the keys."""
    total = redis.size
    found = [Table(("TYPE", "KEYS", "BYTES", "SHARE"), [_row(row, total) for row in redis.types])]
    if len(redis.databases) > 1:
        found.append(Table(("DATABASE", "KEYS", "BYTES", "SHARE"), [_row(row, total) for row in redis.databases]))
    found.append(Table(("PREFIX", "KEYS", "BYTES", "SHARE"), [_row(row, total) for row in prefixes(redis)]))
    found.append(Table(("BYTES OF A VALUE", "KEYS", "BYTES", "SHARE"), [_row(row, total) for row in sizes(redis)]))
    then = {what: keys for what, keys, _ in redis.at_taking}
    rows = [(WHEN[what], f"{then[what]:,}", f"{keys:,}") for what, keys, _ in redis.now if keys or then[what]]
    found.append(Table(("EXPIRES", "AT THE BACKUP", "NOW"), rows))
    if redis.largest:
        found.append(
            Table(
                ("LARGEST KEY", "DB", "TYPE", "BYTES", "EXPIRES"),
                [
                    (shown(key), str(db), kind, f"{large:,}", "never" if at == NEVER else moment(at))
                    for large, key, db, kind, at in redis.largest
                ],
                ("DB", "BYTES"),
            )
        )
    if redis.libraries:
        rows = [(plain(one.name), plain(one.engine), f"{one.size:,}") for one in redis.libraries]
        found.append(Table(("FUNCTION LIBRARY", "ENGINE", "BYTES"), rows))
    return found


def shown(key: bytes) -> str:
    """Return a name for a cell of a table."""
    text = brief(name_of(key))
    return text if len(key) < MOST_NAME_BYTES or text.endswith("…") else f"{text}…"


def prefixes(redis: Counted) -> list[tuple[str, int, int]]:
    """Return the rows of prefixes, the remainders last; they add up to all keys."""
    rows = [(f"{brief(name_of(begins))}*", keys, size) for begins, keys, size in redis.prefixes]
    if redis.without[0]:
        rows.append(("(no separator)", redis.without[0], redis.without[1]))
    if redis.rest[0]:
        others = "(others)" if redis.rest_prefixes is None else f"({count(redis.rest_prefixes, 'other')})"
        rows.append((others, redis.rest[0], redis.rest[1]))
    return rows


def sizes(redis: Counted) -> list[tuple[str, int, int]]:
    """Return the rows of the histogram, empty steps between others included."""
    if not redis.sizes:
        return []
    there = {low: (keys, size) for low, keys, size in redis.sizes}
    lows = [0 if power == 0 else 10**power for power in range(14)]
    first, last = min(there), max(there)
    return [
        (f"{low:,} to {(10 * low or 10) - 1:,}", *there.get(low, (0, 0))) for low in lows if first <= low <= last
    ]  # fmt: skip


def remark(redis: Counted) -> list[str]:
    """Return what a reader has to know of the numbers."""
    told = []
    if redis.slack != [0, 0]:
        keys, large = redis.slack
        told.append(
            f"There are too many prefixes to hold: up to {count(keys, 'key')} and {size(large)} of each may be among "
            "the others. --separator and --depth group otherwise."
        )
    return told


def _row(row: tuple[str, int, int], total: int) -> tuple[str, str, str, str]:
    what, keys, large = row
    return what, f"{keys:,}", f"{large:,}", f"{100 * large / total:.1f} %" if total else "–"
