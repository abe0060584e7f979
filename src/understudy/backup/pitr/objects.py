"""Where an archive's objects are kept: the narrow port, and the two kinds of places, a directory and an object store.

A path is relative, with `/` between its parts. An object is there with all its bytes or not at all.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

from understudy.backup.durable import publish, sync, write_file
from understudy.backup.repositories import is_rsync, is_uri
from understudy.errors import IntegrityError, NotFoundError, UnreachableError, UsageError

if TYPE_CHECKING:
    from understudy.backup.repositories.objectstore import ObjectStoreRepository

_CHUNK_BYTES = 1 << 20
_MOST_SMALL_BYTES = 64 << 20
Advance = Callable[[int], None]
Result = TypeVar("Result")


def _unseen(_: int) -> None:
    """Tell nobody."""


class Objects(Protocol):
    """Objects by their paths. Every method raises `UnreachableError` or `NotAuthorisedError` where they cannot be used.

    `where` names the place for people.
    """

    where: str

    def put(self, path: str, data: bytes) -> None:
        """Store a small object, over one that is there."""

    def create(self, path: str, data: bytes) -> bool:
        """Store a small object where there is none of that path; False where there is one."""

    def put_file(self, path: str, file: Path, advance: Advance = _unseen) -> None:
        """Store a file's bytes, over an object that is there."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the objects directly in a folder: name and size; none where there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders directly in a folder, sorted; their objects are not looked at."""

    def get(self, path: str) -> bytes:
        """Read a small object. Raises `NotFoundError` where there is none."""

    def fetch(self, path: str, into: Path, advance: Advance = _unseen) -> None:
        """Write an object's bytes into a new file. Raises `NotFoundError` where there is none."""

    def delete(self, path: str) -> None:
        """Remove an object; harmless where there is none."""

    def remove_folder(self, folder: str) -> None:
        """Remove a folder in which nothing is left; harmless where there is none."""


def open_objects(place: str | Path) -> Objects:
    """Return the objects at a URI or in a directory, which is made when first written to.

    Raises:
        UsageError: it is a place by rsync, or the URI cannot be read.
    """
    text = str(place)
    if isinstance(place, str) and is_rsync(text):
        raise UsageError(
            f"archiving to {text}", "an archive is written every few seconds, and rsync is for whole sets",
            "Name an object store (S3_URI=s3://bucket/prefix) or a directory, for example one that is mounted.",
        )  # fmt: skip
    if isinstance(place, str) and is_uri(text):
        return StoredObjects(text)
    return LocalObjects(Path(place))


