"""Where the histories of drills lie that named no directory, how many of them stay, and what they take."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from understudy.lab import state
from understudy.pages.figures import count, size

KEPT_DRILLS = 20


@dataclass(frozen=True)
class Kept:
    """What drills have left in one directory; `size` in bytes."""

    directory: Path
    drills: int
    size: int

    def __str__(self) -> str:
        """Return it in words."""
        return f"{count(self.drills, 'drill')}, {size(self.size)}, in {self.directory}"


def kept() -> Kept:
    """Return what the last drills have left."""
    folders = [path for path in _directory().glob("*") if path.is_dir()]
    return Kept(_directory(), len(folders), sum(map(bytes_in, folders)))


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def folder_for(scenario: str) -> Path:
    """Return a new directory for the histories of a drill; of older ones the last `KEPT_DRILLS` are kept."""
    drills = _directory()
    drills.mkdir(exist_ok=True, mode=0o700)
    older = sorted((path for path in drills.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in older[: 1 - KEPT_DRILLS]:
        shutil.rmtree(path, ignore_errors=True)
    made = drills / f"{scenario}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{random.randrange(16**4):04x}"  # noqa: S311
    made.mkdir(mode=0o700)
    return made


def stays(folder: Path) -> str:
    """Return in a sentence what a drill's directory takes, and how long it stays."""
    taken = size(bytes_in(folder))
    if folder.parent != _directory():
        return f"They take {taken}, and stay."
    return f"They take {taken}; the last {KEPT_DRILLS} drills' are kept: {kept()}."


def _directory() -> Path:
    return state.home() / "drills"
