"""What a component is: one store inside a backup set, that can be read into files and written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from understudy.backup.part import Part
from understudy.backup.set import BackupSet, FileEntry
from understudy.progress import Progress

MOST_LISTED = 1000  # failures kept by name; the rest is counted


@dataclass(frozen=True)
class Taken:
    """What a component wrote: parts (still to be numbered), other files by their final path, and its metadata.

    `requires` is what a reader must know beside parts, or it would miss keys: see `Metadata.requires`.
    """

    parts: tuple[Part, ...]
    files: tuple[FileEntry, ...]
    metadata: Mapping[str, Any]
    requires: tuple[str, ...] = ()


@dataclass
class RestoreReport:
    """What a restore did, key by key; `failures` names the first thousand that failed and why.

    `lost` counts the keys (and function libraries) of which the target cannot hold everything, `lost_kinds` how many
    lose what; `losses` has the first thousand: `key`, `db`, `type` and, in `lost`, the kinds.
    """

    restored: int = 0
    skipped: int = 0
    expired: int = 0
    failed: int = 0
    functions: int = 0
    functions_kept: int = 0
    lost: int = 0
    failures: list[str] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)
    lost_kinds: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # what a component other than redis counts: databases, rows

    def fail(self, what: str) -> None:
        """Count and, while there is room, name a failure."""
        self.failed += 1
        if len(self.failures) < MOST_LISTED:
            self.failures.append(what)

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what a worker counted."""
        for name in ("restored", "skipped", "expired", "failed", "functions", "functions_kept", "lost"):
            setattr(self, name, getattr(self, name) + other[name])
        self.failures += other["failures"][: MOST_LISTED - len(self.failures)]
        self.losses += other["losses"][: MOST_LISTED - len(self.losses)]
        for kind, number in other["lost_kinds"].items():
            self.lost_kinds[kind] = self.lost_kinds.get(kind, 0) + number


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore: replace keys that exist, keep streams' consumer groups, or only say what would happen.

    `match` restores only the keys that match a glob; `accept_loss` goes on where the target cannot hold everything.
    `tables` and `into_database` are the postgres component's: only these tables, and another database than the set's.
    """

    overwrite: bool = False
    recreate_stream_groups: bool = True
    dry_run: bool = False
    match: str | None = None
    accept_loss: bool = False
    tables: tuple[str, ...] = ()
    into_database: str | None = None


@dataclass(frozen=True)
class Counted:
    """How many of one kind a set recorded, and how many the store holds: `keys`, a table, a collection."""

    what: str
    recorded: int
    found: int


@dataclass(frozen=True)
class Comparison:
    """What a store holds against what a set recorded: counts in words, and one line for everything that differs.

    `counts` is the same as numbers, one for each table, collection or kind, also where nothing differs.
    """

    counted: str
    differences: tuple[str, ...] = ()
    counts: tuple[Counted, ...] = ()


class Component(Protocol):
    """The port. Every component has a file in `components/` and passes the one conformance suite.

    `name` is also its folder inside a set (redis, the eldest, has `keys/` and `functions/`). `title` is how people
    write it. Long work tells `progress`; what that raises ends the work, and nothing of it stays running.
    """

    name: str
    title: str

    def connect(self) -> None:
        """Make sure that the store answers. Raises `UnreachableError` or `NotAuthorisedError`."""

    def close(self) -> None:
        """Give the connections back; harmless when there are none."""

    def where(self) -> str:
        """Return which store it is, connected as it is, as a person would name it; no secret is in that."""

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:
        """Read the store: parts into `work`, other files below `into` (the set's own directory)."""

    def sources(self, backup: BackupSet) -> list[str]:
        """Return the set's files or directories that a restore reads, as a person would name them."""

    def check_target(self, backup: BackupSet, options: RestoreOptions) -> None:
        """Raise, before anything is written, what makes a restore impossible: versions, room, databases, rights."""

    def foresee(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> None:
        """Find out, before anything is written, what the store cannot hold; most stores hold all or nothing.

        Raises `RefusedError` where that is something and neither `accept_loss` nor `dry_run` is set.
        """

    def overwrites(self, backup: BackupSet, options: RestoreOptions) -> list[str]:
        """Return one line for each thing in the store that the restore would replace; none: nothing is lost."""

    def keeping(self, backup: BackupSet, options: RestoreOptions) -> Component:
        """Return a component of the same store that takes, whole, everything that `overwrites` speaks of."""

    def restore(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> RestoreReport:
        """Write the set's content back."""

    def compare(self, backup: BackupSet, progress: Progress) -> Comparison:
        """Compare the store with what the set holds and recorded."""

    @staticmethod
    def read_through(backup: BackupSet, progress: Progress) -> None:
        """Read every one of its files without a server. Raises `IntegrityError` where one cannot be read."""