class LocalObjects:
    """Files below a directory. What is half written has a name with a dot in front, and is none of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.where = str(directory)

    def put(self, path: str, data: bytes) -> None:
        """Write it beside, then rename."""
        with self._told(f"writing {path}"):
            self._folder_of(path)
            write_file(self.directory / path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write it beside, then link, which fails where there is one."""
        final = self.directory / path
        beside = final.with_name(f".{final.name}.{secrets.token_hex(4)}")  # of two that begin at once each has its own
        with self._told(f"writing {path}"):
            self._folder_of(path)
            write_file(beside, data)
            try:
                final.hardlink_to(beside)
            except FileExistsError:
                return False
            finally:
                beside.unlink()
            sync(final.parent)
        return True

    def put_file(self, path: str, file: Path, advance: Advance = _unseen) -> None:
        """Copy it beside, then rename."""
        final = self.directory / path
        beside = final.with_name(f".{final.name}.new")
        with self._told(f"writing {path}"):
            self._folder_of(path)
            with file.open("rb") as source, beside.open("wb") as copy:
                _copied(source, copy, advance)
                copy.flush()
                sync(beside)
            publish(beside, final)

    def sizes(self, folder: str) -> dict[str, int]:
        """Look at the directory's files."""
        found = {}
        with self._told(f"listing {folder}"):
            for entry in self._entries(folder):
                if entry.is_file() and not entry.name.startswith("."):
                    try:
                        found[entry.name] = entry.stat().st_size
                    except FileNotFoundError:  # deleted meanwhile
                        continue
        return found

    def folders(self, folder: str) -> list[str]:
        """Look at the directory's directories."""
        with self._told(f"listing {folder}"):
            return sorted(entry.name for entry in self._entries(folder) if entry.is_dir())

    def get(self, path: str) -> bytes:
        """Read the file."""
        with self._told(f"reading {path}"), (self.directory / path).open("rb") as file:
            return _small(file.read(_MOST_SMALL_BYTES + 1), path)

    def fetch(self, path: str, into: Path, advance: Advance = _unseen) -> None:
        """Copy the file."""
        with self._told(f"reading {path}"), (self.directory / path).open("rb") as source, into.open("xb") as copy:
            _copied(source, copy, advance)

    def delete(self, path: str) -> None:
        """Unlink the file."""
        final = self.directory / path
        with self._told(f"deleting {path}"):
            try:
                final.unlink()
            except FileNotFoundError:
                return
            sync(final.parent)

    def remove_folder(self, folder: str) -> None:
        """Remove the directory, with what was half written in it."""
        with self._told(f"deleting {folder}"):
            for entry in self._entries(folder):
                if entry.name.startswith("."):
                    entry.unlink()
            place = self.directory / folder
            if place.is_dir():
                place.rmdir()
                sync(place.parent)

    def _folder_of(self, path: str) -> None:
        (self.directory / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _entries(self, folder: str) -> Iterator[Path]:
        try:
            yield from (self.directory / folder).iterdir()
        except FileNotFoundError:
            return

    def _told(self, doing: str) -> _Told:
        return _Told(f"{doing} in {self.where}")


class _Told:
    """Makes our error of the system's."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        """There is nothing to prepare."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(self._doing, "it is not there", "`understudy list` shows what can be restored.")
        if isinstance(error, OSError):
            raise UnreachableError(
                self._doing, error.strerror or str(error), "Check the directory, its rights and its space."
            ) from error


class StoredObjects:
    """Objects below `s3://bucket/prefix`, or of another store that obstore reaches."""

    def __init__(self, uri: str) -> None:
        from understudy.backup.repositories.objectstore import ObjectStoreRepository  # noqa: PLC0415 - an extra

        self._repository: ObjectStoreRepository = ObjectStoreRepository(uri)
        self._store = self._repository.store
        self.where = self._repository.uri

    def put(self, path: str, data: bytes) -> None:
        """Put it in one request."""
        key = self._key(path)
        self._attempt(f"writing {path} to", lambda: self._store.put(key, data, use_multipart=False))

    def create(self, path: str, data: bytes) -> bool:
        """Put it on the condition that there is none."""
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - an extra

        def put() -> bool:
            try:
                self._store.put(self._key(path), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

        return self._attempt(f"writing {path} to", put)

    def put_file(self, path: str, file: Path, advance: Advance = _unseen) -> None:
        """Upload it, in parts where it is large; a broken upload leaves no object."""
        self._repository.upload(path, file, advance)

    def sizes(self, folder: str) -> dict[str, int]:
        """List the objects."""
        prefix = self._key(folder) + "/"

        def rows() -> dict[str, int]:
            found = {}
            for batch in self._store.list(prefix):
                for row in batch:
                    name = row["path"].removeprefix(prefix)
                    if "/" not in name:
                        found[name] = row["size"]
            return found

        return self._attempt(f"listing {folder} in", rows)

    def folders(self, folder: str) -> list[str]:
        """List the prefixes."""
        prefix = self._key(folder) + "/"
        found = self._attempt(f"listing {folder} in", lambda: self._store.list_with_delimiter(prefix))
        return sorted(one.rstrip("/").rpartition("/")[2] for one in found["common_prefixes"])

    def get(self, path: str) -> bytes:
        """Get it in one request."""
        key = self._key(path)
        return _small(self._attempt(f"reading {path} from", lambda: bytes(self._store.get(key).bytes())), path)

    def fetch(self, path: str, into: Path, advance: Advance = _unseen) -> None:
        """Download it as a stream."""
        key = self._key(path)
        with into.open("xb") as file:
            stream = self._attempt(
                f"reading {path} from", lambda: iter(self._store.get(key).stream(min_chunk_size=_CHUNK_BYTES))
            )
            while data := self._attempt(f"reading {path} from", lambda: next(stream, None)):
                advance(file.write(data))

    def delete(self, path: str) -> None:
        """Delete it; S3 says the same where there is none."""
        key = self._key(path)
        try:
            self._attempt(f"deleting {path} from", lambda: self._store.delete(key))
        except NotFoundError:
            return

    def remove_folder(self, folder: str) -> None:
        """There are no folders."""

    def _key(self, path: str) -> str:
        return self._repository.path(path)

    def _attempt(self, doing: str, act: Callable[[], Result]) -> Result:
        return self._repository.attempt(doing, act)


def _small(data: bytes, path: str) -> bytes:
    if len(data) > _MOST_SMALL_BYTES:
        raise IntegrityError(f"reading {path}", "it is far too large to be what it is called", "Is it damaged?")
    return data


def _copied(source: BinaryIO, copy: BinaryIO, advance: Advance) -> None:
    while data := source.read(_CHUNK_BYTES):
        copy.write(data)
        advance(len(data))
