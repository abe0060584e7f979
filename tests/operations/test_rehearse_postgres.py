"""Rehearsals of databases: in a server started for it, or in one that was given and gets back to what it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Typed
from postgres import ask, create_database, drop_databases, names_of
from rehearsals import altered
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.backup.take import take
from understudy.lab.servers.postgres import ScratchPostgres, scratch_postgres
from understudy.operations.rehearsal.record import last_passed, recorded
from understudy.progress import Silent

APP = "scholaria"
OWNER = "scholaria_owner"
TOPICS, ITEMS = 25, 150
URLS = 'test "$DATABASE_URL" = "$REHEARSAL_POSTGRES_URL" && echo $DATABASE_URL'
SECRET = "planted-pg-secret"
FILL = f"""
    CREATE ROLE {OWNER} LOGIN PASSWORD '{SECRET}';
    GRANT ALL ON SCHEMA public TO {OWNER};
    SET ROLE {OWNER};
    CREATE TABLE topics (id serial PRIMARY KEY, name text);
    CREATE TABLE context_items (id serial PRIMARY KEY, topic int REFERENCES topics, text text);
    INSERT INTO topics (name) SELECT '주제 ' || n FROM generate_series(1, {TOPICS}) n;
    INSERT INTO context_items (topic, text) SELECT n % {TOPICS} + 1, 'x' FROM generate_series(1, {ITEMS}) n;
