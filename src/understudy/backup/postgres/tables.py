"""Load some tables of a dump, in one transaction: all of them, or nothing is changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from psycopg import sql

from understudy.backup.postgres import properties, swap, toc
from understudy.backup.postgres.connection import Connection, Server
from understudy.backup.postgres.load import Advance, forget
from understudy.backup.postgres.recorded import RecordedDatabase
from understudy.backup.postgres.toc import Entry
from understudy.backup.postgres.tools import Access
from understudy.errors import RefusedError, ServerSaidError, UnderstudyError

_CHUNK_BYTES = 1 << 18
_IN_SCHEMAS = "SELECT n.nspname || ' ' || {0} FROM {1} c JOIN pg_namespace n ON n.oid = c.{2} WHERE {3}"
# what stands in a database, by the kind of an entry of a dump, as the dump names it
_STANDING = {
    "SCHEMA": b"SELECT nspname FROM pg_namespace",
    "EXTENSION": b"SELECT extname FROM pg_extension",
    "TYPE": _IN_SCHEMAS.format("typname", "pg_type", "typnamespace", "true").encode(),
    "DOMAIN": _IN_SCHEMAS.format("typname", "pg_type", "typnamespace", "typtype = 'd'").encode(),
    "FUNCTION": _IN_SCHEMAS.format("proname", "pg_proc", "pronamespace", "true").encode(),
    "SEQUENCE": _IN_SCHEMAS.format("relname", "pg_class", "relnamespace", "relkind = 'S'").encode(),
    "TABLE": _IN_SCHEMAS.format("relname", "pg_class", "relnamespace", "relkind IN ('r', 'p')").encode(),
}


def load_into(
    server: Server, access: Access, connection: Connection, database: RecordedDatabase, tables: list[tuple[str, str]],
    name: str, dump: Path, advance: Advance, say: Callable[[str], None], keep_locale: bool = True,
) -> None:  # fmt: skip
    """Restore tables in one transaction: dropped where they stand in `name`, and made again as the set has them.

    Schemas and extensions that the database lacks and the tables need come along. A database that is not there is
    created with everything that the tables need, and has its name when they are in it.

    Raises:
        RefusedError: something else depends on a table; nothing was changed.
        ServerSaidError: another thing failed; nothing was changed.
    """
    found = toc.entries(access, dump)
    chosen = toc.select(found, tables, (*database.roles, database.properties["owner"]))
    is_new = name not in swap.names(connection)
    stand: dict[str, set[str]] = {}
    if not is_new:
        with server.connect(name) as inside:
            stand = {kind: {one for (one,) in inside.execute(asked).fetchall()} for kind, asked in _STANDING.items()}
    for entry in _pointing_out(found, chosen, stand, database):
        del chosen[entry.number]
        say(f"Warning: left out, because it points to a table that is not there: {entry.kind} {entry.text}")
    needed = toc.dependencies(found, chosen)
    if not is_new:
        owners = (*database.roles, database.properties["owner"])
        needed = {number: each for number, each in needed.items() if _lacks(each, stand, owners)}
        drops = [each for each in chosen.values() if each.kind == "TABLE"]
        _load(access, found, chosen | needed, _drop(drops, database), name, dump, advance)
        return
    swap.claim(connection, name)
    swap.sweep(connection, name)
    new = swap.fresh(name)
    connection.execute(properties.creation(new, database.properties, keep_locale))
    try:
        _load(access, found, chosen | needed, b"", new, dump, advance)
        swap.swap(server, connection, new, name)
    except BaseException:
        forget(server, new)
        raise
    finally:
        if not connection.closed:
            swap.unclaim(connection, name)


def _lacks(entry: Entry, stand: Mapping[str, set[str]], owners: Sequence[str]) -> bool:
    """Tell whether a database lacks something that tables need: a schema, an extension, a type, a function."""
    title = toc.title_of(entry, owners)
    return entry.kind in stand and title.partition("(")[0] not in stand[entry.kind] and title not in stand[entry.kind]


def _pointing_out(
    found: Sequence[Entry], chosen: Mapping[int, Entry], stand: Mapping[str, set[str]], database: RecordedDatabase
) -> list[Entry]:
    """Return the chosen foreign keys to tables that are neither chosen nor there."""
    owners = (*database.roles, database.properties["owner"])
    tables = {each.number: toc.table_of(each, database.tables, owners) for each in found if each.kind == "TABLE"}
    there = stand.get("TABLE", set())
    absent = {number for number, table in tables.items() if number not in chosen and " ".join(table) not in there}
    keys = [entry for entry in chosen.values() if entry.kind == "FK CONSTRAINT"]
    return [entry for entry in keys if absent.intersection(entry.depends_on)]


def _drop(entries: Sequence[Entry], database: RecordedDatabase) -> bytes:
    """Return one statement for all, so that what holds on to each other goes together, and nothing else goes."""
    owners = (*database.roles, database.properties["owner"])
    titles = [sql.Identifier(*toc.table_of(entry, database.tables, owners)) for entry in entries]
    return sql.SQL("DROP TABLE IF EXISTS {};\n").format(sql.SQL(", ").join(titles)).as_string(None).encode()


def _load(
    access: Access, found: Sequence[Entry], chosen: Mapping[int, Entry], first: bytes, into: str, dump: Path,
    advance: Advance,
) -> None:  # fmt: skip
    """Pass what pg_restore writes on to psql; the COMMIT follows only when it ended well."""
    listed = toc.write_list(chosen.values(), found, access.children.directory / "tables")
    source = access.children.start(
        [access.program("pg_restore"), f"--use-list={listed}", "--file=-", dump], stdout=subprocess.PIPE
    )
    sink = access.children.start(
        [access.program("psql"), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "-d",
         access.database(into)],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    read, write = source.process.stdout, sink.process.stdin
    assert read is not None and write is not None  # noqa: S101 - asked for above
    try:
        _pass_on(read, write, b"BEGIN;\n" + first, advance)
        if source.process.wait():
            raise toc.unreadable(dump, source.complaints())
        write.write(b"COMMIT;\n")
        write.close()
    except BrokenPipeError:
        pass  # psql gave up, and says why
    if sink.process.wait():
        raise _refusal(into, sink.complaints())


def _pass_on(read: IO[bytes], write: IO[bytes], first: bytes, advance: Advance) -> None:
    write.write(first)
    while data := read.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
        write.write(data)
        advance(len(data))
    write.flush()


def _refusal(into: str, complaints: str) -> UnderstudyError:
    """Return what fits why psql gave up; its transaction was rolled back."""
    lines = [line for line in complaints.splitlines() if line.strip()]
    first = next((line for line in lines if "ERROR: " in line), lines[0] if lines else "psql ended early")
    why = f"{first.partition('ERROR: ')[2].strip() or first}; nothing was changed"
    doing = f"restoring tables into the database {into}"
    if "depend on it" in complaints or "violates foreign key" in complaints:
        return RefusedError(
            doing, why, "Restore the tables together (--table twice), or into another database: --into-database NAME.",
            lines,
        )  # fmt: skip
    return ServerSaidError(doing, why, "Restore them into another database: --into-database NAME.", lines)
