"""One scheduled run: take a set, check it, copy it, prune, and tell: every step with the audit log as its witness.

Order is what makes it safe. Nothing is deleted before the new set was read back here and in every other place; and
what a crash leaves behind is either a whole set or nothing, a lock that the kernel has freed, and an audit line that
began and never ended, which the next run tells of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from understudy.backup.check import check, check_sums
from understudy.backup.component import Component
from understudy.backup.components import kind
from understudy.backup.contents import changes, told_of
from understudy.backup.encryption import Key, Lock, unlocked
from understudy.backup.rdb_check import unread
from understudy.backup.repositories import open_repository
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import Repository
from understudy.backup.set import BackupSet, SetId
from understudy.backup.take import TakenSet, take
from understudy.errors import RefusedError, UnderstudyError
from understudy.operations import past, prune
from understudy.operations.audit import Audit, Record
from understudy.operations.copies import CopyResult, copy_with_missing
from understudy.operations.deeds import Deed, deeds
from understudy.operations.lock import held
from understudy.operations.notify import Event, Kind, lines_of, notify
from understudy.operations.retention import Policy
from understudy.operations.tier import SCHEDULED, Tier, times
from understudy.pages.figures import minute
from understudy.progress import Progress
from understudy.settings import Settings


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Parts:
    """What a run is made of, apart from its settings. The defaults are the real ones; tests move the clock.

    `components` are made when the run has the lock. `figures` writes the metrics file after the run, however it ended.
    """

    components: Callable[[], Sequence[Component]]
    name: str
    optional: tuple[str, ...] = ()
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    open_place: Callable[[str], Repository] = open_repository
    tell: Callable[[Settings, Event], list[str]] = notify
    figures: Callable[[], None] = _nothing


@dataclass
class Ran:
    """What a run did. `lost` are those of the warnings that tell of data that was there the night before."""

    tier: Tier
    set: SetId | None = None
    archive: str = ""
    copies: list[CopyResult] = field(default_factory=list)
    pruned: list[prune.Pruned] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        copies = [{"place": one.place, "id": str(one.id), "outcome": one.outcome} for one in self.copies]
        return {
            "tier": str(self.tier), "id": str(self.set), "archive": self.archive, "copies": copies,
            "pruned": [one.as_data() for one in self.pruned], "warnings": self.warnings,
        }  # fmt: skip


def run(tier: Tier, settings: Settings, parts: Parts, progress: Progress, wait_s: float = 0) -> Ran:
    """Do everything that a night asks for; return what was done.

    Raises:
        RefusedError: another run is at work, and was still after `wait_s`.
        UnderstudyError: the step that failed, as itself. Older sets are untouched; a set that was published stays.
    """
    local = LocalRepository(settings.backup_dir)
    audit = Audit(settings.backup_dir, parts.clock, progress.say, settings.profile)
    ran = Ran(tier)

    def warn(text: str) -> None:
        ran.warnings.append(text)
        progress.say(f"Warning: {text}")

    before: list[Deed] = []
    alone = False
    try:
        with held(settings.backup_dir, f"the {tier} run", parts.clock(), wait_s, progress.say):
            alone = True
            before = deeds(audit.entries())
            for line in _trouble(before, settings, parts.clock()):
                warn(line)
            with audit.recorded("backup", tier=tier) as record:
                _work(ran, record, settings, parts, local, audit, before, progress)
    except Exception as error:
        if alone or wait_s or not isinstance(error, RefusedError):  # a person who typed it sees the refusal
            _tell(ran, settings, parts, progress, "failure", _failure(error))
        raise
    finally:
        with contextlib.suppress(UnderstudyError):
            parts.figures()
    earlier = past.runs(before, settings.profile, tier)[-1:]
    recovered = bool(earlier) and earlier[0].outcome != "ok"
    how: Kind = "warning" if ran.lost else "recovery" if recovered else "success"
    _tell(ran, settings, parts, progress, how, _success(ran))
    return ran


def _work(
    ran: Ran,
    record: Record,
    settings: Settings,
    parts: Parts,
    local: LocalRepository,
    audit: Audit,
    before: list[Deed],
    progress: Progress,
) -> None:
    taken = _taken(ran.tier, settings, parts, local, progress)
    ran.set, ran.archive = taken.backup.metadata.id, str(taken.archive)
    record.set, record.components = str(ran.set), tuple(taken.backup.metadata.components)
    for name, why in taken.backup.metadata.missing.items():
        ran.warnings.append(f"{name} is missing in this set: {why}")
    _look_into(ran, record, taken, settings, local, before, progress)
    began = parts.clock()
    with audit.recorded("check", set=str(ran.set), tier=ran.tier, components=record.components) as checked:
        prove(taken.backup, settings, local, progress)
    now = parts.clock()
    proof = Deed("check", checked.run, began, now, "ok", str(ran.set), ran.tier, record.components, None, None)
    places = prune.places_of(settings)
    ran.copies = copy_with_missing(local, ran.set, places, progress, _tier_of(local, before), parts.open_place)
    for copied in ran.copies:
        progress.say(copied.line)
    _raise_copies(ran, taken)
    opened: list[tuple[str, Callable[[], Repository]]] = [(prune.LOCAL, lambda: local)]
    opened += [(place, partial(parts.open_place, place)) for place in places]
    # this run is the newest, and so far it went well
    ran.pruned = prune.prune_all(
        opened, Policy.from_settings(settings), parts.clock(), [*before, proof], audit, progress,
        newest_failed=False,
    )  # fmt: skip
    for pruned in ran.pruned:
        for set_id in pruned.deleted:
            progress.say(f"Deleted {set_id} from {pruned.place}.")
    prune.raise_failures(ran.pruned)


def _look_into(
    ran: Ran,
    record: Record,
    taken: TakenSet,
    settings: Settings,
    local: LocalRepository,
    before: list[Deed],
    progress: Progress,
) -> None:
    """Tell of a store that lost what it held: its backup succeeds, and so will the restore of nothing."""
    damaged = [name for name, good in past.Proofs.of(before).checks.items() if not good]
    found = changes(taken.backup.metadata, local, settings.backup_may_be_empty, damaged)
    record.detail = told_of(found)
    ran.lost = [one.line for one in found if one.before]
    for one in found:
        ran.warnings.append(one.line)
        progress.say(f"Warning: {one.line}")


def _tier_of(local: LocalRepository, before: list[Deed]) -> Callable[[SetId], str | None]:
    """Return what says the tier of a set that every place is owed: a whole one of a run, however that run ended."""
    checks = past.Proofs.of(before).checks

    def tier_of(set_id: SetId) -> str | None:
        try:
            tier = BackupSet.open(local.directory / str(set_id)).metadata.tier
        except UnderstudyError:
            return None
        return tier if tier in SCHEDULED and checks.get(str(set_id), True) else None

    return tier_of


def _taken(tier: Tier, settings: Settings, parts: Parts, local: LocalRepository, progress: Progress) -> TakenSet:
    components = parts.components()
    try:
        return take(
            components, local, None, settings.profile, progress, name=parts.name, now=parts.clock(), tier=tier,
            optional=parts.optional, lock=Lock.from_settings(settings),
        )  # fmt: skip
    finally:
        for component in components:
            component.close()


def prove(backup: BackupSet, settings: Settings, local: LocalRepository, progress: Progress) -> None:
    """Read a set back: every byte, and every record too where it is not encrypted, or we have the key.

    Raises:
        IntegrityError: it is not what was written.
    """
    if backup.metadata.encryption is None:
        check(backup, progress)
        _say_unread(backup, progress)
        return
    check_sums(backup, progress)
    key = Key.from_settings(settings)
    if key.given:
        with unlocked(backup, key, local, progress) as plain:
            for name in plain.metadata.components:
                kind(name).read_through(plain, progress)
            _say_unread(plain, progress)


def _say_unread(backup: BackupSet, progress: Progress) -> None:
    if why := unread(backup):
        progress.say(f"Warning: {backup.metadata.id} is whole; {why}")


def _trouble(before: list[Deed], settings: Settings, now: datetime) -> list[str]:
    """Return what a person should know of the nights before: runs that never ended, and runs that never began."""
    found = []
    last = past.runs(before, settings.profile)[-1:]
    if last and last[0].outcome is None:
        found.append(
            f"the {last[0].tier} run of {minute(last[0].began_at)} never ended: it was killed, or the machine went"
            " down. What it left half made is removed."
        )
    when = times(settings)
    for tier, due in past.missing_runs(before, settings.profile, when, now, since_last=True).items():
        found += [f"the {tier} run that was due {minute(one)} did not happen." for one in due]
    return found


def _raise_copies(ran: Ran, taken: TakenSet) -> None:
    failed = [one for one in ran.copies if one.error]
    if not failed or failed[0].error is None:
        return
    error = failed[0].error
    error.items += [one.line for one in failed[1:]]
    error.items.append(f"The set is whole and usable here: {taken.archive}. Nothing old was deleted.")
    raise error


def _tell(ran: Ran, settings: Settings, parts: Parts, progress: Progress, how: Kind, lines: list[str]) -> None:
    """Tell people; that nobody could be told is a warning in the log, and no more."""
    words = {
        "failure": "failed", "recovery": "works again", "success": "went well",
        "warning": "went well, and holds far less than before",
    }  # fmt: skip
    event = Event(
        how, ran.tier, f"The {ran.tier} backup of {settings.profile} {words[how]}", (*lines, *ran.warnings),
        parts.clock(),
    )  # fmt: skip
    for line in parts.tell(settings, event):
        ran.warnings.append(line)
        progress.say(f"Warning: {line}")


def _failure(error: Exception) -> list[str]:
    if not isinstance(error, UnderstudyError):
        return [f"A bug: {type(error).__name__}"]
    return lines_of(error)


def _success(ran: Ran) -> list[str]:
    deleted = sum(len(one.deleted) for one in ran.pruned)
    return [
        f"Set: {ran.set}",
        *(f"Copy: {one.line}" for one in ran.copies),
        *([f"Deleted: {deleted} old"] if deleted else []),
    ]
