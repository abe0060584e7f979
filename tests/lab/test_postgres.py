"""A PostgreSQL server for a while: which programs it runs, and that it goes with its owner."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from support import eventually
from understudy.errors import NotFoundError
from understudy.lab import guardian
from understudy.lab.servers.postgres import ScratchPostgres, find_server, scratch_postgres

_OWNER = """
import sys
from understudy.lab.servers.postgres import scratch_postgres
with scratch_postgres() as server:
    print(server.node.pid, server.data.parent, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("version", [16, 18])
def test_a_server_of_each_version_asks_for_its_password(request: pytest.FixtureRequest, version: int) -> None:
    server: ScratchPostgres = request.getfixturevalue(f"postgres_{version}")
    with psycopg.connect(server.url()) as connection:
        assert connection.info.server_version // 10_000 == version
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url(password="wrong"))
    assert server.data.stat().st_mode & 0o077 == 0
    words = Path(f"/proc/{server.node.pid}/cmdline")
    assert not words.exists() or server.password.encode() not in words.read_bytes()


def test_a_server_goes_with_its_owner_even_when_that_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert owner.stdout is not None
    pid, _, place = owner.stdout.readline().strip().partition(" ")
    server = guardian.identify(int(pid))
    assert server is not None
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    eventually(lambda: guardian.state(server) == "dead" and not Path(place).exists())


def test_programs_below_a_directory_that_the_servers_user_may_not_enter_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs the server as another user")
    found = find_server(18)
    package = found.bin.parent.parent
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(found.bin.parent, hidden / package.name / found.bin.parent.name)
    if (libraries := package.with_name(f"{package.name}.libs")).exists():
        shutil.copytree(libraries, hidden / libraries.name)
    monkeypatch.setenv("POSTGRES_BIN", str(hidden / package.name / found.bin.parent.name / "bin"))
    with scratch_postgres() as server:
        assert server.bin.is_relative_to(hidden)
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_version_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFoundError, match="PostgreSQL 99 server: only") as caught:
        find_server(99)
    assert "POSTGRES_BIN" in caught.value.hint
