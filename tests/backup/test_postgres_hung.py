"""A dump that waits or hangs can be given up: Ctrl-C, SIGTERM and the failure of another component end it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from postgres import ask
from understudy.backup.components.postgres import PostgresComponent
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.progress import Progress, Silent

_GIVEN_UP_WITHIN_S = 25.0  # pg_dump itself waits ten minutes for a lock, and a stopped server answers never


class GivenUpError(RuntimeError):
    """What a progress raises when nobody wants the work any more."""


class WhenItWaits(Silent):
    """Gives up when a query of the database waits for a lock; stops the server's processes before, if told so."""

    def __init__(self, monitor: psycopg.Connection[tuple[int]], stop: bool) -> None:
        self._monitor, self._stop = monitor, stop
        self.stopped: list[int] = []
        self.over = False

    def advance(self, amount: int) -> None:
        """Look, and give up or go on."""
        asked = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        waiting = [] if self.over else [pid for (pid,) in self._monitor.execute(asked).fetchall()]
        if len(waiting) == 2:  # pg_dump and the count beside it
            self.over = True
            for pid in waiting if self._stop else ():
                os.kill(pid, signal.SIGSTOP)
                self.stopped.append(pid)
        if self.over:
            raise GivenUpError

    def beside(self) -> Progress:
        """Return the same."""
        return self


@pytest.mark.parametrize("stop", [False, True], ids=["waits", "hangs"])
def test_a_dump_is_given_up(postgres_18: ScratchPostgres, database: str, tmp_path: Path, stop: bool) -> None:
    ask(postgres_18, "CREATE TABLE t AS SELECT 1 AS one", database)
    (tmp_path / "work").mkdir()
    (tmp_path / "into").mkdir()
    component = PostgresComponent(postgres_18.url(database))
    with (
        psycopg.connect(postgres_18.url(database)) as holder,
        psycopg.connect(postgres_18.url(), autocommit=True) as monitor,
    ):
        holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        progress = WhenItWaits(monitor, stop)
        began = time.monotonic()
        try:
            with pytest.raises(GivenUpError):
                component.take(tmp_path / "work", tmp_path / "into", progress)
        finally:
            for pid in progress.stopped:
                os.kill(pid, signal.SIGCONT)
            component.close()
        assert time.monotonic() - began < _GIVEN_UP_WITHIN_S
        assert bool(progress.stopped) == stop
