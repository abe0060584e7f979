"""Read a plain `dump.rdb` (or `.rdb.gz`): an embedded server loads a copy of it, and a set is taken from that.

Requirement document 5's old sets hold one, `redis_<time>.rdb.gz`, beside files of other stores and a SHA256SUMS.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from understudy.backup.components.redis import RedisComponent
from understudy.backup.rdb_load import loaded
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import METADATA, BackupSet
from understudy.backup.take import take
from understudy.errors import IntegrityError, NotFoundError, UsageError
from understudy.progress import Progress

NAME = "rdb"  # of the sets that are made of such files
_OLD_DUMP = re.compile(r"redis_.*\.rdb(\.gz)?")
_SUMS_LINE = re.compile(r"(?P<sha256>[0-9a-fA-F]{64}) [ *](\./)?(?P<path>.+)")
_SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Dump:
    """A file of Redis or Valkey, and the old set's directory that it was found in, where it was."""

    file: Path
    folder: Path | None = None


def find(name: str) -> Dump | None:
    """Return the dump that a path names: itself, or a directory of document 5 with exactly one; None: neither.

    Raises:
        UsageError: the directory holds several.
    """
    path = Path(name)
    folder = os.path.isdir(path)  # noqa: PTH112 - quiet about names too long
    if name.endswith((".rdb", ".rdb.gz")) and not folder:
        return Dump(path)
    if folder and not (path / METADATA).exists():
        dumps = sorted(one for one in path.iterdir() if _OLD_DUMP.fullmatch(one.name))
        if len(dumps) > 1:
            raise UsageError(f"reading {path}", f"it holds {len(dumps)} dumps of Redis", f"Name one, as {dumps[0]}.")
        if dumps:
            return Dump(dumps[0], path)
    return None


@contextlib.contextmanager
def as_set(dump: Dump, local: LocalRepository, progress: Progress) -> Iterator[BackupSet]:
    """Give what the file holds as a set, beside the local sets, removed afterwards.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: it is not what its SHA256SUMS says, or the server refuses it: damaged, of a newer version,
            or with data of modules.
        RefusedError: there is not enough room.
        UsageError: the lab, whose server reads it, is not installed.
    """
    if not dump.file.is_file():
        raise NotFoundError(f"reading {dump.file}", "there is no such file")
    if dump.folder:
        _check_sums(dump.folder, progress)
        _name_others(dump.folder, progress)
    with local.scratch("rdb") as place:
        with loaded(dump.file, progress) as target, contextlib.closing(RedisComponent(target)) as component:
            taken = take([component], LocalRepository(place / "sets"), None, "file", progress, name=NAME)
        yield taken.backup


def _check_sums(folder: Path, progress: Progress) -> None:
    """Compare every file with the old set's SHA256SUMS; without one, say so."""
    place = folder / _SUMS
    if not place.is_file():
        progress.say(f"Warning: {folder} has no {_SUMS}: its bytes cannot be proved whole.")
        return
    problems: list[str] = []
    listed: set[str] = set()
    for line in place.read_text(errors="replace").splitlines():
        found = _SUMS_LINE.fullmatch(line)
        if not found:
            problems.append(f"{_SUMS}: a line is not one of sha256sum")
            continue
        path = folder / found["path"]
        listed.add(path.name)
        try:
            with path.open("rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == found["sha256"].lower()
        except OSError as error:
            problems.append(f"{found['path']}: {error.strerror or error}")
        else:
            problems += [] if same else [f"{found['path']}: the checksum does not match"]
    for path in folder.iterdir():
        if _OLD_DUMP.fullmatch(path.name) and path.name not in listed:
            problems.append(f"{path.name}: {_SUMS} does not list it")
    if problems:
        raise IntegrityError(
            f"checking {folder}", f"{len(problems)} file(s) are not what was written: {problems[0]}",
            "Use another set.", problems,
        )  # fmt: skip


def _name_others(folder: Path, progress: Progress) -> None:
    """Name what of an old set is not read, and how it is brought back by hand."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("postgres"):
            by_hand = f"pg_restore --clean --if-exists --no-owner -d DATABASE {path}"
            if path.name.endswith(".gz"):
                by_hand = f"gunzip -c {path} | psql -d DATABASE"
            elif path.suffix == ".sql":
                by_hand = f"psql -d DATABASE -f {path}"
            progress.say(f"Not read: {path}. By hand: {by_hand}")
        elif path.name.startswith("qdrant"):
            progress.say(
                f"Not read: {path}. By hand: unpack it, then for each snapshot: curl -X POST "
                f"'http://HOST:6333/collections/NAME/snapshots/upload?priority=snapshot' -F snapshot=@FILE"
            )
