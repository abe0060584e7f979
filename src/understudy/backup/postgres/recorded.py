"""What a set recorded of a PostgreSQL server, as values; a set that says something else is damaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from understudy.backup.set import BackupSet
from understudy.errors import IntegrityError, NotFoundError

_MOST_NAME_BYTES = 63
_MOST_TOLD = 300
_FOLDER = "postgres/"


class Properties(BaseModel):
    """What a database is, beside its content; see `properties.read`."""

    encoding: str
    collate: str
    ctype: str
    owner: str
    connection_limit: int
    is_template: bool
    grants: list[tuple[str, bool, str, bool]] | None
    settings: dict[str, list[str]]
    comment: str | None = None
    provider: str = "libc"
    locale: str | None = None
    icu_rules: str | None = None


class LargeObjects(BaseModel):
    """How many there are, and one checksum over all of them."""

    count: int
    sha256: str | None


class Content(BaseModel):
    """What a database holds; see `inventory.content_of`."""

    tables: dict[str, int]
    partitions: list[str]
    materialized_views: list[str]
    foreign_tables: list[str]
    views: list[str]
    sequences: dict[str, tuple[int, bool]]
    large_objects: LargeObjects
    extensions: dict[str, str]
    objects: dict[str, int]


class Row(Content):
    """A database as it stands in the metadata."""

    name: str
    path: str
    files: list[str]
    format: str
    size_bytes: int
    properties: Properties
    roles: list[str]


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
            if missing or not found.globals.startswith(_FOLDER):
                raise ValueError(f"the set has no file {min(missing) if missing else 'of roles'}")
            if len({each.name for each in found.databases}) < len(found.databases):
                raise ValueError("a database stands there twice")
            _ = found.server_major, found.tool_major
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = _first(error) if isinstance(error, ValidationError) else str(error)
            raise IntegrityError(
                f"reading what {backup.metadata.id} says of PostgreSQL", f"it is damaged ({why})", "Use another set."
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


def _database(data: Any) -> RecordedDatabase:
    row = Row.model_validate(data)
    if not row.name or len(row.name.encode()) > _MOST_NAME_BYTES or not all(map(_is_text, _texts(data))):
        raise ValueError("a name in it can be none of PostgreSQL's")
    own = [each for each in row.files if each == row.path or each.startswith(f"{row.path}/")]
    if not own or own != row.files or not row.path.startswith(_FOLDER):
        raise ValueError(f"the files of {row.name} are not its own")
    if not all("=" in pair for pairs in row.properties.settings.values() for pair in pairs):
        raise ValueError(f"the settings of {row.name} are none")
    return RecordedDatabase(
        row.name, row.path, tuple(own), row.format, row.size_bytes, row.properties.model_dump(),
        row.model_dump(include=set(Content.model_fields)), tuple(row.roles),
    )  # fmt: skip


def _first(error: ValidationError) -> str:
    """Return where the first thing is wrong, and how, on one line and without what stands there."""
    first = error.errors(include_url=False, include_input=False)[0]
    return " ".join(f"{'.'.join(map(str, first['loc']))}: {first['msg']}".split())[:_MOST_TOLD]


def _texts(data: Any) -> Iterator[str]:
    """Yield every text in it, names of fields too."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for name, value in data.items():
            yield str(name)
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)


def _is_text(text: str) -> bool:
    """Tell whether PostgreSQL can take a text at all."""
    return "\0" not in text and not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)


def near(name: str, names: list[str]) -> str:
    """Return a hint with the names that are like one that is not there."""
    close = get_close_matches(name, names, 3, 0.5)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def listed(names: Any, most: int = 10) -> str:
    """Return names with commas between, not too many."""
    some = list(names)
    more = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(some[:most]) + more if some else "none"
