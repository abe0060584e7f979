"""Prove a set whole without a server: every file there, of the right bytes, and every record readable."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from understudy.backup.components import kind
from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, sums
from understudy.errors import IntegrityError
from understudy.progress import Progress, stage

_CHUNK_BYTES = 1 << 20


def check_sums(backup: BackupSet, progress: Progress) -> None:
    """Compare every file's size and SHA-256 with the metadata, and refuse files that it does not list.

    Raises:
        IntegrityError: the set is damaged; `items` names every file that is.
    """
    problems: list[str] = []
    with (
        stage(progress, "Checking files", backup.metadata.size, "bytes"),
        ThreadPoolExecutor(os.cpu_count()) as pool,  # hashing lets other threads run
    ):
        checks = pool.map(lambda entry: _problem(backup.directory, entry, progress.advance), backup.metadata.files)
        problems = [problem for problem in checks if problem]
    listed = {entry.path for entry in backup.metadata.files} | {METADATA}
    problems += [f"{path}: not part of the set" for path in _walk(backup.directory) if path not in listed]
    by_path = {entry.path: entry for entry in backup.metadata.files}
    summed = tuple(entry for entry in backup.metadata.files if entry.path != SUMS)
    if SUMS not in by_path or by_path[SUMS].sha256 != hashlib.sha256(sums(summed)).hexdigest():
        problems.append(f"{SUMS}: does not list the set's files")
    if problems:
        raise IntegrityError(
            f"checking {backup.metadata.called}", f"{len(problems)} file(s) are not what was written: {problems[0]}",
            "Use another set (`understudy list`), or its archive or copy if you have one.", problems,
        )  # fmt: skip


def _problem(directory: Path, entry: FileEntry, advance: Callable[[int], None]) -> str:
    path = directory / entry.path
    digest = hashlib.sha256()
    lines = 0
    try:
        if path.resolve() != directory.resolve() / entry.path or not path.is_file():
            return f"{entry.path}: missing, or a link"
        if (size := path.stat().st_size) != entry.size:
            return f"{entry.path}: {size:,} bytes instead of {entry.size:,}"
        with path.open("rb") as file:
            while data := file.read(_CHUNK_BYTES):
                digest.update(data)
                lines += data.count(b"\n")
                advance(len(data))
    except OSError as error:
        return f"{entry.path}: {error.strerror or error}"
    if digest.hexdigest() != entry.sha256:
        return f"{entry.path}: the checksum does not match"
    if entry.keys is not None and entry.plain_size is None and lines != entry.keys:
        return f"{entry.path}: it holds {lines} keys, and the metadata says {entry.keys}"
    return ""


def _walk(directory: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(directory):
        for name in (*names, *(one for one in folders if (Path(folder) / one).is_symlink())):
            yield str((Path(folder) / name).relative_to(directory))


def check(backup: BackupSet, progress: Progress) -> int:
    """Check sums, then have each component read its files; return the number of keys.

    Raises:
        IntegrityError: something is damaged, or a part holds another number of keys than recorded.
    """
    check_sums(backup, progress)
    for name in backup.metadata.components:
        kind(name).read_through(backup, progress)
    return backup.metadata.keys
