"""What makes a restore impossible or costs something, asked before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from understudy.backup.postgres.connection import Connection, is_superuser, major_of, version_of
from understudy.backup.postgres.names import parts
from understudy.backup.postgres.properties import locale_works
from understudy.backup.postgres.recorded import Recorded, RecordedDatabase, listed, near
from understudy.errors import (
    IntegrityError,
    NotAuthorisedError,
    NotFoundError,
    RefusedError,
    UnreachableError,
    UsageError,
)
from understudy.pages.figures import size

_LOCAL = ("127.", "::1", "localhost")
_MOST_NAME_BYTES = 63
_ROOM_FACTOR = 2  # the new database beside the old one, and the log of writing it
_DEPENDENTS = """
    SELECT format('the foreign key %%I of %%s', k.conname, k.conrelid::regclass) FROM pg_constraint k
    WHERE k.contype = 'f' AND k.confrelid = ANY(%(oids)s) AND k.conrelid <> ALL(%(oids)s) AND k.conparentid = 0
    UNION
    SELECT format('the view %%s', r.ev_class::regclass) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = ANY(%(oids)s) AND r.ev_class <> ALL(%(oids)s)
    ORDER BY 1
"""
_TREE = """
    WITH RECURSIVE tree(oid) AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
          ON w.schema = n.nspname AND w.name = c.relname
        UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON t.oid = i.inhparent)
    SELECT oid FROM tree
