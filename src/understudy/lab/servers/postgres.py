"""A PostgreSQL server for a while: `with scratch_postgres() as server:`, on a free port, gone when its owner is.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`; where that user may not enter the directory
of the programs (a virtual environment below /root), they are copied into the server's own temporary directory.
It listens on 127.0.0.1 only, has no socket in the file system, and asks every client for the password (SCRAM).
What it holds would not outlive a power cut: nothing waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from understudy import installed
from understudy.errors import NotFoundError, UnreachableError
from understudy.lab import guardian
from understudy.lab.layout import HOST
from understudy.lab.ports import claim_few
from understudy.lab.server import LabNode, StartError, log_tail, start, stop
from understudy.lab.servers.postgres_install import Installation, installations
from understudy.lab.temporary import Guardian
from understudy.valkey.target import Address

USER = "postgres"
_NOBODY = "nobody"
_STARTS_WITHIN_S = 30.0
_STOPS_WITHIN_S = 10.0
_POLL_S = 0.01
_ATTEMPTS = 3
# in the place of the gate's shell: become another user, then the server
_AS_USER = "import os,sys;g,u=map(int,sys.argv[1:3]);os.setgroups([]);os.setgid(g);os.setuid(u);os.execv(sys.argv[3],sys.argv[3:])"  # noqa: E501
_QUICK = (
    "fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0",
    "max_wal_size=4GB", "shared_buffers=64MB", "max_connections=60", "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap", "log_min_messages=error", "max_prepared_transactions=4",
)  # fmt: skip


@dataclass
class ScratchPostgres:
    """A server that runs: where, since which version, and the password of its superuser `postgres`."""

    installation: Installation
    node: LabNode
    password: str
    _guardian: Guardian
    _programs: Path
    _user: pwd.struct_passwd | None
    _config: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """Return its major version."""
        return self.installation.major

    @property
    def bin(self) -> Path:
        """Return the directory of its programs."""
        return self.installation.bin

    @property
    def port(self) -> int:
        """Return where it listens on 127.0.0.1."""
        return self.node.address.port

    @property
    def data(self) -> Path:
        """Return its data directory."""
        return self.node.directory

    def url(self, database: str = "postgres", *, user: str = USER, password: str | None = None) -> str:
        """Return a URL for a client; it holds the password."""
        secret = self.password if password is None else password
        return f"postgresql://{quote(user, '')}:{quote(secret, '')}@{HOST}:{self.port}/{quote(database, '')}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            StartError: it did not come up; `why` carries the last lines of its log.
        """
        options = [word for one in (*_QUICK, f"port={self.port}", *self._config) for word in ("-c", one)]
        argv = [str(self._programs / "postgres"), "-D", str(self.data), "-c", f"listen_addresses={HOST}", *options]
        if self._user:
            drop = (sys.executable, "-I", "-S", "-c", _AS_USER, str(self._user.pw_gid), str(self._user.pw_uid))
            argv = [*drop, *argv]

        def note(nodes: list[LabNode]) -> None:
            self._guardian.note(tuple(nodes))

        (self.node,) = start([(self.node, argv)], note)
        self._await_answer()

    def stop(self) -> None:
        """End it at once; what clients had under way is rolled back. Harmless when it does not run."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """End it as a crash would, with all that it was doing for clients."""
        children = _children_of(self.node.pid)
        if isinstance(self.node.process, guardian.Process):
            guardian.send(self.node.process, signal.SIGKILL)
        for child in children:
            guardian.send(child, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if not isinstance(self.node.process, guardian.Process):
            return
        guardian.send(self.node.process, number)
        deadline = time.monotonic() + _STOPS_WITHIN_S
        while self.node.alive and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        stop([self.node])

    def _await_answer(self) -> None:
        import psycopg  # noqa: PLC0415 - an optional dependency

        deadline = time.monotonic() + _STARTS_WITHIN_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if self.node.alive and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
                    continue
                why = log_tail(self.node.log) or str(error)
                raise StartError(f"starting PostgreSQL {self.version}", why, f"Its log: {self.node.log}") from error
            return


def _children_of(pid: int | None) -> list[guardian.Process]:
    """Return the processes that a server has started; on Linux only, elsewhere they end a moment after it."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == pid and (named := guardian.identify(int(place.parent.name))):
                found.append(named)
    return found


