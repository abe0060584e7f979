"""Databases into a set and back: everything that they hold, on real servers of two major versions."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from backup_of_postgres import restored, taken
from postgres import SAMPLE, ask, create_database, drop_databases, fill, names_of
from understudy.backup.check import check
from understudy.backup.component import RestoreOptions
from understudy.backup.components.postgres import Format, PostgresComponent
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.progress import Silent

WHOLE = RestoreOptions()
# the whole content, as text that two servers of one version tell alike
_DIGEST = """
SELECT md5(string_agg(x, '|' ORDER BY x)) FROM (
    SELECT t::text FROM topics t UNION ALL SELECT c::text FROM context_items c
    UNION ALL SELECT m::text FROM measured m UNION ALL SELECT p::text FROM per_topic p
    UNION ALL SELECT s::text FROM "a b"."표.하나""s" s UNION ALL SELECT md5(lo_get(oid)) FROM pg_largeobject_metadata
    UNION ALL SELECT 'ticket ' || last_value FROM tickets) AS every(x)
"""


@pytest.fixture
def place(postgres_16: ScratchPostgres, postgres_18: ScratchPostgres) -> object:
    """Whatever databases and roles a test leaves behind are gone after it."""
    before = {server.port: names_of(server) for server in (postgres_16, postgres_18)}
    yield
    for server in (postgres_16, postgres_18):
        drop_databases(server, *(name for name in names_of(server) if name not in before[server.port]))
        for role in ('"웹 ""앱"" 1"', "readers"):
            ask(server, f"DROP ROLE IF EXISTS {role}")


@pytest.mark.parametrize("form", ["custom", "directory"])
@pytest.mark.parametrize(("of", "to"), [("16", "18"), ("18", "18")])
def test_everything_that_a_database_holds_comes_back(
    request: pytest.FixtureRequest, place: object, tmp_path: Path, of: str, to: str, form: Format
) -> None:
    source, target = (request.getfixturevalue(f"postgres_{version}") for version in (of, to))
    name = '학교 "데이터"\'s'
    create_database(source, name)
    fill(source, name)
    digest = ask(source, _DIGEST, name)
    backup = taken(source, tmp_path, name, form=form)
    assert check(backup, Silent()) == 0
    drop_databases(source, name)
    ask(source, 'DROP ROLE "웹 ""앱"" 1"')
    ask(source, "DROP ROLE readers")

    component = PostgresComponent(target.url())
    assert component.overwrites(backup, WHOLE) == []
    assert restored(component, backup) == []
    found = component.compare(backup, Silent())
    assert found.differences == ()
    assert found.counted == "25 topics, 60 measured, 150 context_items, 238 rows in 5 tables".replace(
        "25 topics", '2 표.하나"s, 25 topics'
    )
    assert all(each.recorded == each.found for each in found.counts)
    assert ask(target, _DIGEST, name) == digest
    # roles: login, password, limit, settings, membership; rights in and of the database; its settings and comment
    role = ask(target, "SELECT rolcanlogin, rolconnlimit, rolconfig FROM pg_roles WHERE rolname = '웹 \"앱\" 1'")
    assert role == [(True, 7, ["work_mem=7MB"])]
    assert ask(target, "SELECT 1", name) == [(1,)]
    with_password = target.url(name, user='웹 "앱" 1', password="of-the-application")
    import psycopg

    with psycopg.connect(with_password) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("9s",)
        assert connection.execute("SELECT count(*) FROM topics").fetchone() == (25,)
        assert connection.execute("SHOW search_path").fetchone() == ('"$user", public, "a b"',)
    owner = ask(target, "SELECT tableowner FROM pg_tables WHERE schemaname = 'a b'", name)
    assert owner == [('웹 "앱" 1',)]
    row = ask(
        target,
        "SELECT datconnlimit, shobj_description(oid, 'pg_database'), datacl::text[] FROM pg_database "
        "WHERE datname LIKE '학교%'",
    )
    assert row[0][:2] == (30, 'it\'s "ours"')
    assert set(row[0][2]) == {"=c/postgres", '"웹 ""앱"" 1"=C*c*/postgres', "postgres=CTc/postgres"}  # type: ignore[call-overload]


def test_a_set_says_what_a_person_wants_to_know_before_restoring(
    place: object, postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    ask(postgres_18, SAMPLE, database)
    backup = taken(postgres_18, tmp_path, database)
    component = PostgresComponent(postgres_18.url(database))
    assert component.sources(backup) == [f"postgres/{database}.dump (database {database}, 8 tables)"]
    section = backup.metadata.components["postgres"]
    assert section["server"] == {"name": "postgresql", "version": "18.4"}
    assert section["summary"] == f"{database}: 8 tables, 238 rows"
    (recorded,) = section["databases"]
    assert recorded["tables"]["public.measured"] == 60
    assert recorded["tables"]["public.measured_rest"] == recorded["tables"]["public.measured_rest_0"] == 29
    assert recorded["sequences"]["public.tickets"] == [42, True]
    assert recorded["large_objects"]["count"] == 2
    assert set(recorded["extensions"]) == {"plpgsql", "vector"}
    assert "foreign tables are elsewhere" in section["warnings"][0]
    assert "of-the-application" not in (backup.directory / "metadata.json").read_text()
    (said,) = component.overwrites(backup, WHOLE)
    assert f"the database {database} (8 tables, " in said
    component.close()


# what was done to a database, and all that a comparison says of it
CHANGES = [
    (
        """DELETE FROM context_items WHERE id = 100; INSERT INTO topics (title) VALUES ('new');
        DELETE FROM measured WHERE n = 1; CREATE TABLE more (n int); SELECT setval('tickets', 7);
        SELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata; DROP VIEW good; DROP INDEX by_topic;
        DROP TRIGGER noted ON topics; DROP POLICY all_of_it ON topics""",
        {
            "public.context_items has 149 rows, the set recorded 150",
            "public.topics has 26 rows, the set recorded 25",
            "public.measured has 59 rows, the set recorded 60",
            "public.measured_2025 has 30 rows, the set recorded 31",
            "the table public.more is not in the set",
            "the sequence public.tickets stands at 7, the set recorded 42",
            "the sequence public.topics_id_seq stands at 26, the set recorded 25",
            "it has 1 large object, the set recorded 2",
            "the view public.good is missing",
            "it has 3 indexes, the set recorded 4",
            "it has 0 triggers, the set recorded 1",
            "it has 0 policies, the set recorded 1",
        },
    ),
    (
        """DROP MATERIALIZED VIEW per_topic; DROP TABLE context_items; DROP FOREIGN TABLE remote;
        SELECT lo_put(max(oid), 2 << 20, 'y') FROM pg_largeobject_metadata; DROP EXTENSION vector CASCADE""",
        {
            "the materialized view public.per_topic is missing",
            "the foreign table public.remote is missing",
            "the view public.good is missing",
            "the table public.context_items is missing (150 rows recorded)",
            "the sequence public.context_items_id_seq is missing",
            "the contents of its 2 large objects are not those that were recorded",
            "the extension vector is missing",
            "it has 3 indexes, the set recorded 4",
            "it has 3 constraints, the set recorded 4",
        },
    ),
]


def test_a_comparison_names_each_thing_that_differs(
    place: object, postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    ask(postgres_18, SAMPLE, database)
    backup = taken(postgres_18, tmp_path, database)
    component = PostgresComponent(postgres_18.url("postgres"))
    for change, expected in CHANGES:
        assert restored(component, backup) == []
        assert component.compare(backup, Silent()).differences == ()
        ask(postgres_18, change, database)
        found = component.compare(backup, Silent()).differences
        assert {line.removeprefix(f"PostgreSQL {database}: ") for line in found} == expected
    drop_databases(postgres_18, database)
    assert component.compare(backup, Silent()).differences == (f"PostgreSQL {database}: the database is missing",)
    component.close()


def test_a_set_is_one_moment_of_a_database_that_is_written_to(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    from support import meanwhile

    ask(postgres_18, "CREATE TABLE a (n serial); CREATE TABLE b (n int)", database)
    both = "WITH new AS (INSERT INTO a DEFAULT VALUES RETURNING n) INSERT INTO b SELECT n FROM new"
    with meanwhile(lambda: ask(postgres_18, both, database)):
        backups = [taken(postgres_18, tmp_path / str(n), database) for n in range(3)]
    component = PostgresComponent(postgres_18.url())
    for backup in backups:
        tables = backup.metadata.components["postgres"]["databases"][0]["tables"]
        assert tables["public.a"] == tables["public.b"] > 0
        assert restored(component, backup) == []
        assert component.compare(backup, Silent()).differences == ()


def test_several_databases_whose_names_are_alike_have_a_dump_each(
    place: object, postgres_18: ScratchPostgres, tmp_path: Path
) -> None:
    databases = ["shop", "Shop", "shop ", "db-000", "샵", "s" * 63]
    for number, name in enumerate(databases):
        create_database(postgres_18, name)
        ask(postgres_18, f"CREATE TABLE t AS SELECT generate_series(1, {number + 1}) AS n", name)
    backup = taken(postgres_18, tmp_path, *databases)
    paths = [entry.path for entry in backup.metadata.files if entry.path.endswith(".dump")]
    assert len({path.lower() for path in paths}) == len(databases)
    assert all(len(path) <= 35 for path in paths)
    drop_databases(postgres_18, *databases)
    component = PostgresComponent(postgres_18.url())
    assert restored(component, backup) == []
    assert [ask(postgres_18, "SELECT count(*) FROM t", name) for name in databases] == [[(n + 1,)] for n in range(6)]
    only = PostgresComponent(postgres_18.url(), databases=["샵"])
    assert [line.partition("(")[2] for line in only.sources(backup)] == ["database 샵, 1 table)"]


def test_clients_of_the_old_database_are_thrown_out_and_find_the_new_one(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    import psycopg

    from support import meanwhile

    ask(postgres_18, "CREATE TABLE t AS SELECT 1 AS n", database)
    backup = taken(postgres_18, tmp_path, database)
    ask(postgres_18, "UPDATE t SET n = 2", database)
    idle = [psycopg.connect(postgres_18.url(database)) for _ in range(5)]

    def come_back() -> None:  # an application's pool: connects again at once, whatever happens
        try:
            ask(postgres_18, "SELECT pg_sleep(0.02)", database)
        except psycopg.Error:
            return

    with meanwhile(come_back), meanwhile(come_back):
        assert restored(PostgresComponent(postgres_18.url()), backup) == []
    assert ask(postgres_18, "SELECT n FROM t", database) == [(1,)]
    with pytest.raises(psycopg.OperationalError):
        idle[0].execute("SELECT 1")
    for connection in idle:
        connection.close()
    assert names_of(postgres_18) == sorted([database, "postgres"])


def test_the_dump_is_what_pg_restore_reads_by_hand_and_the_roles_are_sql(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    ask(postgres_18, "CREATE TABLE t AS SELECT 1 AS n", database)
    backup = taken(postgres_18, tmp_path, database)
    dump = backup.directory / "postgres" / f"{database}.dump"
    listed = subprocess.run(
        [postgres_18.bin / "pg_restore", "--list", dump], capture_output=True, text=True, check=True
    ).stdout
    assert "TABLE DATA public t postgres" in listed
    assert "CREATE ROLE postgres" in (backup.directory / "postgres/globals.sql").read_text()
    modes = {path.stat().st_mode & 0o077 for path in backup.directory.rglob("*")}
    assert modes == {0}


@pytest.mark.parametrize("form", ["custom", "directory"])
def test_a_dump_that_cannot_be_read_to_its_end_is_found_without_a_server(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path, form: Format
) -> None:
    from understudy.errors import IntegrityError

    ask(postgres_18, "CREATE TABLE t AS SELECT md5(n::text) FROM generate_series(1, 5000) n", database)
    backup = taken(postgres_18, tmp_path, database, form=form)
    PostgresComponent.read_through(backup, Silent())
    largest = max((backup.directory / "postgres").rglob("*.d*"), key=lambda path: path.stat().st_size * path.is_file())
    data = largest.read_bytes()

    half = len(data) // 2
    for damaged in (data[:half], data[:half] + bytes(64) + data[half + 64 :]):
        largest.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="cannot read it"):
            PostgresComponent.read_through(backup, Silent())
    largest.write_bytes(data)
    assert hashlib.sha256(largest.read_bytes()).hexdigest() in {entry.sha256 for entry in backup.metadata.files}
    PostgresComponent.read_through(backup, Silent())
