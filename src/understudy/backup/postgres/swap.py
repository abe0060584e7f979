"""A new database takes the place of another in one moment: before it stands the old one, after it the new one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import sql

from understudy.backup.postgres.connection import Connection, Server, short, told
from understudy.backup.postgres.names import beside, is_beside
from understudy.errors import NotFoundError, RefusedError

RESTORING, REPLACED = "restoring", "replaced"
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s) AND pid <> pg_backend_pid()"
)
_EVERY_S = 0.1
PATIENCE_S = 15.0


def maintenance(server: Server, avoid: Sequence[str] = ()) -> Connection:
    """Return a connection to a database that none of `avoid` is: nobody can rename the one that he is in.

    Raises:
        NotFoundError: there is none.
        UnreachableError: nobody answers.
    """
    for name in ("postgres", "template1", server.database):
        if name in avoid:
            continue
        try:
            return server.connect(name)
        except NotFoundError:
            continue
    raise NotFoundError(
        f"looking for a database to work from at {server}", "there is neither `postgres` nor `template1`",
        "Create one: createdb postgres",
    )  # fmt: skip


def names(connection: Connection) -> list[str]:
    """Return the names of all databases."""
    return [name for (name,) in connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()]


def claim(connection: Connection, name: str) -> None:
    """Make sure that nobody else restores this database now; the server frees it when we are gone.

    It notices that only when it has done what it was last asked; for that long a new restore waits.

    Raises:
        RefusedError: somebody does.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        row = connection.execute(
            "SELECT pg_try_advisory_lock(hashtextextended('understudy restore ' || %s, 0))", [name]
        ).fetchone()
        if row and row[0]:
            return
        if time.monotonic() > deadline:
            raise RefusedError(
                f"restoring the database {name}", "another restore of it is at work", "Wait until it has ended."
            )
        time.sleep(_EVERY_S)


def unclaim(connection: Connection, name: str) -> None:
    """Let others restore it."""
    connection.execute("SELECT pg_advisory_unlock(hashtextextended('understudy restore ' || %s, 0))", [name])


def sweep(connection: Connection, name: str) -> list[str]:
    """Drop what crashed restores of this database left behind, and return their names."""
    left = [
        found for found in names(connection) if is_beside(name, found, RESTORING) or is_beside(name, found, REPLACED)
    ]
    for found in left:
        drop(connection, found)
    return left


def drop(connection: Connection, name: str) -> None:
    """Drop a database and whoever is in it. Raises `ServerSaidError` where it cannot be."""
    with told(f"dropping the database {name}", f'Drop it by hand: DROP DATABASE "{name}" WITH (FORCE);'):
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def fresh(name: str) -> str:
    """Return a name for the database that is to take this one's place."""
    return beside(name, RESTORING, secrets.token_hex(4))


def swap(server: Server, connection: Connection, new: str, name: str) -> str:
    """Put `new` in the place of `name`, whose clients are thrown out; return what could not be dropped, or nothing.

    Both are renamed in one transaction. While it waits for the last clients of the old one, which PostgreSQL does
    under a lock that keeps new ones out, a second connection ends them.

    Raises:
        NotAuthorisedError: we may neither rename nor end the clients.
        ServerSaidError: a client would not go.
    """
    old = beside(name, REPLACED, new[-8:])
    stands = name in names(connection)
    hint = f"Stop the applications that use {name}, or use a role that may end their connections."
    with told(f"putting the restored database in the place of {name}", hint), connection.transaction():
        if stands:
            _rename(server, connection, name, old)
        _rename(server, connection, new, name)
    if not stands:
        return ""
    try:
        drop(connection, old)
    except Exception as error:  # noqa: BLE001 - the restore is done; what is left is told
        return f"The database that was replaced is still there as {old}: {short(error)}"
    return ""


def _rename(server: Server, connection: Connection, name: str, to: str) -> None:
    statement = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to))
    with ThreadPoolExecutor(1) as beside_us, server.connect(connection.info.dbname) as other:
        _end_clients(other, name)
        renaming = beside_us.submit(connection.execute, statement)
        while not renaming.done():
            try:
                renaming.exception(_EVERY_S)
            except TimeoutError:
                _end_clients(other, name)
        renaming.result()


def _end_clients(connection: Connection, name: str) -> None:
    try:
        connection.execute(_TERMINATE, [[name]])
    except psycopg.errors.InsufficientPrivilege:
        return  # the rename then says who is in the way
