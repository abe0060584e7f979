"""Compare a set with a server: a sample of its keys, or every key both ways."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import secrets
import sqlite3
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from understudy.backup import functions
from understudy.backup.anywhere.fit import Readers
from understudy.backup.big import whole
from understudy.backup.check import check_sums
from understudy.backup.functions import FUNCTIONS
from understudy.backup.record import decode, read_blocks
from understudy.backup.set import BackupSet
from understudy.backup.tasks.compare_keys import fingerprint
from understudy.backup.tasks.write_keys import name_of
from understudy.backup.verify_report import VerifyReport
from understudy.backup.workers import MOST_JOBS, default_jobs, jobs_for, run_all
from understudy.errors import UnderstudyError
from understudy.progress import Progress, stage
from understudy.valkey import proxied
from understudy.valkey.discovery import refuse_wrong_mode, server_version
from understudy.valkey.glob import compile_glob
from understudy.valkey.keyspace import Batch, databases, list_slots, scan
from understudy.valkey.payload import built_with_commands, newest_readable
from understudy.valkey.router import Router
from understudy.valkey.target import Mode, Target
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import ReplyError

_NOTES_AT_ONCE = 100_000


def verify(
    backup: BackupSet,
    target: Target,
    progress: Progress,
    *,
    sample: int | None = 200,
    chance: random.Random | None = None,
    match: str | None = None,
) -> VerifyReport:
    """Compare `sample` random keys of a set (None: every key, and look for keys that the set lacks).

    With `match`, keys that do not match this glob are none of either, and function libraries are not compared.

    Raises:
        IntegrityError: the set is damaged.
        UnreachableError: the server did not answer.
    """
    refuse_wrong_mode(target)
    check_sums(backup, progress)
    with (
        contextlib.ExitStack() as stack,
        Router(target) as router,
        tempfile.TemporaryDirectory() as folder,
        _scratch() as scratch,
    ):
        reader = stack.enter_context(_reader(backup, router))
        chance = chance or random.Random()  # noqa: S311
        plans = _plans(backup, router.reachable_target(), sample, chance, scratch, Path(folder), match)
        for job, plan in enumerate(plans):
            plan["reader"] = dataclasses.replace(reader, db=job).as_data() if reader else None
        total = backup.metadata.keys if sample is None else min(sample, backup.metadata.keys)
        report = VerifyReport()
        with stage(progress, "Comparing keys", total, "keys"):
            for result in run_all("understudy.backup.tasks.compare_keys:run", plans, progress.advance):
                report.add(result)
        there = router.reachable_target()
        big = whole.compare(backup, there, Path(folder), report, progress, sample=sample, chance=chance, match=match)
        if sample is None:
            if match is None:
                _compare_functions(backup, router, report)
            notes = [*(Path(plan["seen"]) for plan in plans), *big]
            _look_for_extra(backup, router, notes, Path(folder), report, progress, match)
    return report


@contextlib.contextmanager
def _reader(backup: BackupSet, router: Router) -> Iterator[Target | None]:
    """Run a server that decodes payloads, where a primary may refuse some: those keys were built with commands."""
    versions = backup.metadata.components.get("redis", {}).get("rdb_versions", ())
    with contextlib.closing(Readers()) as readers:
        try:
            newest = [newest_readable(*server_version(router.wire(address))) for address in router.primaries]
            older = any(one is None or built_with_commands(version, one) for one in newest for version in versions)
            reader = readers.target() if older else None
        except (ImportError, UnderstudyError):
            reader = None  # values that differ are mismatches, then
        yield reader


def _plans(
    backup: BackupSet,
    target: Target,
    sample: int | None,
    chance: random.Random,
    scratch: Target | None,
    folder: Path,
    match: str | None,
) -> list[dict[str, Any]]:
    parts = backup.parts()
    chosen: dict[str, list[int]] | None = None
    if sample is not None:
        among = range(sum(entry.keys or 0 for entry in parts)) if match is None else _lines_that_match(backup, match)
        numbers = sorted(chance.sample(among, min(sample, len(among))))
        chosen, first = {}, 0
        for entry in parts:
            last = first + (entry.keys or 0)
            chosen[entry.path] = [number - first for number in numbers if first <= number < last]
            first = last
        parts = [entry for entry in parts if chosen[entry.path]]
    jobs = jobs_for(parts)
    return [
        {
            "target": target.as_data(),
            "directory": str(backup.directory),
            "parts": [entry.path for entry in parts[job::jobs]],
            "sample": chosen,
            # a database of its own: whoever shared one would compare another's values
            "scratch": dataclasses.replace(scratch, db=job).as_data() if scratch else None,
            "seen": str(folder / f"seen-{job}") if sample is None else None,
            "match": match,
        }
        for job in range(jobs)
    ]


def _lines_that_match(backup: BackupSet, match: str) -> array[int]:
    """Return the numbers of the lines, all parts counted through, whose key matches."""
    found, first, pattern = array("Q"), 0, compile_glob(match)
    for entry in backup.parts():
        with (backup.directory / entry.path).open("rb") as file:
            for block in read_blocks(file, entry.path):
                keys = decode(block, entry.path).keys
                found.extend(number for number, key in enumerate(keys, first) if pattern.fullmatch(key))
                first += len(keys)
    return found


@contextlib.contextmanager
def _scratch() -> Iterator[Target | None]:
    """Run a scratch server, where its wheel is installed; it settles doubts about values."""
    try:
        from understudy import lab  # noqa: PLC0415 - the lab is an extra

        running = lab.standalone(password=secrets.token_hex(16), databases=default_jobs(MOST_JOBS))
    except (ImportError, UnderstudyError):
        yield None
        return
    with running as server:
        yield server.target()


def _look_for_extra(
    backup: BackupSet,
    router: Router,
    notes: Iterable[Path],
    folder: Path,
    report: VerifyReport,
    progress: Progress,
    match: str | None,
) -> None:
    """Count the server's keys that the set lacks. Fingerprints go to a file: memory does not grow with the keys."""
    recorded = backup.metadata.components.get("redis", {})
    only = compile_glob(match) if match else None
    database = sqlite3.connect(folder / "fingerprints.sqlite")
    with contextlib.closing(database):
        database.execute("PRAGMA journal_mode=OFF")
        database.execute("CREATE TABLE seen (print INTEGER PRIMARY KEY)")
        for note in notes:
            for prints in _read_notes(note):
                database.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((value,) for value in prints))
        with stage(progress, "Looking for extra keys", None, "keys"):
            for db in sorted({*recorded.get("databases", [0]), *databases(router)}):
                for names, _ in _names(router, db, recorded.get("match")):
                    wanted = {fingerprint(db, name): name for name in names if only is None or only.fullmatch(name)}
                    database.execute("CREATE TEMP TABLE asked (print INTEGER PRIMARY KEY)")
                    database.executemany("INSERT INTO asked VALUES (?)", ((value,) for value in wanted))
                    extra = database.execute(
                        "SELECT print FROM asked WHERE print NOT IN (SELECT print FROM seen)"
                    ).fetchall()
                    database.execute("DROP TABLE asked")
                    for (value,) in extra:
                        report.note("extra", name_of(wanted[value]))
                    progress.advance(len(names))


