"""Sets in a local directory: `<id>/` and, beside it, `<id>.tar.gz`.

While a set is being made it lies in a `.partial-…` directory, which a lock marks as alive; what a crash left there is
removed by the next backup. Deleting goes the other way round: `metadata.json` first, so that half a set is none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from understudy.backup.durable import publish, sync
from understudy.backup.repository import ARCHIVE_SUFFIX, LATEST, Advance, Say, StoredSet, find
from understudy.backup.set import METADATA, BackupSet, SetId
from understudy.errors import IntegrityError, NotFoundError, RefusedError, UnreachableError

_PARTIAL = ".partial-"


class LocalRepository:
    """A directory that holds sets. It is made when first written to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def sets(self) -> list[StoredSet]:
        """Return every whole set, newest first: directories with metadata, and archives that stand alone."""
        try:
            names = sorted(path.name for path in self.directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnreachableError(
                f"listing the sets in {self.directory}", error.strerror or str(error), "Check BACKUP_DIR."
            ) from error
        found: dict[str, StoredSet] = {}
        for name in names:
            path = self.directory / name
            with contextlib.suppress(NotFoundError):  # not one of ours
                set_id = SetId.parse(name.removesuffix(ARCHIVE_SUFFIX))
                if (path / METADATA).is_file():
                    found[str(set_id)] = StoredSet(set_id, _size(path), str(path))
                elif name.endswith(ARCHIVE_SUFFIX) and path.is_file():
                    found.setdefault(str(set_id), StoredSet(set_id, path.stat().st_size, str(path)))
        return sorted(found.values(), key=lambda stored: stored.id, reverse=True)

    def put(self, archive: Path, set_id: SetId, advance: Advance) -> str:
        """Copy an archive here."""
        final = self.directory / f"{set_id}{ARCHIVE_SUFFIX}"
        with self.scratch("copy") as place, archive.open("rb") as source:
            temporary = place / final.name
            with temporary.open("wb") as copy:
                while data := source.read(1 << 20):
                    copy.write(data)
                    advance(len(data))
                copy.flush()
                os.fsync(copy.fileno())
            publish(temporary, final)
        return str(final)

    def open(self, stored: StoredSet) -> AbstractContextManager[BinaryIO]:
        """Open a set's archive."""
        try:
            return (self.directory / f"{stored.id}{ARCHIVE_SUFFIX}").open("rb")
        except FileNotFoundError:
            raise NotFoundError(
                f"opening the archive of {stored.id}", "only its directory is here", f"Use {stored.key} instead."
            ) from None

    def delete(self, stored: StoredSet) -> None:
        """Delete directory and archive, metadata first."""
        folder = self.directory / str(stored.id)
        if self.is_read(stored):
            raise RefusedError(
                f"deleting {stored.id}", "it is being read: a restore or a rehearsal of it is at work",
                "Try again when that has ended.",
            )  # fmt: skip
        (folder / METADATA).unlink(missing_ok=True)
        if folder.is_dir():
            sync(folder)
        (self.directory / f"{stored.id}{ARCHIVE_SUFFIX}").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        sync(self.directory)

    def is_read(self, stored: StoredSet) -> bool:
        """Tell whether somebody reads a set just now; see `reading`."""
        try:
            with (self.directory / str(stored.id) / METADATA).open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # only its archive is here, or the file system knows no locks
            return False
        return False

    def whole(
        self,
        name: str,
        profile: str | None = None,
        components: Collection[str] = (),
        say: Say | None = None,
        named: str | None = None,
    ) -> BackupSet | Path:
        """Return the set of that name as a directory, or its archive where only that is here.

        `name` is an id, `latest` (of a profile, with these components, of this name, where they are given), or the
        path of a set's directory or archive.

        Raises:
            NotFoundError: there is none.
            IntegrityError: its metadata is damaged.
        """
        path = Path(name)
        if name != LATEST and (os.path.exists(path) or "/" in name):  # noqa: PTH110 - quiet about names too long
            return path if path.is_file() and path.name != METADATA else BackupSet.open(path)
        place = Path(find(self, name, profile, components, say, named).key)
        return BackupSet.open(place) if place.is_dir() else place

    @contextlib.contextmanager
    def scratch(self, purpose: str) -> Iterator[Path]:
        """Give an empty directory on the disk of the sets, alive as long as we are; gone afterwards."""
        place = self.directory / f"{_PARTIAL}{purpose}-{secrets.token_hex(4)}"
        with contextlib.ExitStack() as stack:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                with (self.directory / ".lock").open("a") as gate:  # nobody sweeps between mkdir and flock
                    fcntl.flock(gate, fcntl.LOCK_EX)
                    self._sweep()
                    place.mkdir(mode=0o700)
                    alive = stack.enter_context((place / "lock").open("w"))
                    fcntl.flock(alive, fcntl.LOCK_EX)
            except OSError as error:
                raise UnreachableError(
                    f"writing to {self.directory}", error.strerror or str(error),
                    "Check BACKUP_DIR, its rights and its space.",
                ) from error  # fmt: skip
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            yield place

    def _sweep(self) -> None:
        """Remove what crashed backups left behind."""
        for place in self.directory.glob(f"{_PARTIAL}*"):
            if _abandoned(place / "lock"):
                shutil.rmtree(place, ignore_errors=True)

    def commit(self, staged: Path, archive: Path | None, set_id: SetId) -> BackupSet:
        """Publish a staged set, whose metadata is written: from here on it exists."""
        final = self.directory / str(set_id)
        if final.exists():
            raise RefusedError(f"publishing {set_id}", "a set of this name exists", "Run the backup again.")
        publish(staged, final)
        if archive:
            publish(archive, self.directory / f"{set_id}{ARCHIVE_SUFFIX}")
        return BackupSet.open(final)


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Keep a set's directory from being deleted while the block runs; the kernel lets go when we are killed."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(stack.enter_context((directory / METADATA).open("rb")), fcntl.LOCK_SH)
        yield


def _abandoned(lock: Path) -> bool:
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    with contextlib.suppress(IntegrityError, NotFoundError):
        return BackupSet.open(folder).metadata.size
    return 0
