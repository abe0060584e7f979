"""What a repository is: the place where sets are kept, and the narrow port that each kind implements."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from understudy.backup.set import SetId
from understudy.errors import NotFoundError

LATEST = "latest"
ARCHIVE_SUFFIX = ".tar.gz"
Advance = Callable[[int], None]


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


def find(repository: Repository, name: str, profile: str | None = None) -> StoredSet:
    """Return the set of that id (with or without `.tar.gz`), or for `latest` the newest (of a profile).

    Raises:
        NotFoundError: there is none.
    """
    sets = repository.sets()
    wanted = name.rsplit("/", 1)[-1].removesuffix(ARCHIVE_SUFFIX)
    for stored in sets:
        if wanted == str(stored.id) or (wanted == LATEST and profile in (None, stored.id.profile)):
            return stored
    why = "the repository is empty"
    if sets:
        of = f" of profile {profile!r}" if profile and wanted == LATEST else " of that name"
        why = f"there is none{of} among {len(sets)}; the newest is {sets[0].id}"
    hint = "`understudy list` shows the sets; --from-s3 looks in the object store."
    raise NotFoundError(f"looking for the set {name[:200]!r}", why, hint)
