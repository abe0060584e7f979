"""Is what should happen at night happening? One item for each question, each with what to do about it.

An item is `ok`, a `warning` (worth knowing) or `bad` (a restore tonight would be worse than you think). A question that
cannot be answered is bad: nobody knows is not the same as all is well.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from understudy.backup.repositories import open_repository
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, SAFETY, Repository, StoredSet, peek
from understudy.backup.set import Metadata, lost_file
from understudy.errors import UnderstudyError, UsageError
from understudy.operations.audit import Audit
from understudy.operations.deeds import Deed, deeds
from understudy.operations.notify import Event
from understudy.operations.past import Proofs
from understudy.operations.prune import places_of
from understudy.operations.retention import Policy
from understudy.settings import Settings

State = Literal["ok", "warning", "bad"]
OFFSITE_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Item:
    """The answer to one question: `text` says what was found, `next` what to do where it is not ok."""

    name: str
    state: State
    text: str
    next: str = ""


def ok(name: str, text: str) -> Item:
    """Return an item that is fine."""
    return Item(name, "ok", text)


def warning(name: str, text: str, hint: str) -> Item:
    """Return an item that is worth knowing."""
    return Item(name, "warning", text, hint)


def bad(name: str, text: str, hint: str) -> Item:
    """Return an item that has to be looked after."""
    return Item(name, "bad", text, hint)


@dataclass(frozen=True)
class Health:
    """All items, in the order in which one looks after them."""

    items: tuple[Item, ...]
    at: datetime

    @property
    def healthy(self) -> bool:
        """Tell whether nothing is bad."""
        return all(item.state != "bad" for item in self.items)

    def event(self, profile: str) -> Event:
        """Return what people are told when it is bad."""
        lines = [f"{one.name}: {one.text}. Try: {one.next}" for one in self.items if one.state == "bad"]
        return Event("failure", "", f"The backups of {profile} need looking after", tuple(lines), self.at)

    def as_data(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {"healthy": self.healthy, "at": self.at.isoformat(), "items": [asdict(item) for item in self.items]}


@dataclass(frozen=True)
class Seen:
    """A set in BACKUP_DIR: what its metadata says, what it takes on the disk, and why it is not good, if it is not."""

    stored: StoredSet
    metadata: Metadata | None
    bytes: int
    damage: str | None

    @property
    def tier(self) -> str | None:
        """Return its tier; None where it was taken by hand, or nobody can tell."""
        return self.metadata.tier if self.metadata else None

    @property
    def regular(self) -> bool:
        """Tell whether it is a backup, and no safety set of what a restore replaced."""
        return self.stored.id.name != SAFETY


@dataclass(frozen=True)
class Look:
    """What the items are asked about, read once. `unread` says why the audit log or the sets could not be read."""

    settings: Settings
    now: datetime
    sets: tuple[Seen, ...] = ()
    past: tuple[Deed, ...] = ()
    unread: tuple[str, ...] = ()
    places: dict[str, list[StoredSet] | str] = field(default_factory=dict)

    def newest(self, *tiers: str) -> Seen | None:
        """Return the newest good set (of these tiers); a safety set is none."""
        good = (one for one in self.sets if not one.damage and one.regular)
        return next((one for one in good if not tiers or one.tier in tiers), None)

    def newest_of_each(self) -> list[Seen]:
        """Return the newest set, the newest of each tier and the newest by hand, good or not; no safety set."""
        regular = [one for one in self.sets if one.regular]
        found = regular[:1]
        for one in regular:
            if one.metadata and all(one.tier != other.tier or not other.metadata for other in found):
                found.append(one)
        return found


def look(
    settings: Settings,
    now: datetime | None = None,
    open_place: Callable[[str], Repository] = open_repository,
    deadline_s: float = OFFSITE_DEADLINE_S,
) -> Look:
    """Read sets, audit log and the other places; what cannot be read is noted and stops nothing."""
    unread: list[str] = []
    past: list[Deed] = []
    sets: list[Seen] = []
    local, policy = LocalRepository(settings.backup_dir), Policy.from_settings(settings)
    try:
        past = deeds(Audit(settings.backup_dir).entries())
    except UnderstudyError as error:
        unread.append(str(error))
    try:
        checks = Proofs.of(past).checks
        sets = [_seen(local, one, checks) for one in local.sets() if policy.covers(one.id)]
    except UnderstudyError as error:
        unread.append(str(error))
    try:
        places = _places(places_of(settings), policy, open_place, deadline_s)
    except UsageError as error:
        places = {"S3_URI and BACKUP_OFFSITE": error.why}
    return Look(settings, now or datetime.now(UTC), tuple(sets), tuple(past), tuple(unread), places)


def _seen(local: LocalRepository, stored: StoredSet, checks: dict[str, bool]) -> Seen:
    name = str(stored.id)
    folder, archive = local.directory / name, local.directory / f"{name}{ARCHIVE_SUFFIX}"
    taken = _size(archive) or 0
    try:
        metadata = peek(local, stored)
    except (UnderstudyError, OSError) as error:
        return Seen(stored, None, taken, getattr(error, "why", None) or str(error))
    damage = None if checks.get(name, True) else "its last check failed"
    if metadata.id != stored.id:
        damage = f"its metadata is that of {metadata.id}"
    if folder.is_dir():
        taken += metadata.size
        if lost := lost_file(folder, metadata):
            damage = f"{lost} is missing or has another size"
    return Seen(stored, metadata, taken, damage)


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def _places(
    names: Sequence[str], policy: Policy, open_place: Callable[[str], Repository], deadline_s: float
) -> dict[str, list[StoredSet] | str]:
    """Ask all places at the same time for their sets; who does not answer in time gets a sentence about it."""
    found: dict[str, list[StoredSet] | str] = {}

    def ask(name: str) -> None:
        try:
            found[name] = [one for one in open_place(name).sets() if policy.covers(one.id)]
        except UnderstudyError as error:
            found[name] = f"{error}. {error.hint}"
        except Exception as error:  # noqa: BLE001 - one place never hides the answer of the others
            found[name] = f"it cannot be asked ({type(error).__name__})"

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    end = time.monotonic() + deadline_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {name: found.get(name, f"no answer within {deadline_s:g} s") for name in names}


def examine(at: Look, questions: Sequence[Callable[[Look], Sequence[Item]]] | None = None) -> Health:
    """Answer every question (of `health_items`, unless others are given)."""
    if questions is None:
        from understudy.operations.health_items import QUESTIONS  # noqa: PLC0415 - they are made of what stands here

        questions = QUESTIONS
    items: list[Item] = []
    for question in questions:
        try:
            items += question(at)
        except (UnderstudyError, OSError) as error:
            hint = error.hint if isinstance(error, UnderstudyError) else "Check the rights, and run it by hand."
            items.append(bad(question.__name__, str(error), hint))
    return Health(tuple(items), at.now)


def writable(directory: Path) -> str | None:
    """Write a file and remove it; return why that failed, or None."""
    path = directory / f".health-{os.getpid()}"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return None
