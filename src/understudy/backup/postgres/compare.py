"""Compare a database with what a set recorded of it: one line for everything that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.backup.component import Counted
from understudy.backup.postgres import inventory
from understudy.backup.postgres.connection import Server, told
from understudy.backup.postgres.names import parts
from understudy.backup.postgres.recorded import RecordedDatabase
from understudy.pages.figures import count
from understudy.progress import Progress

_MOST_NAMED = 4
_LISTS = {
    "views": "the view", "materialized_views": "the materialized view", "foreign_tables": "the foreign table",
}  # fmt: skip


def content_now(server: Server, database: RecordedDatabase, progress: Progress) -> dict[str, Any]:
    """Return what a database holds now, asked on one snapshot, as a set records it.

    Raises:
        NotFoundError: it is not there.
    """
    with told(f"counting what is in the database {database.name}"), server.connect(database.name) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        content = inventory.content_of(connection, lambda: progress.advance(1))
        names = [parts(title) for title in content["sequence_names"]]
        content["sequences"] = inventory.sequences(connection, [(schema, name) for schema, name in names])
        return content


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any], name: str) -> list[str]:
    """Return one line for each thing that differs, the database's name first."""
    found: list[str] = []
    tables, here = recorded["tables"], now["tables"]
    for title, rows in tables.items():
        if title not in here:
            found.append(f"the table {title} is missing ({count(rows, 'row')} recorded)")
        elif here[title] != rows:
            found.append(f"{title} has {count(here[title], 'row')}, the set recorded {rows:,}")
    found += [f"the table {title} is not in the set" for title in here if title not in tables]
    for kind, title in _LISTS.items():
        found += [f"{title} {each} is missing" for each in recorded[kind] if each not in now[kind]]
        found += [f"{title} {each} is not in the set" for each in now[kind] if each not in recorded[kind]]
    for title, value in recorded["sequences"].items():
        if title not in now["sequences"]:
            found.append(f"the sequence {title} is missing")
        elif list(now["sequences"][title]) != list(value):
            found.append(
                f"the sequence {title} stands at {_at(now['sequences'][title])}, the set recorded {_at(value)}"
            )
    objects, these = recorded["large_objects"], now["large_objects"]
    if objects["count"] != these["count"]:
        found.append(f"it has {count(these['count'], 'large object')}, the set recorded {objects['count']:,}")
    elif objects["sha256"] != these["sha256"]:
        found.append(f"the contents of its {count(these['count'], 'large object')} are not those that were recorded")
    for title in recorded["extensions"]:
        if title not in now["extensions"]:
            found.append(f"the extension {title} is missing")
    for kind, number in recorded["objects"].items():
        if now["objects"].get(kind, 0) != number:
            found.append(f"it has {now['objects'].get(kind, 0):,} {kind}, the set recorded {number:,}")
    return [f"PostgreSQL {name}: {line}" for line in found]


def _at(value: Sequence[Any]) -> str:
    return f"{value[0]:,}" if value[1] else f"{value[0]:,} (not yet given out)"


def in_words(tables: Mapping[str, int], partitions: Sequence[str]) -> str:
    """Return the largest few tables, as `25 topics, 150 context_items`."""
    whole = {title: rows for title, rows in tables.items() if title not in set(partitions)}
    largest = sorted(whole.items(), key=lambda each: (-each[1], each[0]))[:_MOST_NAMED]
    said = [f"{rows:,} {parts(title)[-1]}" for title, rows in sorted(largest, key=lambda each: (each[1], each[0]))]
    if len(whole) > len(largest):
        said.append(f"{count(sum(whole.values()), 'row')} in {count(len(whole), 'table')}")
    return ", ".join(said) if said else "no tables"


def counts(recorded: RecordedDatabase, now: Mapping[str, Any], prefix: str) -> list[Counted]:
    """Return the same as numbers, of each table that the set or the database has."""
    here = now.get("tables", {})
    names = [*recorded.tables, *(title for title in here if title not in recorded.tables)]
    return [Counted(f"{prefix}{title}", recorded.tables.get(title, 0), here.get(title, 0)) for title in names]
