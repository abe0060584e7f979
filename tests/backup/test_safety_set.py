"""What a restore replaces is kept first, exactly: databases, tables, collections, aliases and functions alike."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import Typed
from postgres import ask, create_database, drop_databases
from qdrant_standin import StandIn, filled, standin
from stack import Subject
from understudy.lab import Lab
from understudy.lab.sample import load_function
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.valkey.router import Router

_LIKE_A_TABLE = {
    "large object": "SELECT lo_from_bytea(0, 'precious')",
    "materialized view": "CREATE MATERIALIZED VIEW found AS SELECT 1",
    "view": "CREATE VIEW found AS SELECT 1",
    "sequence": "CREATE SEQUENCE found",
    "function": "CREATE FUNCTION found() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "enum": "CREATE TYPE found AS ENUM ('a')",
    "composite type": "CREATE TYPE found AS (n int)",
    "schema": "CREATE SCHEMA found",
    "foreign data wrapper": "CREATE FOREIGN DATA WRAPPER found",
    "publication": "CREATE PUBLICATION found",
    "event trigger": "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    " CREATE EVENT TRIGGER found ON sql_drop EXECUTE FUNCTION f(); DROP FUNCTION IF EXISTS none",
}


@pytest.fixture
def databases(postgres_18: ScratchPostgres) -> Iterator[tuple[str, str, str]]:
    names = ("kept_app", "kept_other", "kept_third")
    drop_databases(postgres_18, *names)
    for name in names:
        create_database(postgres_18, name)
        ask(postgres_18, f"CREATE TABLE t AS SELECT '{name} then' AS text", name)
    yield names
    drop_databases(postgres_18, *names)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standin(tmp_path_factory.mktemp("kept")) as found:
        yield found


def restored(done: subprocess.CompletedProcess[str]) -> str | None:
    """The safety set that a restore named."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Kept what is there now: (\S+)\.", done.stderr)
    return found[1] if found else None


def held(sets: Path, name: str, component: str, kind: str) -> list[str]:
    metadata = json.loads((sets / name / "metadata.json").read_text())
    assert metadata["tier"] == "safety"
    return sorted(row["name"] for row in metadata["components"][component][kind])


def test_the_database_that_is_replaced_is_the_one_that_is_kept(
    typed: Typed, postgres_18: ScratchPostgres, databases: tuple[str, str, str], tmp_path: Path
) -> None:
    app, other, third = databases
    env = {"POSTGRES_URL": postgres_18.url(app), "BACKUP_DIR": str(tmp_path)}
    assert typed("backup", "--component", "postgres", env={**env, "POSTGRES_DATABASES": other}).returncode == 0
    for name in databases:
        ask(postgres_18, f"UPDATE t SET text = '{name} now'", name)
    first = restored(typed("restore", "--force", "latest", env=env))
    assert first
    assert held(tmp_path, first, "postgres", "databases") == [other]
    assert ask(postgres_18, "SELECT text FROM t", other) == [(f"{other} then",)]
    assert restored(typed("restore", "--force", "--no-safety-set", first, env=env)) is None
    assert ask(postgres_18, "SELECT text FROM t", other) == [(f"{other} now",)]

    dry = typed("restore", "--dry-run", "--into-database", third, "latest", env=env)
    assert re.search(
        rf"^\[DRY RUN\] This would replace PostgreSQL \S+: the database {third} \(1 table, ", dry.stdout, re.MULTILINE
    )
    into = restored(typed("restore", "--force", "--into-database", third, "latest", env=env))
    assert into
    assert held(tmp_path, into, "postgres", "databases") == [third]
    assert ask(postgres_18, "SELECT text FROM t", third) == [(f"{other} then",)]
    table = restored(typed("restore", "--force", "--table", "t", "latest", env=env))
    assert table
    assert held(tmp_path, table, "postgres", "databases") == [other]
    assert ask(postgres_18, "SELECT text FROM t", app) == [(f"{app} now",)]


def test_a_restore_that_is_limited_to_a_database_says_so_and_keeps_only_that(
    typed: Typed, postgres_18: ScratchPostgres, databases: tuple[str, str, str], tmp_path: Path
) -> None:
    app, other, _ = databases
    both = {"POSTGRES_URL": postgres_18.url(app), "BACKUP_DIR": str(tmp_path), "POSTGRES_DATABASES": f"{app},{other}"}
    assert typed("backup", "--component", "postgres", env=both).returncode == 0
    ask(postgres_18, "UPDATE t SET text = 'now'", app)
    ask(postgres_18, "UPDATE t SET text = 'now'", other)
    done = typed("restore", "--force", "latest", env={**both, "POSTGRES_DATABASES": other})
    assert held(tmp_path, str(restored(done)), "postgres", "databases") == [other]
    assert f"not restored, because of POSTGRES_DATABASES: {app}" in done.stderr
    assert ask(postgres_18, "SELECT text FROM t", app) == [("now",)]
    assert ask(postgres_18, "SELECT text FROM t", other) == [(f"{other} then",)]


