"""Load a whole dump into a new database, which then takes the place of the old one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from understudy.backup.postgres import properties, swap
from understudy.backup.postgres.children import Child, until_done
from understudy.backup.postgres.connection import Connection, Server, short, told
from understudy.backup.postgres.recorded import RecordedDatabase
from understudy.backup.postgres.tools import Access

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
        forget(server, new)
        raise
    finally:
        if not connection.closed:
            swap.unclaim(connection, name)


def forget(server: Server, new: str) -> None:
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
