"""Copies of sets in other places: each is read back and compared before it counts.

A place that failed an earlier time gets what it misses: the newest sets first, and only so many of each tier a run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, Repository, StoredSet
from understudy.backup.set import SetId
from understudy.errors import IntegrityError, UnderstudyError, UnreachableError
from understudy.progress import Progress, stage

CATCH_UP = 3  # missing older copies of each tier, a run
_CHUNK_BYTES = 1 << 20

Outcome = Literal["copied", "there already", "failed"]


@dataclass(frozen=True)
class CopyResult:
    """What became of one set in one place; `where` is its address there, `error` what went wrong."""

    place: str
    id: SetId
    outcome: Outcome
    where: str | None = None
    error: UnderstudyError | None = None

    @property
    def line(self) -> str:
        """Return it as a sentence."""
        if self.error:
            return f"{self.place}: {self.id} was not copied: {self.error}"
        return f"{self.place}: {self.id} {'copied' if self.outcome == 'copied' else 'is there already'}, and read back"


def copy(
    archive: Path,
    set_id: SetId,
    places: Sequence[str],
    progress: Progress,
    open_place: Callable[[str], Repository] | None = None,
) -> list[CopyResult]:
    """Copy one archive to every place (URIs or directories), one after the other, and read each copy back.

    A copy that is there whole is not sent again. A place that fails does not keep the others from theirs.
    """
    found = []
    for place in places:
        try:
            repository = (open_place or _opened)(place)
            found.append(_copied(archive, set_id, place, repository, repository.sets(), progress))
        except UnderstudyError as error:
            found.append(CopyResult(place, set_id, "failed", error=error))
    return found


def copy_with_missing(
    local: LocalRepository,
    newest: SetId,
    places: Sequence[str],
    progress: Progress,
    tier_of: Callable[[SetId], str | None],
    open_place: Callable[[str], Repository] | None = None,
    catch_up: int = CATCH_UP,
) -> list[CopyResult]:
    """Copy the newest set to every place, and what an earlier run owes it: the newest `catch_up` of each tier.

    `tier_of` says a set's tier; sets without one (taken by hand, damaged) are not owed. After a failure at a place
    nothing more is tried there.
    """
    found = []
    mine = [stored.id for stored in local.sets() if stored.id < newest and stored.id.profile == newest.profile]
    tiers = {set_id: tier for set_id in mine if (tier := tier_of(set_id)) and _archive(local, set_id).is_file()}
    for place in places:
        try:
            repository = (open_place or _opened)(place)
            there = repository.sets()
            wanted = [newest, *_owed(tiers, {stored.id for stored in there}, catch_up)]
        except UnderstudyError as error:
            found.append(CopyResult(place, newest, "failed", error=error))
            continue
        for set_id in wanted:
            try:
                found.append(_copied(_archive(local, set_id), set_id, place, repository, there, progress))
            except UnderstudyError as error:
                found.append(CopyResult(place, set_id, "failed", error=error))
                break
    return found


def _owed(tiers: dict[SetId, str], there: set[SetId], most: int) -> list[SetId]:
    """Return which of the newest sets of each tier are not there; `tiers` is newest first."""
    looked_at: Counter[str] = Counter()
    owed = []
    for set_id, tier in tiers.items():
        looked_at[tier] += 1
        if looked_at[tier] <= most and set_id not in there:
            owed.append(set_id)
    return owed


def _archive(local: LocalRepository, set_id: SetId) -> Path:
    return local.directory / f"{set_id}{ARCHIVE_SUFFIX}"


def _copied(
    archive: Path, set_id: SetId, place: str, repository: Repository, there: list[StoredSet], progress: Progress
) -> CopyResult:
    try:
        size = archive.stat().st_size
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise IntegrityError(f"reading {archive}", error.strerror or str(error), "Take a new backup.") from error
    stored = next((one for one in there if one.id == set_id), None)
    if stored and stored.size == size and _read_back(repository, stored, size, progress) == digest:
        return CopyResult(place, set_id, "there already", stored.key)
    with stage(progress, f"Copying {set_id} to {place}", size, "bytes"):
        try:
            where = repository.put(archive, set_id, progress.advance)
        except OSError as error:
            raise UnreachableError(
                f"copying {set_id} to {place}",
                error.strerror or str(error),
                "Check its space, its rights and its mount.",
            ) from error
    stored = next((one for one in repository.sets() if one.id == set_id), None)
    if stored is None or _read_back(repository, stored, size, progress) != digest:
        raise IntegrityError(
            f"reading back {set_id} from {place}",
            "the copy is not there" if stored is None else "the copy is not what was sent",
            "The local set is whole. Check the place's disk and network; the next run sends it again.",
        )
    return CopyResult(place, set_id, "copied", where)


def _read_back(repository: Repository, stored: StoredSet, size: int, progress: Progress) -> str:
    digest = hashlib.sha256()
    with stage(progress, f"Reading back {stored.id}", size, "bytes"), repository.open(stored) as stream:
        while data := stream.read(_CHUNK_BYTES):
            digest.update(data)
            progress.advance(len(data))
    return digest.hexdigest()


def _opened(place: str) -> Repository:
    from understudy.backup.repositories import open_repository  # noqa: PLC0415 - opens what it needs

    return open_repository(place)
