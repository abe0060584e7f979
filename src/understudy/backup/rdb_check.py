"""Have the server's own tool read a set's RDB files through: every value, the checksum, the number of keys."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.backup.rdb_expand import rdb_files
from understudy.backup.set import BackupSet, FileEntry
from understudy.errors import IntegrityError, NotFoundError
from understudy.lab.servers.valkey import Binary, find_binary
from understudy.progress import Progress, stage

_LOOK_EVERY_S = 0.2
_MOST_SAID = 1 << 16
_HINT = "Use another set, or name the server that wrote it in UNDERSTUDY_SERVER."
_KEYS = re.compile(r"^\[info\] (\d+) keys read", re.MULTILINE)
_UNKNOWN = re.compile(r"(?:Future|Foreign|Unknown) RDB version (\d+)")
_WHY = re.compile(r"--- RDB ERROR DETECTED ---\n(?:\[offset \d+\] )?(.*)")


def unread(backup: BackupSet) -> str:
    """Return why the RDB files of a set cannot be read here; empty where they can, or where there are none."""
    if not rdb_files(backup):
        return ""
    try:
        find_binary()
    except NotFoundError as error:
        return f"its RDB files were not read, for {error.why}. {error.hint}"
    return ""


def check_files(backup: BackupSet, progress: Progress) -> None:
    """Read every RDB file of a set, where there is a server to do it: see `unread`.

    Raises:
        IntegrityError: one of them is damaged, of a version that the server does not read, or holds another number of
            keys than recorded.
    """
    found = rdb_files(backup)
    if not found or unread(backup):
        return
    binary = find_binary()
    with tempfile.TemporaryDirectory() as folder, stage(
        progress, "Reading RDB files", sum(entry.size for entry, _ in found), "bytes"
    ):  # fmt: skip
        tool = Path(folder) / f"{binary.name}-check-rdb"  # the server is this tool where it is called so
        tool.symlink_to(binary.path)
        for entry, recorded in found:
            _check(tool, binary, backup, entry, recorded, progress)
            progress.advance(entry.size)


def _check(
    tool: Path, binary: Binary, backup: BackupSet, entry: FileEntry, recorded: Mapping[str, Any], progress: Progress
) -> None:
    doing = f"checking {entry.path} of {backup.metadata.id}"
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            [str(tool), str((backup.directory / entry.path).resolve())],
            stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT, cwd=tool.parent,
        )  # fmt: skip
        try:
            while not _ended(process):
                progress.advance(0)
        finally:
            process.kill()
            process.wait()
        said = _ends(told)
    if (unknown := _UNKNOWN.search(said)) or process.returncode:
        why = _WHY.search(said)
        reason = why[1] if why else f"its tool ended with {process.returncode}"
        if unknown:
            reason = f"it is of RDB version {unknown[1]}"
        raise IntegrityError(doing, f"{binary} does not read it: {reason}", _HINT)
    keys = _KEYS.search(said)
    if keys is None or int(keys[1]) != recorded["keys"]:
        raise IntegrityError(
            doing, f"it holds {keys[1] if keys else 'no'} keys, and the metadata says {recorded['keys']}",
            "Use another set.",
        )  # fmt: skip


def _ended(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LOOK_EVERY_S)
        return True
    return False


def _ends(told: Any) -> str:
    """Return the beginning and the end of what was said: in between may stand as much as the file likes."""
    size = told.seek(0, 2)
    told.seek(0)
    pieces = [told.read(_MOST_SAID)]
    if size > 2 * _MOST_SAID:
        told.seek(size - _MOST_SAID)
    pieces.append(told.read(_MOST_SAID))
    return b"".join(pieces).decode(errors="replace")
