"""The demo's own directory: claimed with a mark, cleared of what earlier demos left, never anybody else's."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, StoredSet
from understudy.backup.set import SetId
from understudy.errors import NotFoundError, RefusedError, UnreachableError

MARK = ".understudy-demo"
SET_NAME = "understudy-demo"
REPORT = "report.html"
DETAILS = ("sale", "drill", "rehearsal")
_OTHER = "Name another one with --out-dir, or empty it."


@dataclass(frozen=True)
class Place:
    """A claimed directory."""

    directory: Path

    @property
    def repository(self) -> LocalRepository:
        """Return the repository of the demo's sets."""
        return LocalRepository(self.directory)

    @property
    def report(self) -> Path:
        """Return where the report page goes."""
        return self.directory / REPORT

    def page(self, of: str) -> Path:
        """Return where a page of details goes: one of `DETAILS`."""
        return self.directory / f"{of}.html"

    @contextlib.contextmanager
    def unless_unfinished(self, taken: SetId) -> Iterator[None]:
        """Remove a set again if the block does not come to its end."""
        try:
            yield
        except BaseException:
            for stored in self.repository.sets():
                if stored.id == taken:
                    self.repository.delete(stored)
            raise

    def size(self) -> int:
        """Return the bytes of all files in it."""
        return sum(path.lstat().st_size for path in self.directory.rglob("*") if path.is_file())

    def clear(self, keep: SetId | None = None) -> None:
        """Remove the sets of demos, whole or not, but for `keep`. Files that no demo made stay."""
        for path in sorted(self.directory.iterdir()):
            with contextlib.suppress(NotFoundError):  # not one of ours
                set_id = SetId.parse(path.name.removesuffix(ARCHIVE_SUFFIX))
                if set_id != keep and set_id.text.startswith(f"{SET_NAME}-"):
                    self.repository.delete(StoredSet(set_id, 0, str(path)))


@contextlib.contextmanager
def claim(directory: Path) -> Iterator[Place]:
    """Make the directory ours for as long as the block runs; it is made where it is not there.

    Raises:
        RefusedError: it is not empty and no demo made it, it is no directory, or another demo is using it.
        UnreachableError: it cannot be written to.
    """
    doing = f"using {directory} for the demo"
    mark = directory / MARK
    try:
        if directory.exists() and not directory.is_dir():
            raise RefusedError(doing, "it is no directory", _OTHER)
        directory.mkdir(parents=True, exist_ok=True)
        if not mark.is_file() and any(directory.iterdir()):
            raise RefusedError(doing, "it is not empty, and no demo made it", _OTHER)
        file = mark.open("a")
    except OSError as error:
        raise UnreachableError(doing, error.strerror or str(error), _OTHER) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(doing, "another demo is running there", "Wait for it, or name another one.") from None
        yield Place(directory)
