"""Which PostgreSQL server is meant, how to ask it something, and what went wrong in words."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from understudy.errors import (
    NotAuthorisedError,
    NotFoundError,
    ServerSaidError,
    UnderstudyError,
    UnreachableError,
    UsageError,
)

Connection = psycopg.Connection[tuple[Any, ...]]
_CONNECT_WITHIN_S = 10
# a server that vanished from the network is noticed after two minutes; Linux itself would take over two hours
_KEEPALIVES = {
    "keepalives_idle": "60", "keepalives_interval": "15", "keepalives_count": "4", "tcp_user_timeout": "120000",
}  # fmt: skip
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+\w+://")  # DATABASE_URL as SQLAlchemy and Django write it
# what the server, or a role's own settings, may limit and a backup must not be ended by
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout")
_LOCK_WITHIN_S = 600
_SHORT = 400


class Server:
    """A server by its URL. The password stands nowhere but here; `connect` gives a new connection each time."""

    def __init__(self, url: str, password: str | None = None) -> None:
        try:
            params = conninfo_to_dict(_DRIVER.sub(r"\1://", url))
        except psycopg.Error:
            # what the library says of it could hold the password
            raise UsageError(
                "reading POSTGRES_URL", "it is no URL of PostgreSQL",
                "Write postgresql://user@host:5432/database; escape @, : and / of a password as %40, %3A and %2F.",
            ) from None  # fmt: skip
        if not re.fullmatch(r"[\d,]*", str(params.get("port") or "")) or "@" in str(params.get("host") or ""):
            raise UsageError(  # a password that is not escaped looks like that: nothing of it is shown
                "reading POSTGRES_URL", "its host or its port is none",
                "Write postgresql://user@host:5432/database; escape @, : and / of a password as %40, %3A and %2F.",
            )  # fmt: skip
        self.params: dict[str, Any] = {name: value for name, value in params.items() if value is not None}
        if password is not None:
            self.params.setdefault("password", password)
        self.params.setdefault("connect_timeout", _CONNECT_WITHIN_S)
        for name, value in _KEEPALIVES.items():
            self.params.setdefault(name, value)
        self.params.setdefault("application_name", "understudy")

    @property
    def password(self) -> str | None:
        """Return the password that was given, if one was."""
        return self.params.get("password")

    @property
    def database(self) -> str:
        """Return the URL's database, or what libpq takes where it names none."""
        return str(self.params.get("dbname") or os.environ.get("PGDATABASE") or self.user)

    @property
    def user(self) -> str:
        """Return the role that we connect as."""
        return str(self.params.get("user") or os.environ.get("PGUSER") or "postgres")

    def __str__(self) -> str:
        host = self.params.get("host") or os.environ.get("PGHOST") or "the local socket"
        port = self.params.get("port") or os.environ.get("PGPORT") or 5432
        return f"{host}:{port}"

    def connect(self, database: str | None = None) -> Connection:
        """Return a connection that commits every statement, to the URL's database or another.

        Raises:
            UnreachableError: nobody answers.
            NotAuthorisedError: the server does not let us in.
            NotFoundError: there is no such database.
        """
        name = database or self.database
        try:
            connection = psycopg.connect(**{**self.params, "dbname": name}, autocommit=True)
        except psycopg.Error as error:
            raise self._refusal(error, name) from None
        with told(f"preparing a connection to {self}"):
            connection.execute(
                "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY(%s)", [list(_LIMITS)]
            )
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{_LOCK_WITHIN_S}s"])
            connection.execute("SET client_encoding TO 'UTF8'")
        return connection

    def _refusal(self, error: psycopg.Error, name: str) -> UnderstudyError:
        doing = f"connecting to PostgreSQL at {self}"
        said = short(error)
        if isinstance(error, psycopg.ProgrammingError):
            return UsageError(doing, "POSTGRES_URL has an option that is none", "See docs/settings.md.")
        if "no password supplied" in said:
            return NotAuthorisedError(
                doing,
                "it wants a password, and none was given",
                "Set POSTGRES_PASSWORD, or load the file that holds it.",
            )
        _, answered, reason = said.partition("FATAL: ")
        if not answered or re.search(r"starting up|shutting down|recovery|too many|slots are reserved", reason):
            return UnreachableError(
                doing, said, "Is it running, and is that its address? See POSTGRES_URL, and pg_isready."
            )
        if f'"{name}"' in reason and f'"{self.user}"' not in reason.replace(f'database "{name}"', ""):
            return NotFoundError(
                doing, reason.strip(), f"Create it, or name another in POSTGRES_URL; `createdb {name}` makes one."
            )
        return NotAuthorisedError(
            doing, reason.strip(), "Check the user in POSTGRES_URL, POSTGRES_PASSWORD, and the server's pg_hba.conf."
        )


def short(error: BaseException) -> str:
    """Return what a server said, on one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


@contextlib.contextmanager
def told(doing: str, hint: str = "") -> Iterator[None]:
    """Turn what psycopg raises into our errors.

    Raises:
        NotAuthorisedError: the role may not do that.
        UnreachableError: the connection broke.
        ServerSaidError: any other error of the server.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        usual = "Use a role that may: a superuser, or the owner with pg_read_all_data."
        if "row-level security" in str(error) or "row_security" in str(error):
            usual = "Row-level security hides rows from this role. Use a superuser, or give it BYPASSRLS."
        raise NotAuthorisedError(doing, short(error), hint or usual) from error
    except psycopg.Error as error:
        broken = isinstance(error, psycopg.OperationalError) and (
            error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))
        )
        if broken:
            raise UnreachableError(doing, short(error), hint or "Is the server still there? Run it again.") from error
        raise ServerSaidError(doing, short(error), hint) from error


def major_of(connection: Connection) -> int:
    """Return the server's major version."""
    return connection.info.server_version // 10_000


def version_of(connection: Connection) -> str:
    """Return the server's version, as `18.4`."""
    number = connection.info.server_version
    return f"{number // 10_000}.{number % 10_000}"


def is_superuser(connection: Connection) -> bool:
    """Tell whether we are a superuser."""
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    return bool(row and row[0])
