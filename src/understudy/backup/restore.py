"""Bring a set back: find it, check it, then write its components. Nothing is written from a damaged set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from understudy.backup.archive import extract
from understudy.backup.check import check_sums
from understudy.backup.component import Component, RestoreOptions, RestoreReport
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import LATEST, Repository, find
from understudy.backup.set import BackupSet
from understudy.errors import NotFoundError
from understudy.progress import Progress, stage


@contextlib.contextmanager
def opened(
    name: str, local: LocalRepository, remote: Repository | None, progress: Progress, profile: str | None = None
) -> Iterator[BackupSet]:
    """Give a set as a directory: an id, `latest`, a directory or an archive; from `remote` where that is given.

    `latest` is the newest of the profile: what is restored into production should come from there.
    An archive is unpacked beside the local sets, and removed afterwards.

    Raises:
        NotFoundError: there is no such set.
        IntegrityError: the archive or the metadata is damaged.
    """
    if remote is None:
        found = local.whole(name or LATEST, profile)
        if isinstance(found, BackupSet):
            yield found
            return
        with local.scratch("unpack") as place, found.open("rb") as stream:
            into = _folder(place)
            with stage(progress, "Unpacking", None, "bytes"):
                metadata = extract(stream, into, found.name, progress.advance)
            yield BackupSet(into, metadata)
        return
    stored = find(remote, name or LATEST, profile)
    with local.scratch("unpack") as place:
        into = _folder(place)
        with stage(progress, "Downloading", None, "bytes"), remote.open(stored) as stream:
            metadata = extract(stream, into, stored.key, progress.advance)
        if metadata.id != stored.id:
            raise NotFoundError(f"opening {stored.key}", f"it holds another set, {metadata.id}")
        yield BackupSet(into, metadata)


def _folder(place: Path) -> Path:
    into = place / "set"
    into.mkdir(mode=0o700)
    return into


def restore(
    backup: BackupSet, components: Sequence[Component], options: RestoreOptions, progress: Progress
) -> dict[str, RestoreReport]:
    """Check the set and every target, then write each component; return what each did.

    Run again after an interruption, it completes: keys that are there already are skipped (or written again,
    with `overwrite`).

    Raises:
        IntegrityError: the set is damaged or the target is too old for it; nothing was written.
    """
    for component in components:
        component.connect()
    check_sums(backup, progress)
    for component in components:
        component.check_target(backup, options)
    return {component.name: component.restore(backup, options, progress) for component in components}
