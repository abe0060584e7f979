"""Read a database into a dump: one snapshot for the dump and for what is counted beside it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg.conninfo import make_conninfo

from understudy.backup.postgres import inventory, properties, toc
from understudy.backup.postgres.children import Child, until_done
from understudy.backup.postgres.connection import Connection, Server, told
from understudy.backup.postgres.tools import Access, refused
from understudy.backup.set import FileEntry
from understudy.errors import NotAuthorisedError, ServerSaidError, out_of_room

Advance = Callable[[int], None]
_CHUNK_BYTES = 1 << 20
_LEVEL = "1"  # gzip's fastest: 2.5 times as fast as its default and 6 % larger; every pg_restore can read it
_LOCK_WITHIN_MS = 600_000
_LOOK_EVERY_MS = 200
_ENDS_WITHIN_S = 5.0  # a query that was cancelled
_MOST_FILES = 10_000  # the directory format writes a file for each large object


def dump_database(
    server: Server, name: str, access: Access, into: Path, path: str, jobs: int, advance: Advance
) -> tuple[dict[str, Any], list[FileEntry]]:
    """Dump a database to `into/path`, a file or (more than one job) a directory; return what is recorded of it.

    Raises:
        UnderstudyError: of the kind that fits; nothing that was started for it goes on.
    """
    doing = f"dumping the database {name}"
    connection = server.connect(name)
    counting: Future[dict[str, Any]] | None = None
    with ThreadPoolExecutor(1) as beside:
        try:
            with told(doing):
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                snapshot = (connection.execute("SELECT pg_export_snapshot()").fetchone() or [""])[0]
                size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
                facts = {
                    "name": name,
                    "path": path,
                    "format": "custom" if path.endswith(".dump") else "directory",
                    "size_bytes": size[0] if size else 0,
                    "properties": properties.read(connection),
                    "roles": inventory.roles_of(connection),
                }
            counting = beside.submit(inventory.content_of, connection, lambda: advance(0))
            argv = [
                access.program("pg_dump"), f"--snapshot={snapshot}", f"--compress={_LEVEL}", "--no-password",
                f"--lock-wait-timeout={_LOCK_WITHIN_MS}", "-d", access.database(name),
            ]  # fmt: skip
            try:
                if path.endswith(".dump"):
                    entries = [_stream(access, argv, into / path, path, doing, advance)]
                else:
                    entries = _directory(access, argv, into, path, jobs, doing, advance)
            except OSError as error:
                raise out_of_room(error) from error
            except ServerSaidError:  # a count that fails takes the snapshot with it; then its reason is the reason
                if counting.done():
                    with told(f"counting what is in the database {name}"):
                        counting.result()
                raise
            while not counting.done():  # the dump is often the slower one, but not of many small tables
                advance(0)
                _wait_a_little(counting)
            with told(f"counting what is in the database {name}"):
                content = counting.result()
        finally:
            if counting is not None and not counting.done():
                _end(connection, counting)
            beside.shutdown(wait=True)
            connection.close()
    names = content.pop("sequence_names")
    sequences = toc.sequence_values(access, into / path)
    facts |= content | {"sequences": {title: sequences[title] for title in names if title in sequences}}
    return facts | {"files": [entry.path for entry in entries]}, entries


def _wait_a_little(future: Any) -> None:
    try:
        future.exception(timeout=0.2)
    except TimeoutError:
        return


def _end(connection: Connection, counting: Future[Any]) -> None:
    """End a count that still runs: the work was given up. A server that does not answer is not waited for."""
    with contextlib.suppress(psycopg.Error):
        connection.cancel_safe(timeout=2)
    wait([counting], _ENDS_WITHIN_S)
    if not counting.done():
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def _chunks(out: IO[bytes], advance: Advance) -> Iterator[bytes]:
    """Yield what a program writes; while it writes nothing, for it waits for a lock perhaps, we can be told to end."""
    ready = select.poll()
    ready.register(out, select.POLLIN)
    while True:
        while not ready.poll(_LOOK_EVERY_MS):
            advance(0)
        data = os.read(out.fileno(), _CHUNK_BYTES)
        if not data:
            return
        yield data


def _stream(access: Access, argv: list[Any], final: Path, path: str, doing: str, advance: Advance) -> FileEntry:
    child = access.children.start([*argv, "--format=custom"], stdout=subprocess.PIPE)
    digest = hashlib.sha256()
    size = 0
    out = child.process.stdout
    assert out is not None  # noqa: S101 - asked for above
    try:
        with os.fdopen(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for data in _chunks(out, advance):
                digest.update(data)
                file.write(data)
                size += len(data)
                advance(len(data))
        _ended_well(child, doing)
    finally:
        child.end()
    return FileEntry(path, size, digest.hexdigest())


def _directory(
    access: Access, argv: list[Any], into: Path, path: str, jobs: int, doing: str, advance: Advance
) -> list[FileEntry]:
    place = into / path
    child = access.children.start([*argv, "--format=directory", f"--jobs={jobs}", f"--file={place.absolute()}"])
    seen = 0
    try:
        for _ in until_done(child):
            size = sum(entry.stat().st_size for entry in os.scandir(place)) if place.is_dir() else 0
            advance(max(size - seen, 0))
            seen = max(size, seen)
        _ended_well(child, doing)
    finally:
        child.end()
    entries = []
    for file in sorted(place.iterdir()):
        file.chmod(0o600)
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while data := stream.read(_CHUNK_BYTES):
                digest.update(data)
                advance(0)
        entries.append(FileEntry(f"{path}/{file.name}", file.stat().st_size, digest.hexdigest()))
    return entries


def _ended_well(child: Child, doing: str) -> None:
    code = child.process.wait()
    if code:
        raise refused(doing, code, child.complaints())


def too_many_files(connection: Connection) -> bool:
    """Tell whether the directory format would write more files than a set should have."""
    row = connection.execute("SELECT count(*) FROM (SELECT FROM pg_largeobject_metadata LIMIT %s) x", [_MOST_FILES])
    return bool((row.fetchone() or [0])[0] >= _MOST_FILES)


def dump_globals(access: Access, database: str, final: Path, path: str, passwords: bool) -> FileEntry:
    """Write the roles, their memberships and settings, as SQL.

    Raises:
        UnderstudyError: pg_dumpall failed.
    """
    argv: list[Any] = [access.program("pg_dumpall"), "--globals-only", "--no-password", "-d", access.database(database)]
    # `-l`: it would look for a database `postgres` or `template1`, which we perhaps may not enter; a name that holds
    # `=` would be read as connection parameters, so it is given as one
    argv += [f"--database={make_conninfo(dbname=database)}"] + ([] if passwords else ["--no-role-passwords"])
    code, data, complaints = access.children.output(argv)
    if code:
        error = refused("dumping the roles", code, complaints)
        if passwords and isinstance(error, NotAuthorisedError):
            return dump_globals(access, database, final, path, passwords=False)
        raise error
    try:
        with os.fdopen(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise out_of_room(error) from error
    return FileEntry(path, len(data), hashlib.sha256(data).hexdigest())
