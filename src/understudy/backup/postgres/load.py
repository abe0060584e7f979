"""Load a dump into a database: everything into a new one that then takes its place, or some tables at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from understudy.backup.postgres import properties, swap, toc
from understudy.backup.postgres.children import Child, until_done
from understudy.backup.postgres.connection import Connection, Server, short, told
from understudy.backup.postgres.recorded import RecordedDatabase
from understudy.backup.postgres.tools import Access
from understudy.errors import RefusedError, ServerSaidError

Advance = Callable[[int], None]
# a failure of these leaves no data out; everything else does, or might
_HARMLESS = re.compile(r"(GRANT|REVOKE|COMMENT ON|SECURITY LABEL|ALTER DEFAULT PRIVILEGES|SET) ")
_LOOK_EVERY_S = 0.5


def load_database(
    server: Server, access: Access, connection: Connection, database: RecordedDatabase, name: str, dump: Path,
    jobs: int, advance: Advance, say: Callable[[str], None], keep_locale: bool = True,
) -> list[str]:  # fmt: skip
    """Restore a database under `name`, in the place of one that may stand there; return what failed.

    Where data failed to load, what stood there stays as it was.

    Raises:
        UnderstudyError: the server refused; what stood there stays as it was.
    """
    swap.claim(connection, name)
    for left in swap.sweep(connection, name):
        say(f"Dropped {left}, which an interrupted restore had left behind.")
    new = swap.fresh(name)
    with told(f"creating a database for {name}", "Use a role with CREATEDB."):
        connection.execute(properties.creation(new, database.properties, keep_locale))
    try:
        child = access.children.start(
            [access.program("pg_restore"), f"--jobs={jobs}", "-d", access.database(new), dump]
        )
        _watch(child, connection, new, advance)
        failures = read_failures(child)
        if child.process.returncode and not failures:
            failures = [Failure(f"pg_restore ended with {child.process.returncode}", True)]
        if any(each.serious for each in failures):
            swap.drop(connection, new)
            return [f"{name}: {each.text}" for each in failures] + [
                f"{name}: not replaced, because data failed to load; what stood there is as it was"
            ]
        with told(f"analysing {name}"), server.connect(new) as inside:
            inside.execute("ANALYZE")
        missed = properties.apply(connection, new, database.properties)
        missed += _give_to(connection, new, database.properties["owner"])
        if told_of := swap.swap(server, connection, new, name):
            say(f"Warning: {told_of}")
        return [f"{name}: {text}" for text in (*(each.text for each in failures), *missed)]
    except BaseException:
        _forget(server, new)
        raise
    finally:
        if not connection.closed:
            swap.unclaim(connection, name)


def _forget(server: Server, new: str) -> None:
    """Drop a half-loaded database, where the server still answers; the next restore does it otherwise."""
    try:
        with swap.maintenance(server) as connection:
            swap.drop(connection, new)
    except Exception:  # noqa: BLE001 - the error that brought us here is the one to be told
        return


def _give_to(connection: Connection, name: str, owner: str) -> list[str]:
    try:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(owner)))
    except psycopg.Error as error:
        return [f"the owner {owner}: {short(error)}"]
    return []


def _watch(child: Child, connection: Connection, name: str, advance: Advance) -> None:
    """Tell how far it is by the size of the database."""
    seen = 0
    for _ in until_done(child, _LOOK_EVERY_S):
        row = connection.execute("SELECT pg_database_size(oid) FROM pg_database WHERE datname = %s", [name]).fetchone()
        size = row[0] if row else 0
        advance(max(size - seen, 0))
        seen = max(size, seen)


class Failure:
    """One thing that pg_restore could not do; serious where data may be missing for it."""

    def __init__(self, text: str, serious: bool) -> None:
        self.text = text
        self.serious = serious


def read_failures(child: Child) -> list[Failure]:
    """Return what pg_restore complained of, one line each, with the entry and the command that it belongs to."""
    found: list[Failure] = []
    entry = ""
    text: list[str] = []
    command = ""

    def close() -> None:
        if text:
            whole = " ".join(" ".join(text).split())
            asked = f" (in: {' '.join(command.split())[:200]})" if command else ""
            place = f"{entry}: " if entry else ""
            found.append(Failure(f"{place}{whole}{asked}", not _HARMLESS.match(command)))

    for line in child.complaints().splitlines():
        said = line.partition("pg_restore: ")[2]
        if said.startswith("error: "):
            close()
            text, command = [said.removeprefix("error: ")], ""
        elif said:
            close()
            text, command = [], ""
            if said.startswith("from TOC entry"):
                entry = said.partition("; ")[2]
        elif text and line.startswith("Command was: "):
            command = line.removeprefix("Command was: ")
        elif text and not command:
            text.append(line)
    close()
    return found


def load_into(
    server: Server, access: Access, connection: Connection, database: RecordedDatabase, tables: list[tuple[str, str]],
    name: str, dump: Path, advance: Advance, keep_locale: bool = True,
) -> None:  # fmt: skip
    """Restore tables in one transaction: dropped where they stand in `name`, and made again as the set has them.

    Schemas and extensions that the database lacks and the tables need come along. A database that is not there is
    created with everything that the tables need, and has its name when they are in it.

    Raises:
        RefusedError: something else depends on a table; nothing was changed.
        ServerSaidError: another thing failed; nothing was changed.
    """
    if name in swap.names(connection):
        with server.connect(name) as inside:
            schemas = {one for (one,) in inside.execute("SELECT nspname FROM pg_namespace").fetchall()}
            extensions = {one for (one,) in inside.execute("SELECT extname FROM pg_extension").fetchall()}
        _load_tables(access, database, tables, name, dump, (schemas, extensions), advance)
        return
    swap.claim(connection, name)
    swap.sweep(connection, name)
    new = swap.fresh(name)
    connection.execute(properties.creation(new, database.properties, keep_locale))
    try:
        _load_tables(access, database, tables, new, dump, None, advance)
        swap.swap(server, connection, new, name)
    except BaseException:
        _forget(server, new)
        raise
    finally:
        if not connection.closed:
            swap.unclaim(connection, name)


def _load_tables(
    access: Access, database: RecordedDatabase, tables: list[tuple[str, str]], into: str, dump: Path,
    has: tuple[set[str], set[str]] | None, advance: Advance,
) -> None:  # fmt: skip
    """Load them; `has` are the schemas and extensions that are there, None for a new database."""
    found = toc.entries(access, dump)
    chosen = toc.select(found, tables, (*database.roles, database.properties["owner"]))
    for number, entry in toc.dependencies(found, chosen).items():
        title = entry.text.removeprefix("- ")
        if (
            has is None
            or (entry.kind == "SCHEMA" and title.rpartition(" ")[0] not in has[0])
            or (entry.kind == "EXTENSION" and title.rstrip() not in has[1])
        ):
            chosen[number] = entry
    listed = toc.write_list(chosen.values(), found, access.children.directory / "tables")
    argv: list[Any] = [access.program("pg_restore"), "--single-transaction", f"--use-list={listed}"]
    argv += [] if has is None else ["--clean", "--if-exists"]
    child = access.children.start([*argv, "-d", access.database(into), dump])
    for _ in until_done(child):
        advance(0)
    if child.process.returncode:
        _refuse_tables(into, child)


def _refuse_tables(into: str, child: Child) -> None:
    """Raise what fits why pg_restore gave up; its transaction was rolled back."""
    failures = [each.text for each in read_failures(child)]
    doing = f"restoring tables into the database {into}"
    why = failures[0] if failures else f"pg_restore ended with {child.process.returncode}"
    if "depend on it" in why or "violates foreign key" in why:
        raise RefusedError(
            doing, f"{why}; nothing was changed",
            "Restore the tables together (--table twice), or into another database: --into-database NAME.", failures,
        )  # fmt: skip
    raise ServerSaidError(
        doing, f"{why}; nothing was changed", "Restore them into another database: --into-database NAME.", failures
    )
