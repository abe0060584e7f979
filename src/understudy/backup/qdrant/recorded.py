"""What a set recorded about Qdrant, as values; and what it says where it is damaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.backup.qdrant.names import FOLDER, shown
from understudy.backup.set import BackupSet
from understudy.errors import IntegrityError, NotFoundError

ENCRYPTED = ".gz.age"


@dataclass(frozen=True)
class File:
    """One snapshot: the node that it came from (its position in QDRANT_URL), its path, the server's SHA-256 of it."""

    node: int
    path: str
    checksum: str | None


@dataclass(frozen=True)
class Collection:
    """One collection: its snapshots, how many points it held (a range where writes went on), how it was set up."""

    name: str
    files: tuple[File, ...]
    low: int
    high: int
    config: Mapping[str, Any]
    indexes: Mapping[str, Any]

    def as_data(self) -> dict[str, Any]:
        """Return it as it stands in the metadata."""
        return {
            "name": self.name,
            "files": [vars(file) for file in self.files],
            "points": self.low if self.low == self.high else [self.low, self.high],
            "config": self.config,
            "indexes": self.indexes,
        }

    @classmethod
    def from_data(cls, row: Mapping[str, Any]) -> Collection:
        """Read it back."""
        points = row["points"]
        low, high = points if isinstance(points, list) else (points, points)
        files = tuple(File(int(file["node"]), str(file["path"]), file.get("checksum")) for file in row["files"])
        return cls(str(row["name"]), files, int(low), int(high), {**row["config"]}, {**row.get("indexes", {})})


@dataclass(frozen=True)
class Recorded:
    """The whole of it: the server's version, number of nodes, whether every collection was wanted, and the aliases."""

    version: str
    nodes: int
    complete: bool
    collections: tuple[Collection, ...]
    aliases: Mapping[str, str]

    @classmethod
    def of(cls, backup: BackupSet) -> Recorded:
        """Read a set's metadata; its files may still be encrypted.

        Raises:
            IntegrityError: they do not fit together.
        """
        where = f"reading the qdrant component of {backup.metadata.id}"
        listed = {entry.path.removesuffix(ENCRYPTED) for entry in backup.metadata.files}
        try:
            section = backup.metadata.components[FOLDER]
            collections = tuple(Collection.from_data(row) for row in section["collections"])
            for file in (file for collection in collections for file in collection.files):
                if file.path not in listed:
                    raise ValueError(f"{file.path} is not in the set")
            return cls(
                str(section["server"]["version"]), len(section["nodes"]), bool(section["complete"]), collections,
                {str(alias): str(name) for alias, name in section["aliases"].items()},
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(where, f"it is damaged ({error})", "Use another set.") from error

    def only(self, names: Sequence[str], doing: str) -> Recorded:
        """Return what it says of these collections, and of their aliases; all of it where none is named.

        Raises:
            NotFoundError: the set lacks one.
        """
        if not names:
            return self
        here = {collection.name for collection in self.collections}
        for name in names:
            if name not in here:
                raise NotFoundError(
                    doing, f"the set holds no collection {shown(name)}",
                    f"It holds {', '.join(map(shown, sorted(here))) or 'none'}. See QDRANT_COLLECTIONS.",
                )  # fmt: skip
        return replace(
            self, complete=False, collections=tuple(each for each in self.collections if each.name in names),
            aliases={alias: name for alias, name in self.aliases.items() if name in names},
        )  # fmt: skip