def find_server(version: int | None = None) -> Installation:
    """Return the newest server that is installed, or one of this major version.

    Raises:
        NotFoundError: there is none.
    """
    found = [each for each in installations() if each.serves]
    if version is None and found:
        named = [each for each in found if each.origin == "named"]
        return named[0] if named else max(found, key=lambda each: each.version)
    for each in found:
        if each.major == version:
            return each
    here = f"only {', '.join(map(str, found))}" if found else "none is installed"
    raise NotFoundError(
        f"looking for a PostgreSQL {version or ''} server".replace("  ", " "), here,
        f"{installed.how_to_add('postgres')}, or name the directory of its programs in POSTGRES_BIN.",
    )  # fmt: skip


@contextlib.contextmanager
def scratch_postgres(
    version: int | None = None, *, password: str | None = None, config: tuple[str, ...] = ()
) -> Iterator[ScratchPostgres]:
    """Run a server; `config` holds settings of its own, as `name=value`.

    Raises:
        NotFoundError: no server of that version is installed.
        StartError: it did not come up.
    """
    installation = find_server(version)
    user = pwd.getpwnam(_NOBODY) if os.geteuid() == 0 else None
    with contextlib.ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="understudy-postgres-"))
        watch = Guardian(place)
        stack.callback(watch.end)
        if user:
            os.chown(place, user.pw_uid, user.pw_gid)
        programs = _enterable(installation, place, user)
        secret = password or secrets.token_urlsafe(24)
        _initialise(programs, place, secret, user, watch)
        for attempt in range(1, _ATTEMPTS + 1):
            block = claim_few()
            stack.callback(block.release)
            data = place / "data"
            log = place / "postgres.log"
            node = LabNode("postgres", "postgres", "primary", Address(HOST, block.first), block.first, data, log)
            server = ScratchPostgres(installation, node, secret, watch, programs, user, config)
            try:
                server.start()
            except StartError:  # between finding a port free and listening on it another program may have taken it
                server.stop()
                if attempt == _ATTEMPTS or "in use" not in log_tail(log, 20):
                    raise
                continue
            break
        stack.callback(server.stop)
        yield server


def _enterable(installation: Installation, place: Path, user: pwd.struct_passwd | None) -> Path:
    """Return a directory of the programs that the server's user can use: theirs, or a copy."""
    if user is None:
        return installation.bin
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        asked = subprocess.run(
            [installation.bin / "postgres", "--version"],
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], capture_output=True, timeout=20, check=False, cwd="/",
        )  # fmt: skip
        if asked.returncode == 0:
            return installation.bin
    if installation.origin == "system":
        raise UnreachableError(
            f"starting {installation}", f"the user {user.pw_name} may not run it, and PostgreSQL does not run as root",
            "Run this as an ordinary user.",
        )  # fmt: skip
    home = installation.bin.parent
    libraries = home.parent.with_name(f"{home.parent.name}.libs")  # where a wheel's programs look, relative to theirs
    copied = place / "programs"
    shutil.copytree(home, copied / home.parent.name / home.name, ignore=shutil.ignore_patterns("include", "*.a"))
    if libraries.is_dir():
        shutil.copytree(libraries, copied / libraries.name)
    for folder, _, names in os.walk(copied):
        Path(folder).chmod(0o755)
        for name in names:
            file = Path(folder) / name
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    return copied / home.parent.name / home.name / "bin"


def _initialise(programs: Path, place: Path, password: str, user: pwd.struct_passwd | None, watch: Guardian) -> None:
    secret = place / "password"
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
    who: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user:
        os.chown(secret, user.pw_uid, user.pw_gid)
    process = subprocess.Popen(
        [
            programs / "initdb", "-D", place / "data", "-U", USER, f"--pwfile={secret}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions", "--wal-segsize=4",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=place, start_new_session=True, **who,
    )  # fmt: skip
    try:
        if named := guardian.identify(process.pid):
            watch.watch(named)
        said = process.communicate()[1]
    except BaseException:  # an interrupt: it has children of its own, which would go on writing while we clean up
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    secret.unlink()
    if process.returncode:
        why = said.strip()[-500:] or "initdb failed"
        raise StartError("making a PostgreSQL data directory", why, "Is there room in the temporary directory?")
