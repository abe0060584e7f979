"""Delete the sets that retention no longer keeps, in one place after the other: oldest first, each metadata first."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from understudy.backup.contents import nothing_of, something_of
from understudy.backup.repositories import open_repository
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import Repository, StoredSet, peek
from understudy.backup.set import METADATA, Metadata, SetId, lost_file
from understudy.errors import IncompleteError, IntegrityError, NotFoundError, UnderstudyError, UsageError
from understudy.operations.audit import Audit
from understudy.operations.deeds import Deed, deeds
from understudy.operations.lock import held, holder
from understudy.operations.past import Proofs
from understudy.operations.past import newest_failed as newest_run_failed
from understudy.operations.retention import Decision, Known, Policy, decide
from understudy.pages.figures import count
from understudy.progress import Progress, stage
from understudy.settings import Settings

LOCAL = "local"  # how BACKUP_DIR is called among the places
_AT_ONCE = 8  # sets of an object store that are looked into at the same time


@dataclass(frozen=True)
class Pruned:
    """What was decided in one place, what was deleted of it, and what could not be (a sentence each)."""

    place: str
    decisions: tuple[Decision, ...] = ()
    deleted: tuple[SetId, ...] = ()
    failures: tuple[str, ...] = ()
    error: UnderstudyError | None = None

    def word(self, decision: Decision, dry_run: bool) -> str:
        """Return what became of a set, or would."""
        if decision.keep:
            return "keep"
        return "would delete" if dry_run else "deleted" if decision.id in self.deleted else "not deleted"

    def summary(self, dry_run: bool) -> str:
        """Return the counts."""
        if self.error:
            return str(self.error)
        going = len([one for one in self.decisions if not one.keep]) if dry_run else len(self.deleted)
        return f"{count(len(self.decisions), 'set')}, {going} {'would be ' if dry_run else ''}deleted"

    def as_data(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        rows = [{"id": str(one.id), "keep": one.keep, "reason": one.reason} for one in self.decisions]
        return {
            "place": self.place, "sets": rows, "deleted": [str(one) for one in self.deleted],
            "failures": list(self.failures), "error": self.error.as_data() if self.error else None,
        }  # fmt: skip


def places_of(settings: Settings) -> tuple[str, ...]:
    """Return where sets are copied to: S3_URI and every BACKUP_OFFSITE, each once.

    Raises:
        UsageError: one of them is BACKUP_DIR.
    """
    found = tuple(dict.fromkeys([*filter(None, [settings.backup_s3_uri]), *settings.backup_offsite]))
    for place in found:
        if "://" not in place and Path(place).resolve() == settings.backup_dir.resolve():
            raise UsageError(
                "looking for the places of copies", f"{place} is BACKUP_DIR itself, and no copy",
                "Name another disk or machine in S3_URI or BACKUP_OFFSITE.",
            )  # fmt: skip
    return found


def prune_settings(
    settings: Settings,
    places: Sequence[str],
    progress: Progress,
    *,
    dry_run: bool = False,
    despite_failure: bool = False,
) -> list[Pruned]:
    """Prune BACKUP_DIR and every place of copies, or only those named (`local` is BACKUP_DIR).

    `despite_failure` is a person's word that old sets may go although the newest run failed.

    Raises:
        RefusedError: a run is at work (a dry run does not mind).
    """
    local = LocalRepository(settings.backup_dir)
    now = datetime.now(UTC)
    audit = Audit(settings.backup_dir, warn=progress.say, profile=settings.profile)
    opened: list[tuple[str, Callable[[], Repository]]] = []
    for place in places or (LOCAL, *places_of(settings)):
        if place == LOCAL:
            opened.append((LOCAL, lambda: local))
        else:
            opened.append((place, partial(open_repository, place)))
    with contextlib.nullcontext() if dry_run else held(settings.backup_dir, "pruning", now):
        done = deeds(audit.entries())
        failed = newest_run_failed(done, settings.profile) and not (dry_run and holder(settings.backup_dir))
        failed = failed and not despite_failure
        return prune_all(
            opened, Policy.from_settings(settings), now, done, audit, progress, newest_failed=failed, dry_run=dry_run
        )


def prune_all(
    places: Sequence[tuple[str, Callable[[], Repository]]],
    policy: Policy,
    now: datetime,
    past: Sequence[Deed],
    audit: Audit,
    progress: Progress,
    *,
    newest_failed: bool,
    dry_run: bool = False,
) -> list[Pruned]:
    """Prune every place by its own sets; one that cannot be reached does not keep the others from it."""
    found = []
    for name, opened in places:
        try:
            found.append(
                prune(name, opened(), policy, now, past, audit, progress, newest_failed=newest_failed, dry_run=dry_run)
            )
        except UnderstudyError as error:
            found.append(Pruned(name, error=error))
    return found


def prune(
    place: str,
    repository: Repository,
    policy: Policy,
    now: datetime,
    past: Sequence[Deed],
    audit: Audit,
    progress: Progress,
    *,
    newest_failed: bool,
    dry_run: bool = False,
) -> Pruned:
    """Delete in one place what `decide` says; every deletion stands in the audit log. A dry run only decides.

    Raises:
        UnderstudyError: the place cannot be used at all. A set that cannot be deleted is told in the result.
    """
    stored = {one.id: one for one in repository.sets()}
    found = known(repository, list(stored.values()), policy, past, progress)
    times = [at for deed in past for at in (deed.began_at, deed.ended_at) if at]
    decisions = [_spared(repository, stored, one) for one in decide(found, policy, now, newest_failed, times)]
    if dry_run:
        return Pruned(place, tuple(decisions))
    deleted, failures = [], []
    if isinstance(repository, LocalRepository):
        _sweep(repository, past)
    for decision in reversed(decisions):
        if decision.keep:
            continue
        try:
            with audit.recorded("prune", set=str(decision.id)) as record:
                record.detail = f"from {place}"
                _delete(repository, stored[decision.id])
        except (UnderstudyError, OSError) as error:
            failures.append(f"{decision.id} in {place}: {_reason(error)}")
        else:
            deleted.append(decision.id)
    return Pruned(place, tuple(decisions), tuple(deleted), tuple(failures))


def known(
    repository: Repository, stored: Sequence[StoredSet], policy: Policy, past: Sequence[Deed], progress: Progress
) -> list[Known]:
    """Look into the sets that are ours (the others' names are enough) for their tiers, several at a time."""
    proofs = Proofs.of(past)

    def look(one: StoredSet) -> Known | None:
        if not policy.covers(one.id):
            return Known(one.id, None)
        try:
            metadata = peek(repository, one)
        except IntegrityError:
            return Known(one.id, None, good=False)
        except NotFoundError:
            return None  # deleted meanwhile
        finally:
            progress.advance(1)
        name = str(one.id)
        good = metadata.id == one.id and proofs.checks.get(name, True) and _all_there(repository, one, metadata)
        rehearsed = name in proofs.rehearsals and proofs.rehearsals[name] >= set(metadata.components)
        empty = nothing_of(metadata).difference(policy.may_be_empty)
        verified = proofs.checks.get(name, False)
        return Known(one.id, metadata.tier, good, verified, rehearsed, something_of(metadata), empty)

    with stage(progress, "Looking at the sets", len(stored), "sets"):
        if isinstance(repository, LocalRepository):
            found = [look(one) for one in stored]
        else:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                found = list(pool.map(look, stored))
    return [one for one in found if one is not None]


def _spared(repository: Repository, stored: Mapping[SetId, StoredSet], decision: Decision) -> Decision:
    """Keep a set that somebody reads: a restore of it must not lose it half-way. The next run decides again."""
    if decision.keep or not isinstance(repository, LocalRepository) or not repository.is_read(stored[decision.id]):
        return decision
    return replace(decision, keep=True, reason=f"{decision.reason}, but it is being read: a restore is at work")


def _all_there(repository: Repository, stored: StoredSet, metadata: Metadata) -> bool:
    """Tell whether every file of a set lies in its directory with its size: one that lost some protects no others."""
    folder = repository.directory / str(stored.id) if isinstance(repository, LocalRepository) else None
    return folder is None or not folder.is_dir() or lost_file(folder, metadata) is None


def raise_failures(results: Sequence[Pruned]) -> None:
    """Raise what went wrong, if anything did.

    Raises:
        IncompleteError: sets could not be deleted; it lists them.
        UnderstudyError: a place could not be used.
    """
    failures = [line for one in results for line in one.failures]
    errors = [one.error for one in results if one.error]
    if errors and not failures and len(errors) == 1:
        raise errors[0]
    failures += [str(error) for error in errors]
    if failures:
        raise IncompleteError(
            "deleting old sets", f"{len(failures)} could not be done; everything else was",
            "The next run tries again. Check the rights of the place.", failures,
        )  # fmt: skip


def _delete(repository: Repository, stored: StoredSet) -> None:
    repository.delete(stored)
    if isinstance(repository, LocalRepository) and (repository.directory / str(stored.id)).exists():
        raise IncompleteError(
            f"deleting {stored.id}", "it is no set any more, but some of its files could not be removed",
            "Check the rights of the directory.",
        )  # fmt: skip


def _sweep(repository: LocalRepository, past: Sequence[Deed]) -> None:
    """Remove what is left of sets whose deletion was cut short: no metadata, no archive, and we had begun to delete."""
    for deed in past:
        if deed.action == "prune" and deed.outcome != "ok" and deed.set:
            try:
                folder = repository.directory / str(SetId.parse(deed.set))
            except NotFoundError:
                continue
            if folder.is_dir() and not (folder / METADATA).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _reason(error: UnderstudyError | OSError) -> str:
    return error.why if isinstance(error, UnderstudyError) else (error.strerror or str(error))
