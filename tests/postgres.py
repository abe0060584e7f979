"""Real PostgreSQL servers for tests: one of each version a session, and databases of a test's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from understudy.lab.servers.postgres import ScratchPostgres, scratch_postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_16() -> Iterator[ScratchPostgres]:
    """A PostgreSQL 16 server, for the whole session."""
    with scratch_postgres(16) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_18() -> Iterator[ScratchPostgres]:
    """A PostgreSQL 18 server, for the whole session."""
    with scratch_postgres(18) as server:
        yield server


@pytest.fixture
def database(postgres_18: ScratchPostgres) -> Iterator[str]:
    """An empty database on the newer server, dropped with everything that came of it."""
    name = f"app{next(_numbers)}"
    create_database(postgres_18, name)
    yield name
    drop_databases(postgres_18, name)


def ask(server: ScratchPostgres, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
    """Run one or more statements; return the rows of the last."""
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        while cursor.nextset():
            pass
        return list(cursor.fetchall()) if cursor.description else []


def create_database(server: ScratchPostgres, name: str) -> None:
    """Create an empty database of any name."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def drop_databases(server: ScratchPostgres, *names: str) -> None:
    """Drop databases, whether or not they are there."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def names_of(server: ScratchPostgres) -> list[str]:
    """Return the databases that are there, templates left out."""
    with psycopg.connect(server.url()) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1").fetchall()
    return [name for (name,) in rows]


def environment(server: ScratchPostgres, database: str, **more: str) -> dict[str, str]:
    """Return what a command line needs to find this database."""
    return {**os.environ, "POSTGRES_URL": server.url(database), **more}