"""


def check_server(connection: Connection, recorded: Recorded, doing: str) -> None:
    """Refuse an older server, and a replica.

    Raises:
        IntegrityError: the server's major version is older than that of the set.
        RefusedError: the server takes no writes.
    """
    if major_of(connection) < recorded.server_major:
        raise IntegrityError(
            doing, f"the set was taken from PostgreSQL {recorded.server}, and the target is {version_of(connection)}; "
            "a dump may hold what an older major version does not know",
            f"Restore to PostgreSQL {recorded.server_major} or newer.",
        )  # fmt: skip
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if row and row[0]:
        raise RefusedError(doing, "it is a replica: it takes no writes", "Name its primary instead.")


def check_names(names: Iterable[str], doing: str) -> None:
    """Refuse to replace the templates of which new databases are made. Raises `RefusedError`."""
    if lost := sorted({"template0", "template1"}.intersection(names)):
        raise RefusedError(
            doing, f"it would replace {lost[0]}, of which PostgreSQL makes new databases",
            "Restore it under another name: --into-database NAME.",
        )  # fmt: skip


def check_creation(connection: Connection, doing: str) -> None:
    """Refuse a role that may not create databases. Raises `NotAuthorisedError`."""
    row = connection.execute(
        "SELECT rolcreatedb OR rolsuper, rolname FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row and not row[0]:
        raise NotAuthorisedError(
            doing, f"{row[1]} may not create databases, and a database is restored into a new one first",
            f'Have an administrator run: ALTER ROLE "{row[1]}" CREATEDB;',
        )  # fmt: skip


def check_extensions(connection: Connection, databases: Iterable[RecordedDatabase], doing: str) -> None:
    """Refuse a set whose extensions the server has not installed, or does not let us create.

    Raises:
        IntegrityError: an extension is not available.
        NotAuthorisedError: only a superuser may create it.
    """
    rows = connection.execute("SELECT name, bool_or(trusted OR NOT superuser) FROM pg_available_extension_versions"
                              " GROUP BY name").fetchall()  # fmt: skip
    available: dict[str, bool] = dict(rows)
    superuser = is_superuser(connection)
    for database in databases:
        for name, version in database.extensions.items():
            if name not in available:
                raise IntegrityError(
                    doing, f"the database {database.name} uses the extension {name} {version}, which is not installed "
                    f"there",
                    f"Install {name} on the target's machine, then run it again. See pg_available_extensions.",
                )  # fmt: skip
            if name != "plpgsql" and not superuser and not available[name]:
                raise NotAuthorisedError(
                    doing, f"only a superuser may create the extension {name}, which {database.name} uses",
                    "Restore as a superuser.",
                )  # fmt: skip


def check_locales(connection: Connection, databases: Iterable[RecordedDatabase], doing: str) -> None:
    """Refuse a locale that the server does not know. Raises `IntegrityError`."""
    for database in databases:
        if not locale_works(connection, database.properties):
            locale = database.properties.get("locale") or database.properties["collate"]
            raise IntegrityError(
                doing, f"the database {database.name} has the locale {locale} ({database.properties['provider']}), "
                "which the target does not know",
                "Install that locale on the target's machine (locale-gen), then restart PostgreSQL.",
            )  # fmt: skip


def check_room(connection: Connection, databases: Sequence[RecordedDatabase], doing: str) -> None:
    """Refuse to fill the disk, where the server is on this machine and its directory can be seen.

    Raises:
        UnreachableError: there is too little room.
    """
    host = connection.info.host
    if not (host.startswith(("/", *_LOCAL)) and is_superuser(connection)):
        return
    row = connection.execute("SHOW data_directory").fetchone()
    place = Path(row[0]) if row else Path("/nonexistent")
    try:
        if not (place / "PG_VERSION").exists():
            return
        free = shutil.disk_usage(place).free
    except OSError:
        return
    needed = _ROOM_FACTOR * sum(database.size_bytes for database in databases)
    if needed > free:
        raise UnreachableError(
            doing, f"{place} has {size(free)} left, and twice the size of what is restored is {size(needed)}",
            "Free some space there.",
        )  # fmt: skip


def check_name(name: str) -> None:
    """Refuse a name that no database can have: PostgreSQL would cut it, and mean another. Raises `UsageError`."""
    if not 0 < len(name.encode(errors="surrogateescape")) <= _MOST_NAME_BYTES or "\0" in name:
        raise UsageError(
            f"restoring into the database {name[:200]!r}", f"a name has 1 to {_MOST_NAME_BYTES} bytes",
            "Name another: --into-database NAME.",
        )  # fmt: skip


def find_tables(
    databases: Sequence[RecordedDatabase], wanted: Sequence[str], doing: str
) -> tuple[RecordedDatabase, list[tuple[str, str]]]:
    """Return the one database that holds all these tables, and their schemas and names.

    Raises:
        NotFoundError: no database of the set has one of them.
        UsageError: several databases have them.
    """
    holders = []
    for database in databases:
        known = {parts(title): title for title in database.tables}
        found = [_match(text, known) for text in wanted]
        if all(found):
            holders.append((database, [each for each in found if each]))
    if len(holders) == 1:
        return holders[0]
    if holders:
        raise UsageError(
            doing, f"several databases of the set have {wanted[0]}: {listed(each.name for each, _ in holders)}",
            "Say which with POSTGRES_DATABASES.",
        )  # fmt: skip
    every = [title for database in databases for title in database.tables]
    for text in wanted:
        if not any(_match(text, {parts(title): title}) for title in every):
            raise NotFoundError(
                doing, f"the set has no table {text!r}", near(text, every) or f"It has {listed(sorted(every))}."
            )
    raise NotFoundError(doing, "no database of the set has all of these tables", "Name those of one database.")


def _match(text: str, known: dict[tuple[str, ...], str]) -> tuple[str, str] | None:
    """Return the table that a person means: with or without quotes, in `public` where no schema is named."""
    given = parts(text)
    whole = {f"{schema}.{name}": (schema, name) for schema, name in known}
    for tried in (given, ("public", *given), tuple(part.lower() for part in given)):
        if len(tried) == 2 and tried in known:
            return tried[0], tried[1]
    return whole.get(text)


def dependents(connection: Connection, tables: Sequence[tuple[str, str]]) -> list[str]:
    """Return what outside of these tables, and of their partitions, depends on them."""
    named = {"schemas": [schema for schema, _ in tables], "names": [name for _, name in tables]}
    oids = [oid for (oid,) in connection.execute(_TREE, named).fetchall()]
    return [text for (text,) in connection.execute(_DEPENDENTS, {"oids": oids}).fetchall()]


def check_dependents(connection: Connection, tables: Sequence[tuple[str, str]], doing: str) -> None:
    """Refuse to replace tables that others hold on to. Raises `RefusedError`."""
    if broken := dependents(connection, tables):
        views = [one for one in broken if one.startswith("the view ")]
        hint = "Restore those tables too (--table once more)" if len(views) < len(broken) else ""
        if views:
            hint += "; " if hint else ""
            hint += f"drop {listed(views, 3)} by hand, and create it again afterwards, or restore the whole database"
        raise RefusedError(
            doing, f"{listed(broken, 3)} would break: a table is dropped and made again",
            f"{hint[0].upper()}{hint[1:]}, or into a database that is not there yet: --into-database.", broken,
        )  # fmt: skip
