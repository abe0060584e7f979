"""Names of every kind: of tables in the metadata, of files, of databases that stand beside another for a while."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from backup_of_postgres import restored, taken
from postgres import ask, create_database, drop_databases
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.postgres.names import beside, file_stems, is_beside, parts, qualified
from understudy.backup.set import safe_path
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.progress import Silent

# whatever PostgreSQL takes: all but NUL, at most 63 bytes
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63).filter(
    lambda name: len(name.encode()) <= 63
)
NASTY = NAMES | st.text("ab.\"' \\\n;한-$", min_size=1, max_size=12)


@given(NASTY, NASTY)
def test_what_stands_for_a_table_names_it_exactly(schema: str, name: str) -> None:
    assert parts(qualified(schema, name)) == (schema, name)


@given(st.lists(NASTY | st.sampled_from(["a", "A", "db-000", "db-1", "..", "a..b", "-x", "x" * 40]), unique=True))
def test_every_database_has_a_file_of_its_own_with_a_short_and_safe_name(databases: list[str]) -> None:
    for form, ending in (("custom", ".dump"), ("directory", ".d/1234567.dat.gz")):
        stems = file_stems(databases, form)
        assert sorted(stems) == sorted(databases)
        paths = [f"postgres/{stem}{ending}" for stem in stems.values()]
        assert all(safe_path(path) and len(path) <= 35 for path in paths)
        assert len({path.lower() for path in paths}) == len(databases)


@given(NASTY, NASTY)
def test_a_name_beside_another_fits_and_is_known_again(name: str, other: str) -> None:
    found = beside(name, "restoring", secrets.token_hex(4))
    assert len(found.encode()) <= 63
    assert is_beside(name, found, "restoring")
    assert not is_beside(name, found, "replaced")
    assert not is_beside(name, name, "restoring")
    if other.encode()[:41] != name.encode()[:41]:
        assert not is_beside(other, found, "restoring")


def _round_trip(server: ScratchPostgres, schema: str, names: list[str], role: str) -> None:
    """A database, a schema, a role, tables and columns of these names."""
    database = beside(names[0], "named", secrets.token_hex(4))
    create_database(server, database)
    role = f"r{role}"[:20]  # `pg_…`, `public` and `none` are PostgreSQL's own
    schema = f"s{schema}"[:20]
    owner, space = sql.Identifier(role), sql.Identifier(schema)
    ask(server, sql.SQL("CREATE ROLE {}").format(owner).as_string(None))
    try:
        ask(server, sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(space, owner).as_string(None), database)
        for number, name in enumerate(names):
            table, column = sql.Identifier(schema, name), sql.Identifier(name)
            made = sql.SQL("CREATE TABLE {} ({} serial PRIMARY KEY)").format(table, column)
            filled = sql.SQL("INSERT INTO {} SELECT generate_series(1, {})").format(table, number + 1)
            given_to = sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, owner)
            ask(server, sql.SQL("; ").join([made, filled, given_to]).as_string(None), database)
        with tempfile.TemporaryDirectory() as folder:
            backup = taken(server, Path(folder), database)
            drop_databases(server, database)
            ask(server, sql.SQL("DROP ROLE {}").format(owner).as_string(None))
            component = PostgresComponent(server.url())
            assert restored(component, backup) == []
            assert component.compare(backup, Silent()).differences == ()
            recorded = backup.metadata.components["postgres"]["databases"][0]
            assert {parts(title): rows for title, rows in recorded["tables"].items()} == {
                (schema, name): number + 1 for number, name in enumerate(names)
            }
            assert role in recorded["roles"]
    finally:
        drop_databases(server, database)
        ask(server, sql.SQL("DROP ROLE IF EXISTS {}").format(owner).as_string(None))


# a table's sequence and key have its name too, cut to 63 bytes, which PostgreSQL makes different by itself
_TABLES = st.lists(NASTY.filter(lambda name: len(name.encode()) <= 50), min_size=1, max_size=5, unique=True)


@given(schema=NASTY, names=_TABLES, role=NASTY)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_of_every_kind_come_back(postgres_18: ScratchPostgres, schema: str, names: list[str], role: str) -> None:
    _round_trip(postgres_18, schema, names, role)


@pytest.mark.soak
@given(schema=NASTY, names=_TABLES, role=NASTY)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_of_every_kind_come_back_often(
    postgres_18: ScratchPostgres, schema: str, names: list[str], role: str
) -> None:
    _round_trip(postgres_18, schema, names, role)


def test_a_name_of_ten_fits_the_directory_format_no_more() -> None:
    assert file_stems(["0123456789", "012345678"], "directory") == {"012345678": "012345678", "0123456789": "db-000"}