"""


@pytest.fixture(scope="module")
def production() -> Iterator[ScratchPostgres]:
    """A server that is backed up."""
    with scratch_postgres(16) as server:
        create_database(server, APP)
        ask(server, FILL, APP)
        yield server


@pytest.fixture(scope="module")
def spare() -> Iterator[ScratchPostgres]:
    """A server that is given for rehearsals, newer than production."""
    with scratch_postgres(18) as server:
        yield server


def taken(server: ScratchPostgres, where: Path) -> BackupSet:
    with contextlib.closing(PostgresComponent(server.url(APP))) as component:
        return take([component], LocalRepository(where), None, "local", Silent()).backup


@pytest.fixture(scope="module")
def rows(production: ScratchPostgres, tmp_path_factory: pytest.TempPathFactory) -> BackupSet:
    return taken(production, tmp_path_factory.mktemp("sets"))


def checks(*each: dict[str, Any]) -> dict[str, str]:
    return {"REHEARSE_CHECKS": json.dumps(each)}


def state(server: ScratchPostgres) -> list[Any]:
    """What no rehearsal may change: rows, databases, roles and how much was written."""
    return [
        ask(server, "SELECT * FROM topics ORDER BY 1", APP),
        names_of(server),
        ask(server, "SELECT rolname FROM pg_roles ORDER BY 1"),
        ask(server, "SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = 'scholaria'"),
    ]


def test_rows_are_restored_counted_and_asked(
    typed: Typed, production: ScratchPostgres, rows: BackupSet, tmp_path: Path
) -> None:
    before = state(production)
    done = typed(
        "rehearse", str(rows.directory), "--out-dir", str(tmp_path),
        env={"POSTGRES_URL": production.url(APP), **checks(
            {"name": "topics", "sql": "SELECT count(*) FROM topics", "expect": TOPICS},
            {"name": "names", "sql": "SELECT name FROM topics WHERE name LIKE '주제%'", "at_least": TOPICS},
            {"name": "owner", "sql": "SELECT tableowner FROM pg_tables WHERE tablename = 'topics'", "expect": OWNER},
            {"name": "url", "run": ["sh", "-c", URLS]},
        )},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"     - PostgreSQL: {TOPICS} topics, {ITEMS} context_items" in done.stdout
    assert f"[OK] Check 'topics': {TOPICS} ({TOPICS} expected)" in done.stdout
    assert "[OK] Check 'url': postgresql://postgres:***@127.0.0.1:" in done.stdout
    assert done.stdout.count("[OK] Check") == 4
    assert state(production) == before
    data = json.loads(next((tmp_path / "rehearsals").glob("*.json")).read_text())
    assert data["components"][0]["server"].startswith("PostgreSQL 16.")  # the smallest that is not older than the set's
    assert {"what": "public.topics", "recorded": TOPICS, "found": TOPICS} in data["components"][0]["counts"]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text(errors="replace")


@pytest.mark.parametrize("form", ["custom", "directory"])
def test_a_set_taken_for_it_into_a_relative_directory(
    typed: Typed, production: ScratchPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = typed("rehearse", "--take", env={"POSTGRES_URL": production.url(APP), "POSTGRES_FORMAT": form})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("[OK] Backup created: backups/")
    assert f"     - PostgreSQL: {TOPICS} topics, {ITEMS} context_items" in done.stdout


def test_of_a_set_that_lacks_one_row_it_fails_and_names_the_table(
    typed: Typed, production: ScratchPostgres, rows: BackupSet, tmp_path: Path
) -> None:
    ask(production, f"DELETE FROM context_items WHERE id = {ITEMS}", APP)
    try:
        fewer = taken(production, tmp_path / "fewer")
    finally:
        ask(production, f"INSERT INTO context_items VALUES ({ITEMS}, 1, 'x')", APP)
    path = f"postgres/{APP}.dump"
    bad = altered(rows, tmp_path / "bad", {path: lambda _: (fewer.directory / path).read_bytes()})
    done = typed("rehearse", str(bad.directory), "--out-dir", str(tmp_path))
    assert done.returncode == 15, done.stdout + done.stderr
    assert "[FAILED] Data integrity:" in done.stdout
    assert f"public.context_items has {ITEMS - 1} rows, the set recorded {ITEMS}" in done.stdout
    assert last_passed(tmp_path) is None


def test_checks_in_sql_that_fail_are_late_or_make_no_sense(
    typed: Typed, production: ScratchPostgres, rows: BackupSet, tmp_path: Path
) -> None:
    words = ("rehearse", str(rows.directory), "--out-dir", str(tmp_path), "--json")
    done = typed(*words, env=checks({"name": "elsewhere", "sql": "SELECT 1", "database": "other"}))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "'elsewhere'" in done.stderr
    assert not list(recorded(tmp_path))
    done = typed(*words, env=checks(
        {"name": "none", "sql": "SELECT id FROM topics WHERE id < 0", "at_least": 1},
        {"name": "wrong", "sql": "SELECT nothing FROM topics"},
        {"name": "late", "sql": "SELECT pg_sleep(60)", "timeout_s": 0.2},
        {"name": "percent", "sql": "SELECT 7 % 4", "database": APP, "expect": 3},
    ))  # fmt: skip
    assert done.returncode == 15, done.stdout + done.stderr
    said = {check["name"]: (check["verdict"], check["text"]) for check in json.loads(done.stdout)["checks"]}
    assert said["none"] == ("failed", "None (at least 1)")
    assert said["wrong"][0] == "failed"
    assert "nothing" in said["wrong"][1]
    assert said["late"] == ("unknown", "no answer within 0.2 s")
    assert said["percent"] == ("passed", "3 (3 expected)")


def test_a_server_that_is_given_gets_back_to_what_it_was(
    typed: Typed,
    rows: BackupSet,
    spare: ScratchPostgres,
    tmp_path: Path,
) -> None:
    env = {"REHEARSE_POSTGRES_URL": spare.url()}
    before = names_of(spare), ask(spare, "SELECT rolname FROM pg_roles ORDER BY 1")
    done = typed("rehearse", str(rows.directory), "--out-dir", str(tmp_path), env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (names_of(spare), ask(spare, "SELECT rolname FROM pg_roles ORDER BY 1")) == before
    create_database(spare, APP)
    try:
        done = typed("rehearse", str(rows.directory), "--out-dir", str(tmp_path), env=env)
        assert done.returncode == 14, done.stdout + done.stderr
        assert APP in done.stderr
        assert APP in names_of(spare)
    finally:
        drop_databases(spare, APP)


def test_without_a_server_that_is_new_enough_or_a_client_nothing_is_known(
    typed: Typed, rows: BackupSet, tmp_path: Path
) -> None:
    section = {**rows.metadata.components["postgres"], "server": {"name": "postgresql", "version": "99.1"}}
    newer = altered(rows, tmp_path / "newer", {}, components={"postgres": section})
    done = typed("rehearse", str(newer.directory), "--out-dir", str(tmp_path))
    assert done.returncode == 15, done.stdout + done.stderr
    assert "[UNKNOWN] PostgreSQL: not rehearsed: a PostgreSQL 99 or newer is needed" in done.stdout
    (tmp_path / "psycopg.py").write_text("raise ImportError('not here', name='psycopg')\n")
    done = typed("rehearse", str(rows.directory), "--out-dir", str(tmp_path), env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 15, done.stdout + done.stderr
    assert "[UNKNOWN] PostgreSQL: not rehearsed: psycopg is not installed" in done.stdout
    assert last_passed(tmp_path) is None
