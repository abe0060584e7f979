"""Read dumps to their end without a server."""

from __future__ import annotations

import subprocess
from pathlib import Path

from understudy.backup.postgres import toc
from understudy.backup.postgres.children import until_done
from understudy.backup.postgres.names import parts
from understudy.backup.postgres.recorded import Recorded, RecordedDatabase
from understudy.backup.postgres.roles import statements
from understudy.backup.postgres.tools import Access, choose, offline
from understudy.backup.set import BackupSet
from understudy.errors import IntegrityError, UnderstudyError
from understudy.progress import Progress, stage

_CHUNK_BYTES = 1 << 20


def read_through(backup: BackupSet, progress: Progress) -> None:
    """Read every dump of a set: unpacked by pg_restore, which writes it nowhere; and the roles.

    Raises:
        IntegrityError: one cannot be read, or lacks a table that was recorded.
        UnreachableError: no pg_restore is here that can read them.
    """
    recorded = Recorded.of(backup)
    tools = choose(recorded.tool_major, _named(), f"reading the dumps of {backup.metadata.id}")
    total = sum(entry.size for entry in backup.metadata.files if entry.path.startswith("postgres/"))
    with stage(progress, "Reading dumps", total, "bytes"), offline(tools) as programs:
        for database in recorded.databases:
            _read(programs, backup.directory, database, progress)
        text = (backup.directory / recorded.globals).read_text(errors="surrogateescape")
        if "PostgreSQL database cluster dump complete" not in text:
            raise IntegrityError(f"reading {recorded.globals}", "its end is missing", "Use another set.")
        for _ in statements(text):
            pass


def _named() -> Path | None:
    from understudy import settings  # noqa: PLC0415 - the one thing that a method without an instance must ask

    try:
        return settings.load().postgres_bin
    except UnderstudyError:
        return None


def _read(programs: Access, directory: Path, database: RecordedDatabase, progress: Progress) -> None:
    place = directory / database.path
    argv: list[str | Path] = [programs.program("pg_restore"), "--file=/dev/null"]
    if place.is_dir():
        child = programs.children.start([*argv, place])
        for _ in until_done(child):
            progress.advance(0)
        progress.advance(sum((directory / path).stat().st_size for path in database.files))
    else:
        child = programs.children.start(argv, stdin=subprocess.PIPE)
        feed = child.process.stdin
        assert feed is not None  # noqa: S101 - asked for above
        with place.open("rb") as file:
            try:
                while data := file.read(_CHUNK_BYTES):
                    feed.write(data)
                    progress.advance(len(data))
                feed.close()
            except BrokenPipeError:
                pass  # it gave up, and says why
    if child.process.wait():
        raise toc.unreadable(place, child.complaints())
    found = {entry.text for entry in toc.entries(programs, place) if entry.kind == "TABLE"}
    for title in database.tables:
        start = " ".join(parts(title)) + " "
        if not any(text.startswith(start) for text in found):
            raise IntegrityError(
                f"reading {database.path}", f"it lacks the table {title}, which the metadata names", "Use another set."
            )
