"""A PostgreSQL for a rehearsal: one started for it, or that of REHEARSE_POSTGRES_URL, which is cleaned afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from understudy import installed
from understudy.backup.set import BackupSet
from understudy.errors import RefusedError, UnderstudyError, UnreachableError
from understudy.operations.rehearsal.checks import Check
from understudy.operations.scratch import NoScratchError, Scratch
from understudy.settings import Settings

if TYPE_CHECKING:
    from understudy.backup.components.postgres import PostgresComponent

_MOST_ROWS = 10_000
_GIVEN = "REHEARSE_POSTGRES_URL"


def names_in(backup: BackupSet) -> list[str]:
    """Return the databases of a set, also of one that is still encrypted."""
    return [str(row["name"]) for row in backup.metadata.components["postgres"]["databases"]]


def refuse(backup: BackupSet, settings: Settings) -> None:
    """Refuse a server that has a database of the set: nothing of anybody's is overwritten."""
    if not settings.rehearse_postgres_url:
        return
    try:
        from understudy.backup.postgres import swap  # noqa: PLC0415 - an extra

        with contextlib.closing(swap.maintenance(_server(settings), [])) as connection:
            standing = [name for name in names_in(backup) if name in swap.names(connection)]
    except (ImportError, UnderstudyError):
        return  # it is told later, as a component that could not be rehearsed
    if standing:
        raise RefusedError(
            "rehearsing postgres", f"the server of {_GIVEN} has a database {standing[0]}, which the set would replace",
            "Name a server without it. If an interrupted rehearsal left it, drop it there.", standing,
        )  # fmt: skip


@contextlib.contextmanager
def scratch(backup: BackupSet, settings: Settings) -> Iterator[Scratch]:
    """Start the smallest major version that is not older than the set's, or use the server that is named."""
    with contextlib.ExitStack() as stack:
        try:
            if settings.rehearse_postgres_url:
                given = stack.enter_context(_given(backup, settings))
                component, words, url, secrets = given
            else:
                component, words, url, secrets = stack.enter_context(_started(backup, settings))
        except ImportError as error:
            raise NoScratchError(f"{error.name} is not installed: {installed.how_to_add('postgres')}") from error
        stack.callback(component.close)
        first = names_in(backup)[0]

        def addresses(database: str | int | None) -> dict[str, str]:
            found = url(database if isinstance(database, str) else first)
            return {"POSTGRES_URL": found, "DATABASE_URL": found}

        yield Scratch(component, words, addresses, secrets, lambda check: _ask(addresses(check.database), check))


_Ready = tuple["PostgresComponent", str, Callable[[str], str], tuple[str, ...]]


@contextlib.contextmanager
def _started(backup: BackupSet, settings: Settings) -> Iterator[_Ready]:
    from understudy.backup.components.postgres import PostgresComponent  # noqa: PLC0415 - an extra
    from understudy.backup.postgres.recorded import Recorded  # noqa: PLC0415
    from understudy.lab.servers.postgres import scratch_postgres  # noqa: PLC0415
    from understudy.lab.servers.postgres_install import installations  # noqa: PLC0415

    least = Recorded.of(backup).server_major
    with contextlib.ExitStack() as stack:
        try:
            here = sorted({each.major for each in installations(settings.postgres_bin) if each.serves})
            fitting = [major for major in here if major >= least]
            if not fitting:
                there = f"there are {', '.join(map(str, here))}" if here else "there is none"
                raise NoScratchError(
                    f"a PostgreSQL {least} or newer is needed, and {there}; {installed.how_to_add('postgres')}, "
                    f"or name a server in {_GIVEN}"
                )
            server = stack.enter_context(scratch_postgres(fitting[0]))
        except UnderstudyError as error:
            raise NoScratchError(f"no server could be started for it: {error}") from error
        component = PostgresComponent(
            server.url(), jobs=settings.postgres_jobs, bin=settings.postgres_bin, any_locale=True
        )
        version = ".".join(map(str, server.installation.version))
        yield component, f"PostgreSQL {version}, started for it", server.url, (server.password,)


@contextlib.contextmanager
def _given(backup: BackupSet, settings: Settings) -> Iterator[_Ready]:
    from psycopg import sql  # noqa: PLC0415 - an extra

    from understudy.backup.components.postgres import PostgresComponent  # noqa: PLC0415
    from understudy.backup.postgres import roles, swap  # noqa: PLC0415
    from understudy.backup.postgres.connection import told, version_of  # noqa: PLC0415
    from understudy.backup.postgres.recorded import Recorded  # noqa: PLC0415

    refuse(backup, settings)
    recorded = Recorded.of(backup)
    server = _server(settings)
    secret = settings.rehearse_postgres_url
    url = secret.get_secret_value() if secret else ""
    with contextlib.closing(swap.maintenance(server, [])) as connection:
        before = roles.existing(connection)
        version = version_of(connection)
    component = PostgresComponent(url, jobs=settings.postgres_jobs, bin=settings.postgres_bin, any_locale=True)

    def of(database: str) -> str:
        return urlsplit(url)._replace(path=f"/{quote(database, safe='')}").geturl()

    try:
        yield component, f"PostgreSQL {version}, given for it", of, tuple(filter(None, [server.password]))
    finally:
        component.close()
        with (
            contextlib.closing(swap.maintenance(server, names_in(backup))) as connection,
            told(f"taking back what the rehearsal made on the server of {_GIVEN}"),
        ):
            for name in names_in(backup):
                swap.drop(connection, name)
            text = (backup.directory / recorded.globals).read_text(errors="surrogateescape")
            ours = {each.roles[0] for each in roles.statements(text) if each.creates}
            ours |= {role for each in recorded.databases for role in (*each.roles, each.properties["owner"])}
            for name in sorted((roles.existing(connection) - before) & ours):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def _server(settings: Settings) -> Any:
    from understudy.backup.postgres.connection import Server  # noqa: PLC0415 - an extra

    secret = settings.rehearse_postgres_url
    return Server(secret.get_secret_value() if secret else "")


def _ask(addresses: dict[str, str], check: Check) -> Any:
    """Run a check's SQL; return the value of one row, several rows as a list of their first values."""
    import psycopg  # noqa: PLC0415 - an extra

    from understudy.backup.postgres.connection import Server, told  # noqa: PLC0415

    doing = f"running the check {check.name!r}"
    with told(doing), contextlib.closing(Server(addresses["POSTGRES_URL"]).connect()) as connection:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{check.timeout_s * 1000:.0f}"])
        try:
            cursor = connection.execute(str(check.ask).encode())
            rows = cursor.fetchmany(_MOST_ROWS) if cursor.description else []
        except psycopg.errors.QueryCanceled:
            raise UnreachableError(doing, f"no answer within {check.timeout_s:g} s") from None
    values = [row[0] if row else None for row in rows]
    return values if len(values) > 1 else values[0] if values else None
