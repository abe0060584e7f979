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


# of every kind that a database can hold: what a dump must bring back
SAMPLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '웹 "앱" 1') THEN
        CREATE ROLE "웹 ""앱"" 1" LOGIN PASSWORD 'of-the-application' CONNECTION LIMIT 7;
        CREATE ROLE readers;
        GRANT readers TO "웹 ""앱"" 1";
        ALTER ROLE "웹 ""앱"" 1" SET work_mem = '7MB';
    END IF;
END $$;
CREATE EXTENSION vector;
CREATE SCHEMA "a b" AUTHORIZATION "웹 ""앱"" 1";
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE topics (id serial PRIMARY KEY, title text NOT NULL UNIQUE, mood mood, embedding vector(3),
    shout text GENERATED ALWAYS AS (upper(title)) STORED);
INSERT INTO topics (title, mood, embedding) SELECT '주제 ' || n, 'good', '[1,2,3]' FROM generate_series(1, 25) n;
CREATE TABLE context_items (id bigint GENERATED ALWAYS AS IDENTITY (START 100), topic int REFERENCES topics,
    weight positive DEFAULT 1, body text);
INSERT INTO context_items (topic, body) SELECT 1 + n % 25, repeat('문', n) FROM generate_series(1, 150) n;
CREATE INDEX by_topic ON context_items (topic);
CREATE TABLE "a b"."표.하나""s" ("열 ""하나"" 1" int, PRIMARY KEY ("열 ""하나"" 1"));
INSERT INTO "a b"."표.하나""s" VALUES (1), (2);
ALTER TABLE "a b"."표.하나""s" OWNER TO "웹 ""앱"" 1";
CREATE TABLE measured (at date, n int) PARTITION BY RANGE (at);
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measured_rest PARTITION OF measured DEFAULT PARTITION BY HASH (n);
CREATE TABLE measured_rest_0 PARTITION OF measured_rest FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO measured SELECT '2025-12-01'::date + n, n FROM generate_series(0, 59) n;
CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW per_topic AS SELECT topic, count(*) FROM context_items GROUP BY 1;
CREATE VIEW good AS SELECT * FROM topics WHERE mood = 'good';
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER noted BEFORE UPDATE ON topics FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE topics ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_it ON topics TO readers USING (true);
GRANT SELECT ON topics TO readers;
COMMENT ON TABLE topics IS 'what''s talked "about"';
CREATE SEQUENCE tickets START 41;
SELECT nextval('tickets'), nextval('tickets');
SELECT lo_from_bytea(0, 'small'), lo_from_bytea(0, convert_to(repeat('x', 3 << 20), 'UTF8'));
CREATE FOREIGN DATA WRAPPER elsewhere;
CREATE SERVER far_away FOREIGN DATA WRAPPER elsewhere;
CREATE FOREIGN TABLE remote (n int) SERVER far_away;
"""


def fill(server: ScratchPostgres, database: str) -> None:
    """Put the sample into a database, and give the database itself settings, rights and a comment."""
    ask(server, SAMPLE, database)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for text in (
            """ALTER DATABASE {} SET search_path = "$user", public, "a b" """,
            "ALTER DATABASE {} CONNECTION LIMIT 30",
            """ALTER ROLE "웹 ""앱"" 1" IN DATABASE {} SET statement_timeout = '9s'""",
            """GRANT CREATE, CONNECT ON DATABASE {} TO "웹 ""앱"" 1" WITH GRANT OPTION""",
            "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC",
            "COMMENT ON DATABASE {} IS 'it''s \"ours\"'",
        ):
            connection.execute(sql.SQL(text).format(sql.Identifier(database)))
