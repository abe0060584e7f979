"""Killed at any moment, a restore leaves the old database or the new one, and the next one tidies up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backup_of_postgres import restored, taken
from postgres import ask, names_of
from support import eventually
from understudy.backup.component import RestoreOptions
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.set import BackupSet
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.progress import Silent

ROWS = 20_000
_FILL = f"""CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, {ROWS}) n;
    CREATE TABLE age AS SELECT 'old' AS a"""
_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name IN ('pg_restore', 'psql', 'understudy')"
_RESTORE = """
import sys
from pathlib import Path
from understudy.backup.component import RestoreOptions
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.set import BackupSet
from understudy.progress import Silent
component = PostgresComponent(sys.stdin.readline().strip())
backup = BackupSet.open(Path(sys.argv[1]))
options = RestoreOptions(tables=tuple(sys.argv[2:]))
component.connect()
print("go", flush=True)
component.restore(backup, options, Silent())
print("done", flush=True)
"""


def _killed_restore(server: ScratchPostgres, backup: BackupSet, after_s: float, *tables: str) -> bool:
    """Restore in a process of its own, and kill it after so long; tell whether it had ended by then."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RESTORE, str(backup.directory), *tables],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(server.url() + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "go\n"
    time.sleep(after_s)  # the moment is what the test is about
    os.kill(process.pid, signal.SIGKILL)
    said = process.communicate()[0]
    return "done" in said


def _kills(server: ScratchPostgres, database: str, tmp_path: Path, times: int, longest_s: float, *tables: str) -> None:
    ask(server, _FILL, database)
    backup = taken(server, tmp_path, database)
    chance = random.Random(5)
    begun = time.monotonic()
    assert restored(PostgresComponent(server.url()), backup, RestoreOptions(tables=tables)) == []
    usual_s = min(time.monotonic() - begun, longest_s)
    for _ in range(times):
        ask(server, "UPDATE age SET a = 'changed'; DELETE FROM t WHERE n > 10", database)
        ended = _killed_restore(server, backup, chance.uniform(0, usual_s), *tables)
        # its programs go with it; a transaction that was at its end may end
        eventually(lambda: not ask(server, _OURS))
        state = ask(server, "SELECT (SELECT count(*) FROM t), (SELECT a FROM age)", database)
        new = (ROWS, "changed" if tables else "old")
        assert state in ([(10, "changed")], [new]), state
        assert not ended or state == [new]
    assert restored(PostgresComponent(server.url()), backup) == []
    component = PostgresComponent(server.url())
    assert component.compare(backup, Silent()).differences == ()
    component.close()
    assert names_of(server) == sorted([database, "postgres"])


def test_a_killed_restore_leaves_the_old_database_or_the_new_one(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    _kills(postgres_18, database, tmp_path, 3, 1.0)


def test_a_killed_restore_of_a_table_leaves_the_old_rows_or_the_new_ones(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    _kills(postgres_18, database, tmp_path, 2, 0.5, "t")


@pytest.mark.soak
@pytest.mark.parametrize("tables", [(), ("t",)])
def test_a_killed_restore_leaves_the_old_or_the_new_thirty_times(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path, tables: tuple[str, ...]
) -> None:
    _kills(postgres_18, database, tmp_path, 30, 2.0, *tables)


def test_a_server_that_dies_meanwhile_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    from understudy.errors import UnderstudyError, UnreachableError
    from understudy.lab.servers.postgres import scratch_postgres

    class Killing(Silent):
        def advance(self, amount: int) -> None:
            server.kill()

    with scratch_postgres(18) as server:
        ask(server, "CREATE DATABASE app")
        ask(server, _FILL.replace(str(ROWS), "400000"), "app")
        backup = taken(server, tmp_path, "app")
        component = PostgresComponent(server.url("app"))
        (tmp_path / "set").mkdir()
        for work in (
            lambda: component.take(tmp_path, tmp_path / "set", Killing()),
            lambda: component.restore(backup, RestoreOptions(), Killing()),
        ):
            with pytest.raises(UnderstudyError) as caught:
                work()
            assert caught.value.exit_code == 10
            with pytest.raises(UnreachableError):
                PostgresComponent(server.url()).connect()
            server.start()
            assert ask(server, "SELECT count(*) FROM t", "app") == [(400000,)]
        component.close()
        assert restored(component, backup) == []
        assert names_of(server) == ["app", "postgres"]
