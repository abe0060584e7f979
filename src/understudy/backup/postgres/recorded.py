"""What a set recorded of a PostgreSQL server, as values; a set that says something else is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from understudy.backup.set import BackupSet
from understudy.errors import IntegrityError, NotFoundError


@dataclass(frozen=True)
class RecordedDatabase:
    """One database of a set: `path` is its dump, a file or (where `files` are several) their directory."""

    name: str
    path: str
    files: tuple[str, ...]
    format: str
    size_bytes: int
    properties: Mapping[str, Any]
    content: Mapping[str, Any]
    roles: tuple[str, ...]

    @property
    def tables(self) -> Mapping[str, int]:
        """Return the rows of each table, by `schema.table`."""
        return dict(self.content["tables"])

    @property
    def extensions(self) -> Mapping[str, str]:
        """Return the version of each extension."""
        return dict(self.content["extensions"])


@dataclass(frozen=True)
class Recorded:
    """What `components.postgres` of the metadata says."""

    server: str
    tool: str
    globals: str
    databases: tuple[RecordedDatabase, ...]

    @property
    def server_major(self) -> int:
        """Return the major version of the server that was backed up."""
        return int(self.server.partition(".")[0])

    @property
    def tool_major(self) -> int:
        """Return the major version of the pg_dump that wrote the dumps: older programs cannot read them."""
        return int(self.tool.partition(".")[0])

    @classmethod
    def of(cls, backup: BackupSet) -> Recorded:
        """Read it from a set.

        Raises:
            NotFoundError: the set has no such component.
            IntegrityError: what it says makes no sense.
        """
        section = backup.metadata.components.get("postgres")
        if section is None:
            raise NotFoundError(
                f"looking for PostgreSQL in {backup.metadata.id}", "the set has none",
                "`understudy list` shows what sets hold.",
            )  # fmt: skip
        known = {entry.path for entry in backup.metadata.files}
        try:
            found = cls(
                section["server"]["version"], section["tool"], section["globals"],
                tuple(_database(row) for row in section["databases"]),
            )  # fmt: skip
            missing = {found.globals, *(path for each in found.databases for path in each.files)} - known
            if missing:
                raise ValueError(f"the set has no file {min(missing)}")
            _ = found.server_major, found.tool_major
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(
                f"reading what {backup.metadata.id} says of PostgreSQL", f"it is damaged ({error})", "Use another set."
            ) from error
        return found

    def chosen(self, names: tuple[str, ...], doing: str) -> list[RecordedDatabase]:
        """Return the databases of these names; all of them where none is named.

        Raises:
            NotFoundError: the set lacks one.
        """
        here = {each.name: each for each in self.databases}
        for name in names:
            if name not in here:
                raise NotFoundError(
                    doing, f"the set holds no database {name!r}",
                    f"{near(name, list(here)) or f'It holds {listed(here)}.'} See POSTGRES_DATABASES.",
                )  # fmt: skip
        return [here[name] for name in names] if names else list(self.databases)


def _database(row: Mapping[str, Any]) -> RecordedDatabase:
    found = RecordedDatabase(
        str(row["name"]), str(row["path"]), tuple(map(str, row["files"])), str(row["format"]), int(row["size_bytes"]),
        dict(row["properties"]), {name: row[name] for name in _CONTENT}, tuple(map(str, row["roles"])),
    )  # fmt: skip
    if not found.files or not all(each == found.path or each.startswith(f"{found.path}/") for each in found.files):
        raise ValueError(f"the files of {found.name} are not its own")
    if not all(isinstance(rows, int) for rows in found.tables.values()):
        raise ValueError(f"the rows of {found.name} are no numbers")
    return found


_CONTENT = (
    "tables", "partitions", "materialized_views", "foreign_tables", "views", "sequences", "large_objects",
    "extensions", "objects",
)  # fmt: skip


def near(name: str, names: list[str]) -> str:
    """Return a hint with the names that are like one that is not there."""
    close = get_close_matches(name, names, 3, 0.5)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def listed(names: Any, most: int = 10) -> str:
    """Return names with commas between, not too many."""
    some = list(names)
    more = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(some[:most]) + more if some else "none"
