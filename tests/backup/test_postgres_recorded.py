"""Metadata of PostgreSQL that makes no sense is damage (12), found before a server is touched; never a bug."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_of_postgres import taken
from conftest import Typed
from postgres import ask
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.postgres import compare
from understudy.backup.postgres.recorded import Recorded
from understudy.backup.set import BackupSet, FileEntry, Metadata, SetId
from understudy.errors import UnderstudyError
from understudy.lab.servers.postgres import ScratchPostgres

SECTION: dict[str, Any] = {
    "server": {"name": "postgresql", "version": "18.4"}, "tool": "18.4", "format": "custom",
    "globals": "postgres/globals.sql", "summary": "app: 1 table, 2 rows", "warnings": [],
    "databases": [{
        "name": "app", "path": "postgres/app.dump", "files": ["postgres/app.dump"], "format": "custom", "size_bytes": 9,
        "properties": {
            "encoding": "UTF8", "collate": "C", "ctype": "C", "owner": "postgres", "connection_limit": -1,
            "is_template": False, "comment": None, "provider": "libc", "locale": None, "icu_rules": None,
            "grants": [["public", True, "CONNECT", False]], "settings": {"": ["work_mem=7MB"]},
        },
        "tables": {"public.t": 2}, "partitions": [], "materialized_views": [], "foreign_tables": [], "views": ["v"],
        "sequences": {"public.s": [42, True]}, "large_objects": {"count": 1, "sha256": "00"},
        "extensions": {"plpgsql": "1.0"}, "objects": {"functions": 0}, "roles": ["postgres"],
    }],
}  # fmt: skip


def backup_of(section: object) -> BackupSet:
    files = tuple(FileEntry(path, 1, "0" * 64) for path in ("postgres/globals.sql", "postgres/app.dump", "SHA256SUMS"))
    set_id = SetId.parse("stack-backup-local-20261121T014839Z-e9cb")
    return BackupSet(Path("/nowhere"), Metadata(set_id, "local", set_id.created, "t", {"postgres": section}, files))  # type: ignore[dict-item]


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield path
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in rows:
        yield from places(inner, (*path, name))


ODD = [
    None,
    True,
    -1,
    1 << 70,
    1.5,
    "",
    "x",
    "a\0b",
    "../etc",
    "=",
    [],
    ["x"],
    [[]],
    {},
    {"x": None},
    {"a\0": 1},
    "SHA256SUMS",
]
LEAVE_OUT = object()


@given(st.sampled_from([path for path in places(SECTION) if path]), st.sampled_from([LEAVE_OUT, *ODD]))
def test_any_field_that_is_something_else_is_damage_or_does_no_harm(path: tuple[Any, ...], value: object) -> None:
    section = copy.deepcopy(SECTION)
    inside: Any = section
    for name in path[:-1]:
        inside = inside[name]
    if value is LEAVE_OUT:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    backup = backup_of(section)
    try:
        recorded = Recorded.of(backup)
    except UnderstudyError as error:
        assert error.exit_code == 12
        assert "\n" not in str(error)
        return
    PostgresComponent("postgresql://h/d").sources(backup)
    assert recorded.globals == "postgres/globals.sql"
    for each in recorded.databases:
        assert "\0" not in each.name
        assert each.properties["owner"] is not None
        compare.differences(each.content, each.content, each.name)
        compare.counts(each, dict(each.content), "")


def test_what_was_written_is_read() -> None:
    (found,) = Recorded.of(backup_of(SECTION)).databases
    assert found.tables == {"public.t": 2}
    assert dict(found.properties) == {
        **SECTION["databases"][0]["properties"], "grants": [("public", True, "CONNECT", False)]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [("properties", {}, 12), ("name", "a\0b", 12), ("name", "template1", 14)],
)
def test_check_restore_and_rehearse_tell_it_before_a_server_is_touched(
    typed: Typed, postgres_18: ScratchPostgres, database: str, tmp_path: Path, field: str, value: object, code: int
) -> None:
    ask(postgres_18, "CREATE TABLE t AS SELECT 1 AS n", database)
    backup = taken(postgres_18, tmp_path, database)
    section = json.loads(json.dumps(backup.metadata.components["postgres"]))
    section["databases"][0][field] = value
    changed = dataclasses.replace(backup.metadata, components={"postgres": section})
    (backup.directory / "metadata.json").write_bytes(changed.encode())
    env = {"POSTGRES_URL": postgres_18.url(database), "BACKUP_DIR": str(tmp_path)}
    tried = [("restore", "--force", "latest")]
    if code == 12:
        tried += [("check", "latest"), ("rehearse", "latest")]
    for words in tried:
        done = typed(*words, env=env)
        assert done.returncode == code, done.stdout + done.stderr
    assert ask(postgres_18, "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_\\_r%'") == [(0,)]
    assert not list(tmp_path.glob("safety-*"))


def test_a_set_of_ones_own_is_not_called_safety(typed: Typed, tmp_path: Path, postgres_18: ScratchPostgres) -> None:
    env = {"POSTGRES_URL": postgres_18.url("postgres"), "BACKUP_DIR": str(tmp_path), "BACKUP_NAME": "safety"}
    done = typed("backup", "--component", "postgres", env=env)
    assert done.returncode == 2
    assert "BACKUP_NAME" in done.stderr
    assert not list(tmp_path.glob("safety-*"))
