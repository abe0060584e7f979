"""What is kept of a rehearsal: `BACKUP_DIR/rehearsals/<UTC time>-<set>.json` and its page beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from understudy.backup.durable import write_file
from understudy.errors import out_of_room
from understudy.operations.rehearsal.findings import FORMAT, VERSION, Rehearsal
from understudy.operations.rehearsal.report import rehearsal_page

FOLDER = "rehearsals"


@dataclass(frozen=True)
class Recorded:
    """A rehearsal that was kept. `at` is when it began; `whole`: every component of the set was rehearsed."""

    at: datetime
    set: str
    verdict: str
    components: tuple[str, ...]
    whole: bool
    recovery_s: float
    age_s: float
    path: Path


def record(result: Rehearsal, directory: Path) -> tuple[Path, Path]:
    """Keep a rehearsal in this directory of sets; return the paths of its data and of its page.

    Raises:
        UnreachableError: they cannot be written.
    """
    folder = directory / FOLDER
    at = datetime.fromisoformat(result.began_at)
    stem = f"{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03d}Z-{result.set}"
    data, page = folder / f"{stem}.json", folder / f"{stem}.html"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(page, rehearsal_page(result).encode())
        write_file(data, orjson.dumps(result.as_data(), option=orjson.OPT_INDENT_2) + b"\n")  # last: it counts
    except OSError as error:
        raise out_of_room(error) from error
    return data, page


def recorded(directory: Path) -> Iterator[Recorded]:
    """Return the rehearsals that were kept in this directory of sets, newest first; what is damaged is passed over."""
    for path in sorted((directory / FOLDER).glob("*.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = orjson.loads(path.read_bytes())
            if (found["format"], found["version"]) == (FORMAT, VERSION):
                yield Recorded(
                    datetime.fromisoformat(found["began_at"]), str(found["set"]), str(found["verdict"]),
                    tuple(str(one["name"]) for one in found["components"]), found["whole"] is True,
                    float(found["recovery_s"]), float(found["age_s"]), path,
                )  # fmt: skip


def last_passed(directory: Path) -> Recorded | None:
    """Return the newest rehearsal of a whole set that passed, of those kept in this directory of sets."""
    return next((one for one in recorded(directory) if one.verdict == "passed" and one.whole), None)
