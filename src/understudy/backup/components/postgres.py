"""The postgres component: databases with their roles, by pg_dump and pg_restore."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from understudy.backup.component import Comparison, Counted, RestoreOptions, RestoreReport, Taken
from understudy.backup.postgres import (
    compare,
    dump,
    load,
    names,
    properties,
    read,
    roles,
    standing,
    swap,
    tables,
    target,
)
from understudy.backup.postgres.connection import Connection, Server, is_superuser, major_of, told, version_of
from understudy.backup.postgres.recorded import Recorded, RecordedDatabase, listed
from understudy.backup.postgres.tools import Access, access, choose
from understudy.backup.set import BackupSet, FileEntry
from understudy.errors import NotFoundError, UsageError
from understudy.pages.figures import count
from understudy.progress import Progress, stage

if TYPE_CHECKING:
    from understudy.settings import Settings

Format = Literal["custom", "directory"]
GLOBALS = f"{names.FOLDER}/globals.sql"


class PostgresComponent:
    """Databases of one server. Connects when first used.

    `databases` are those to back up (none: the URL's) and those of a set to restore (none: all of it). `any_locale`
    is for rehearsals: a locale that the target does not know becomes C, and nothing is refused for it.
    """

    name = "postgres"
    title = "PostgreSQL"

    def __init__(
        self,
        url: str,
        *,
        password: str | None = None,
        databases: Sequence[str] = (),
        format: Format = "custom",  # noqa: A002 - the setting's name
        jobs: int = 2,
        bin: Path | None = None,  # noqa: A002 - the setting's name
        any_locale: bool = False,
    ) -> None:
        self._server = Server(url, password)
        self._databases = tuple(databases)
        self._format: Format = format
        self._jobs = jobs
        self._bin = bin
        self._any_locale = any_locale
        self._connection: Connection | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> PostgresComponent:
        """Return the component of the configured server. Raises `UsageError` where none is configured."""
        if settings.postgres_url is None:
            raise UsageError(
                "looking for PostgreSQL", "POSTGRES_URL is not set", "POSTGRES_URL=postgresql://user@host:5432/database"
            )
        password = settings.postgres_password
        return cls(
            settings.postgres_url.get_secret_value(),
            password=password.get_secret_value() if password else None,
            databases=settings.postgres_databases,
            format=settings.postgres_format,
            jobs=settings.postgres_jobs,
            bin=settings.postgres_bin,
        )

    def connect(self) -> None:
        """Connect, unless that is done; to another database where the URL's is not there (any more)."""
        _ = self._connected

    @property
    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed or self._connection.broken:
            try:
                self._connection = self._server.connect()
            except NotFoundError:
                self._connection = swap.maintenance(self._server)
        return self._connection

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()

    def where(self) -> str:
        """Return its address."""
        return str(self._server)

    # -- take

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:  # noqa: ARG002 - the port's shape
        """Dump the databases, each on one snapshot, and the roles."""
        connection = self._connected
        with told("asking PostgreSQL what it holds"):
            wanted = tuple(dict.fromkeys(self._databases)) or (self._server.database,)
            here = swap.names(connection)
            superuser = is_superuser(connection)
        for name in wanted:
            if name not in here:
                raise NotFoundError(
                    "backing up PostgreSQL", f"there is no database {name!r}",
                    "Check POSTGRES_URL and POSTGRES_DATABASES; there are " + ", ".join(here[:10]) + ".",
                )  # fmt: skip
        tools = choose(major_of(connection), self._bin, f"backing up PostgreSQL {version_of(connection)}")
        (into / names.FOLDER).mkdir(mode=0o700)
        databases: list[dict[str, Any]] = []
        files: list[FileEntry] = []
        warnings: list[str] = []
        with (
            stage(progress, "Dumping PostgreSQL", None, "bytes"),
            access(self._server, connection, tools) as programs,
        ):
            files.append(dump.dump_globals(programs, connection.info.dbname, into / GLOBALS, GLOBALS, superuser))
            if not superuser:
                warnings.append("The passwords of roles are not in the set: only a superuser can read them.")
            stems = names.file_stems(wanted, self._format)
            for name in wanted:
                path = f"{names.FOLDER}/{stems[name]}" + self._ending(name, warnings)
                recorded, entries = dump.dump_database(
                    self._server, name, programs, into, path, self._jobs, progress.advance
                )
                databases.append(recorded)
                files += entries
                if recorded["foreign_tables"]:
                    warnings.append(f"{name}: rows of foreign tables are elsewhere, and not in the set.")
        for warning in warnings:
            progress.say(f"Warning: {warning}")
        return Taken((), tuple(files), {
            "server": {"name": "postgresql", "version": version_of(connection)},
            "tool": ".".join(map(str, tools.version)),
            "format": self._format,
            "globals": GLOBALS,
            "databases": databases,
            "summary": _summary(databases),
            "warnings": warnings,
        })  # fmt: skip

    def _ending(self, name: str, warnings: list[str]) -> str:
        if self._format == "custom":
            return ".dump"
        with self._server.connect(name) as connection:
            if dump.too_many_files(connection):
                warnings.append(f"{name}: it has so many large objects that its dump is one file, not a directory.")
                return ".dump"
        return ".d"

    # -- restore

    def sources(self, backup: BackupSet) -> list[str]:
        """Return the dumps, each with its database and number of tables."""
        return [
            f"{each.path} (database {each.name}, {count(len(each.tables), 'table')})" for each in self._chosen(backup)
        ]

    def _chosen(self, backup: BackupSet) -> list[RecordedDatabase]:
        return Recorded.of(backup).chosen(self._databases, f"choosing databases of {backup.metadata.id}")

    def _aims(self, backup: BackupSet, options: RestoreOptions) -> list[tuple[RecordedDatabase, str]]:
        """Return each database to restore, and where to."""
        chosen = self._chosen(backup)
        if options.tables:
            chosen = [target.find_tables(chosen, options.tables, f"restoring {backup.metadata.id}")[0]]
        if options.into_database is None:
            return [(each, each.name) for each in chosen]
        target.check_name(options.into_database)
        if len(chosen) != 1:
            raise UsageError(
                f"restoring into {options.into_database}",
                f"the set holds {len(chosen)} databases: {', '.join(each.name for each in chosen)}",
                "Say which with POSTGRES_DATABASES.",
            )  # fmt: skip
        return [(chosen[0], options.into_database)]

    def _tables(self, database: RecordedDatabase, options: RestoreOptions) -> list[tuple[str, str]]:
        return target.find_tables([database], options.tables, "restoring tables")[1]

    def foresee(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> None:
        """Nothing is lost: `check_target` refuses what cannot be restored as it was."""

    def check_target(self, backup: BackupSet, options: RestoreOptions) -> None:
        """Refuse what cannot work: versions, programs, rights, extensions, locales, room, tables that others need."""
        doing = f"restoring {backup.metadata.id} to PostgreSQL at {self._server}"
        recorded = Recorded.of(backup)
        aims = self._aims(backup, options)
        databases = [each for each, _ in aims]
        target.check_names((name for _, name in aims), doing)
        with told(doing), self._working_from(aims) as connection:
            target.check_server(connection, recorded, doing)
            choose(max(recorded.tool_major, major_of(connection)), self._bin, doing)
            in_place = bool(options.tables) and aims[0][1] in swap.names(connection)
            if options.tables and not in_place and options.into_database is None:
                raise NotFoundError(
                    doing, f"there is no database {aims[0][1]!r} to restore tables into",
                    "Restore the whole database, or name another: --into-database NAME.",
                )  # fmt: skip
            if not in_place:
                target.check_creation(connection, doing)
                target.check_extensions(connection, databases, doing)
                if not self._any_locale:
                    target.check_locales(connection, databases, doing)
                target.check_room(connection, databases, doing)
            absent = roles.missing(
                connection, self._globals(backup, recorded), _needed(databases), bool(options.tables)
            )
            roles.check_rights(connection, absent, _needed(databases), doing)
            if in_place:
                with self._server.connect(aims[0][1]) as inside:
                    target.check_dependents(inside, self._tables(databases[0], options), doing)

    @contextlib.contextmanager
    def _working_from(self, aims: Sequence[tuple[RecordedDatabase, str]]) -> Iterator[Connection]:
        connection = swap.maintenance(self._server, [name for _, name in aims])
        try:
            yield connection
        finally:
            connection.close()

    def _globals(self, backup: BackupSet, recorded: Recorded) -> str:
        return (backup.directory / recorded.globals).read_text(errors="surrogateescape")

    def overwrites(self, backup: BackupSet, options: RestoreOptions) -> list[str]:
        """Name the databases, or the tables, that stand there and hold something."""
        lost: list[str] = []
        for database, name in self._replaced(backup, options):
            if not options.tables:
                with told(f"looking at what stands in {name}"):
                    if stands := standing.held(self._server, name):
                        lost.append(f"{self.title} {self._server}: the database {name} ({stands})")
                continue
            with self._server.connect(name) as inside, told(f"counting rows in {name}"):
                there = standing.tables(inside)
                for table in self._tables(database, options):
                    if (title := names.qualified(*table)) in there:
                        rows = count(standing.rows_of(inside, table), "row")
                        lost.append(f"{self.title} {self._server}: the table {title} of {name} ({rows})")
        return lost

    def _replaced(self, backup: BackupSet, options: RestoreOptions) -> list[tuple[RecordedDatabase, str]]:
        """Return those of the aims that stand there already."""
        aims = self._aims(backup, options)
        with told("looking at what a restore would replace"), self._working_from(aims) as connection:
            there = swap.names(connection)
        return [(database, name) for database, name in aims if name in there]

    def keeping(self, backup: BackupSet, options: RestoreOptions) -> PostgresComponent:
        """Return a component that takes each database whole that is replaced, or has a table replaced."""
        replaced = [name for _, name in self._replaced(backup, options)]
        found = copy.copy(self)
        found._databases, found._connection = tuple(replaced), None
        return found

    def restore(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> RestoreReport:
        """Create the roles that are missing, then restore each database beside the old one and swap them."""
        recorded = Recorded.of(backup)
        aims = self._aims(backup, options)
        report = RestoreReport()
        left_out = [each.name for each in recorded.databases if self._databases and each.name not in self._databases]
        if left_out and not options.tables:
            progress.say(f"PostgreSQL: not restored, because of POSTGRES_DATABASES: {listed(left_out)}")
        doing = f"restoring {backup.metadata.id} to PostgreSQL at {self._server}"
        for database, _ in aims:
            report.restored += len(self._tables(database, options) if options.tables else database.tables)
        report.counts = {"databases": len(aims), "tables": report.restored}
        if options.dry_run:
            return report
        text = self._globals(backup, recorded)
        self.close()  # nobody can rename or drop the database that we are in
        with self._working_from(aims) as connection:
            tools = choose(max(recorded.tool_major, major_of(connection)), self._bin, doing)
            with told(doing):
                absent = roles.missing(connection, text, _needed([each for each, _ in aims]), bool(options.tables))
                for warning in roles.create(connection, text, absent):
                    progress.say(f"Warning: {warning}")
            report.counts["roles"] = len(absent)
            total = sum(database.size_bytes for database, _ in aims)
            with (
                stage(progress, "Restoring PostgreSQL", total, "bytes"),
                access(self._server, connection, tools) as programs,
            ):
                for database, name in aims:
                    with told(doing):
                        failures = self._restore(programs, connection, backup, database, name, options, progress)
                    for failure in failures:
                        report.fail(failure)
                    if failures:
                        report.restored -= len(database.tables) if not options.tables else 0
        return report

    def _restore(
        self, programs: Access, connection: Connection, backup: BackupSet, database: RecordedDatabase, name: str,
        options: RestoreOptions, progress: Progress,
    ) -> list[str]:  # fmt: skip
        place = backup.directory / database.path
        keep = not self._any_locale or properties.locale_works(connection, database.properties)
        if not keep:
            progress.say(f"Warning: {database.name}: its locale is not known here; its order of texts is that of C.")
        if not options.tables:
            return load.load_database(
                self._server, programs, connection, database, name, place, self._jobs, progress.advance, progress.say,
                keep,
            )  # fmt: skip
        tables.load_into(
            self._server, programs, connection, database, self._tables(database, options), name, place,
            progress.advance, progress.say, keep,
        )  # fmt: skip
        return []

    # -- compare, check

    def compare(self, backup: BackupSet, progress: Progress) -> Comparison:
        """Compare rows, sequences, large objects and everything that has a name with what the set recorded."""
        found: list[str] = []
        counted: list[str] = []
        numbers: list[Counted] = []
        chosen = self._chosen(backup)
        with stage(progress, "Counting rows", sum(len(each.tables) for each in chosen), "tables"):
            for database in chosen:
                prefix = f"{database.name}." if len(chosen) > 1 else ""
                try:
                    now: dict[str, Any] = compare.content_now(self._server, database, progress)
                except NotFoundError:
                    found.append(f"{self.title} {database.name}: the database is missing")
                    numbers += compare.counts(database, {}, prefix)
                    continue
                words = compare.in_words(now["tables"], now["partitions"])
                counted.append(f"{database.name}: {words}" if len(chosen) > 1 else words)
                numbers += compare.counts(database, now, prefix)
                found += compare.differences(database.content, now, database.name)
        return Comparison("; ".join(counted) or "no databases", tuple(found), tuple(numbers))

    @staticmethod
    def read_through(backup: BackupSet, progress: Progress) -> None:
        """Have pg_restore read every dump to its end, and find every table in it that was recorded."""
        read.read_through(backup, progress)


def _needed(databases: Sequence[RecordedDatabase]) -> set[str]:
    return {role for each in databases for role in (*each.roles, each.properties["owner"])}


def _summary(databases: Sequence[dict[str, Any]]) -> str:
    said = []
    for each in databases:
        whole = [rows for title, rows in each["tables"].items() if title not in each["partitions"]]
        said.append(f"{each['name']}: {count(len(each['tables']), 'table')}, {count(sum(whole), 'row')}")
    return "; ".join(said)