def test_a_database_without_tables_is_asked_about_and_kept_and_an_empty_one_is_not(
    typed: Typed, postgres_18: ScratchPostgres, databases: tuple[str, str, str], tmp_path: Path
) -> None:
    name = databases[0]
    env = {"POSTGRES_URL": postgres_18.url(name), "BACKUP_DIR": str(tmp_path)}
    assert typed("backup", "--component", "postgres", env=env).returncode == 0
    ask(postgres_18, "DROP TABLE t; SELECT lo_from_bytea(4711, 'precious')", name)
    refused = typed("restore", "latest", env=env)
    assert refused.returncode == 14
    assert f"the database {name} (1 large object, " in refused.stderr
    kept = restored(typed("restore", "--force", "latest", env=env))
    assert kept
    assert restored(typed("restore", "--force", kept, env=env)), "the set's own table is kept, too"
    assert ask(postgres_18, "SELECT convert_from(lo_get(4711), 'UTF8')", name) == [("precious",)]
    drop_databases(postgres_18, name)
    create_database(postgres_18, name)
    assert restored(typed("restore", "latest", env=env)) is None


@pytest.mark.parametrize("what", sorted(_LIKE_A_TABLE))
def test_anything_of_ones_own_counts(postgres_18: ScratchPostgres, database: str, what: str) -> None:
    from understudy.backup.postgres.connection import Server
    from understudy.backup.postgres.standing import held

    server = Server(postgres_18.url(database))
    ask(postgres_18, "CREATE EXTENSION vector", database)
    assert held(server, database) is None, "what an extension makes is its own"
    ask(postgres_18, _LIKE_A_TABLE[what], database)
    assert held(server, database)


def test_only_the_collections_of_the_setting_come_back_and_they_are_kept(
    typed: Typed, running: StandIn, tmp_path: Path
) -> None:
    running.reset()
    url = running.urls[0]

    def counts() -> list[int]:
        found = [
            httpx.post(f"{url}/collections/{name}/points/count", json={"exact": True}) for name in ("one", "two", "new")
        ]
        return [int(each.json()["result"]["count"]) if each.status_code == 200 else 0 for each in found]

    def point_live_to(name: str) -> None:
        act = {"create_alias": {"alias_name": "live", "collection_name": name}}
        httpx.post(f"{url}/collections/aliases", json={"actions": [act]}).raise_for_status()

    filled(url, "one", 5)
    filled(url, "two", 7)
    point_live_to("two")
    env = {"QDRANT_URL": url, "BACKUP_DIR": str(tmp_path)}
    assert typed("backup", "--component", "qdrant", env=env).returncode == 0
    for name, points in (("one", 50), ("two", 70), ("new", 3)):
        httpx.delete(f"{url}/collections/{name}")
        filled(url, name, points)
    point_live_to("new")
    only = {**env, "QDRANT_COLLECTIONS": "one"}
    done = typed("restore", "--force", "latest", env=only)
    assert counts() == [5, 70, 3]
    assert "not restored, because of QDRANT_COLLECTIONS: two" in done.stderr
    first = restored(done)
    assert first
    assert held(tmp_path, first, "qdrant", "collections") == ["one"]
    # an alias that is switched is lost, too, without the collection that it was of
    second = restored(typed("restore", "--force", "latest", env=env))
    assert second
    assert held(tmp_path, second, "qdrant", "collections") == ["new", "one", "two"]
    assert counts() == [5, 7, 3]
    restored(typed("restore", "--force", "--no-safety-set", second, env=env))
    assert counts() == [5, 70, 3]
    there = httpx.get(f"{url}/aliases").json()["result"]["aliases"]
    assert there == [{"alias_name": "live", "collection_name": "new"}]
    unknown = typed("restore", "--force", "latest", env={**env, "QDRANT_COLLECTIONS": "three"})
    assert unknown.returncode == 11
    assert "no collection three" in unknown.stderr


def test_when_what_is_replaced_cannot_be_kept_nothing_is_overwritten(
    typed: Typed, running: StandIn, postgres_18: ScratchPostgres, databases: tuple[str, str, str], tmp_path: Path
) -> None:
    name, url = databases[0], running.reset().urls[0]
    filled(url, "one", 5)
    env = {"POSTGRES_URL": postgres_18.url(name), "QDRANT_URL": url, "BACKUP_DIR": str(tmp_path)}
    assert typed("backup", env=env).returncode == 0
    ask(postgres_18, "UPDATE t SET text = 'now'", name)
    running.set(fail_snapshot="the disk is broken")
    failed = typed("restore", "--force", "latest", env=env)
    assert failed.returncode not in {0, 1}, failed.stderr
    assert "keeping what would be replaced" in failed.stderr
    assert "--no-safety-set" in failed.stderr
    assert ask(postgres_18, "SELECT text FROM t", name) == [("now",)]
    assert len(json.loads(typed("list", "--json", env=env).stdout)) == 1


def test_functions_that_are_replaced_are_asked_about_and_kept(
    typed: Typed, redis_subject: Subject, valkey_cluster: Lab, tmp_path: Path
) -> None:
    redis_subject.fill()
    env = {**redis_subject.env, "BACKUP_DIR": str(tmp_path)}
    assert typed("backup", "--component", "redis", env=env).returncode == 0
    redis_subject.destroy()
    with Router(valkey_cluster.target()) as router:
        load_function(router)
    refused = typed("restore", "--overwrite", "latest", env=env)
    assert refused.returncode == 14
    assert "functions of the same names as the 1 there" in refused.stderr
    assert restored(typed("restore", "--overwrite", "--force", "latest", env=env))
