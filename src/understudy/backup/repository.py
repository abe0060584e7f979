"""What a repository is: the place where sets are kept, and the narrow port that each kind implements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from understudy.backup.archive import read_metadata
from understudy.backup.set import METADATA, BackupSet, Metadata, SetId
from understudy.errors import IntegrityError, NotFoundError

LATEST = "latest"
SAFETY = "safety"  # the name of sets that are taken before a restore overwrites something
ARCHIVE_SUFFIX = ".tar.gz"
AHEAD = timedelta(days=1)  # a set that is dated later than this after now was taken by a clock that was wrong
Advance = Callable[[int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class StoredSet:
    """A set that a repository holds whole: its id, the bytes it takes there, and its key or path."""

    id: SetId
    size: int
    key: str


class Repository(Protocol):
    """Sets, each as one archive that is there completely or not at all.

    Every method raises `UnreachableError` or `NotAuthorisedError` where the store cannot be used.
    """

    def sets(self) -> list[StoredSet]:
        """Return every whole set, newest first."""

    def put(self, archive: Path, set_id: SetId, advance: Advance) -> str:
        """Store an archive under its final name, and return where; nothing is seen until all of it is there."""

    def open(self, stored: StoredSet) -> AbstractContextManager[BinaryIO]:
        """Read an archive as a stream."""

    def delete(self, stored: StoredSet) -> None:
        """Remove a set; one that is half removed is no longer listed."""


def peek(repository: Repository, stored: StoredSet) -> Metadata:
    """Return what a set's metadata says, without reading the set: the archive's first entry.

    Raises:
        IntegrityError: it is damaged.
    """
    folder = getattr(repository, "directory", None)
    if isinstance(folder, Path) and (folder / str(stored.id) / METADATA).is_file():
        return BackupSet.open(folder / str(stored.id)).metadata
    with repository.open(stored) as stream:
        return read_metadata(stream, stored.key)


def find(
    repository: Repository,
    name: str,
    profile: str | None = None,
    components: Collection[str] = (),
    say: Say | None = None,
    named: str | None = None,
) -> StoredSet:
    """Return the set of that id (with or without `.tar.gz`), or for `latest` the newest (of a profile).

    `latest` is the newest that holds all `components`, and is named `named` where that is given; never a safety set,
    which holds what a restore replaced, and never one that is dated more than a day after now, as long as there is
    another: `say` is told of those.

    Raises:
        NotFoundError: there is none.
    """
    sets = repository.sets()
    wanted = name.rsplit("/", 1)[-1].removesuffix(ARCHIVE_SUFFIX)
    today = datetime.now(UTC) + AHEAD
    ahead: list[StoredSet] = []
    for stored in sets:
        if wanted == str(stored.id):
            return stored
        if wanted != LATEST or stored.id.name == SAFETY or profile not in (None, stored.id.profile):
            continue
        if named not in (None, stored.id.name):
            continue
        if components and not _holds(repository, stored, components):
            continue
        if stored.id.created > today:
            ahead.append(stored)
            continue
        _tell_ahead(ahead, f"{LATEST} is {stored.id}", say)
        return stored
    if ahead:
        _tell_ahead(ahead, f"{LATEST} is the newest of them, for there is no other", say)
        return ahead[0]
    where = getattr(repository, "directory", None)
    why = f"the repository is empty: {where.resolve()}" if isinstance(where, Path) else "the repository is empty"
    hint = "Is this the directory of understudy.toml? BACKUP_DIR names another place; --from-s3 asks the object store."
    if sets:
        of = f" of profile {profile!r}" if profile and wanted == LATEST else " of that name"
        if wanted == LATEST and named:
            of += f" and named {named!r}"
        if wanted == LATEST and components:
            of += f" that holds {' and '.join(components)}"
        why = f"there is none{of} among {len(sets)}; the newest is {sets[0].id}"
        hint = "`understudy list` shows the sets; --from-s3 looks in the object store."
    raise NotFoundError(f"looking for the set {name[:200]!r}", why, hint)


def _holds(repository: Repository, stored: StoredSet, components: Collection[str]) -> bool:
    """Tell whether a set holds all of these; one that is damaged counts, so that whoever reads it is told."""
    try:
        return set(components) <= set(peek(repository, stored).components)
    except IntegrityError:
        return True


def _tell_ahead(ahead: Sequence[StoredSet], instead: str, say: Say | None) -> None:
    if ahead and say:
        more = f" (and {len(ahead) - 1} more)" if len(ahead) > 1 else ""
        say(f"Warning: {ahead[0].id}{more} is dated after now: was the clock wrong then, or is it? {instead}.")