def _compare_functions(backup: BackupSet, router: Router, report: VerifyReport) -> None:
    if not (backup.directory / FUNCTIONS).is_file():
        return
    there = dict(functions.read(router)[0])
    replies = router.on_primaries("FUNCTION", "LIST")
    held = not any(isinstance(one, ReplyError) and "unknown command" in str(one).lower() for one in replies)
    for name, code in functions.decode((backup.directory / FUNCTIONS).read_bytes(), FUNCTIONS):
        if name not in there:
            report.note("missing" if held else "unheld", f"function library {name}")
            report.unheld_libraries += not held
        elif there[name] != code:
            report.note("value_mismatch", f"function library {name}")


def _read_notes(path: Path) -> Iterator[array[int]]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while data := file.read(8 * _NOTES_AT_ONCE):
            yield array("Q", data)


def _names(router: Router, db: int, match: str | None) -> Iterator[Batch]:
    with Router(dataclasses.replace(router.target, db=db)) as there:
        expression = compile_glob(match) if match else None
        if there.target.mode is Mode.OSS_CLUSTER:
            yield from list_slots(there, range(SLOTS), expression)
        elif there.target.mode is Mode.ENTERPRISE and not proxied.scans_properly(there):
            yield from proxied.list_slots(there, range(SLOTS), expression)
        elif address := there.owner(None):
            yield from scan(there, address, match)
