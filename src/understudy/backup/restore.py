"""Bring a set back: find it, check it, ask, keep what is replaced, then write its components one after another.

Nothing is written from a damaged set, and to no store before every store was found fit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from understudy.backup import rdb
from understudy.backup.archive import extract
from understudy.backup.check import check_sums
from understudy.backup.component import Component, RestoreOptions, RestoreReport
from understudy.backup.encryption import Lock
from understudy.backup.repositories.local import LocalRepository, reading
from understudy.backup.repository import LATEST, SAFETY, Repository, find
from understudy.backup.set import BackupSet
from understudy.backup.take import TakenSet, take
from understudy.backup.together import named
from understudy.errors import IncompleteError, IntegrityError, NotFoundError, UnderstudyError
from understudy.progress import Progress, stage

_GZIP = b"\x1f\x8b"  # how every archive begins
Agree = Callable[[Sequence[str]], None]
Keep = Callable[[Sequence[Component]], TakenSet]


@contextlib.contextmanager
def opened(
    name: str,
    local: LocalRepository,
    remote: Repository | None,
    progress: Progress,
    profile: str | None = None,
    components: Collection[str] = (),
    named: str | None = None,
) -> Iterator[BackupSet]:
    """Give a set as a directory: an id, `latest`, a directory or an archive; from `remote` where that is given.

    `latest` is the newest of the profile (and of the name that is `named`) that holds these components: what is
    restored into production should come from there. An archive is unpacked beside the local sets, and removed
    afterwards; so is what is read from a plain `dump.rdb`. An encrypted set is given as it lies there:
    `encryption.unlocked` opens it.

    Raises:
        NotFoundError: there is no such set.
        IntegrityError: the archive or the metadata is damaged.
    """
    if remote is None:
        if name and name != LATEST and (dump := rdb.find(name)):
            with rdb.as_set(dump, local, progress) as backup:
                yield backup
            return
        found = local.whole(name or LATEST, profile, components, progress.say, named)
        if isinstance(found, BackupSet):
            with reading(found.directory):
                yield found
            return
        with found.open("rb") as stream:
            if stream.read(len(_GZIP)) != _GZIP:
                raise IntegrityError(
                    f"reading {found}", "it is no set, no archive of one (.tar.gz) and no RDB file",
                    "Name an id, a set's directory, its .tar.gz, or a file whose name ends in .rdb or .rdb.gz.",
                )  # fmt: skip
        with local.scratch("unpack") as place, found.open("rb") as stream:
            into = _folder(place)
            with stage(progress, "Unpacking", None, "bytes"):
                metadata = extract(stream, into, found.name, progress.advance)
            yield BackupSet(into, metadata)
        return
    stored = find(remote, name or LATEST, profile, components, progress.say, named)
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


def held(backup: BackupSet, names: Collection[str] | None) -> list[str]:
    """Return which components of a set are meant: those named, all where none is.

    Raises:
        NotFoundError: the set lacks one of them.
    """
    there = backup.metadata.components
    if lacking := sorted(set(names or ()).difference(there)):
        why = backup.metadata.missing.get(lacking[0])
        holds = ", ".join(there) or "nothing"
        raise NotFoundError(
            f"looking for {lacking[0]} in {backup.metadata.id}",
            f"it was missing when the set was taken: {why}" if why else f"the set holds {holds}",
            f"Use another set; `latest --component {lacking[0]}` finds the newest that holds it.",
        )
    return [name for name in there if not names or name in names]


@dataclass
class Restored:
    """What a restore did: each component's report, why others failed, and the set of what was there before.

    `replaced` has a line for each thing that stood there, and was replaced or (in a dry run) would be.
    """

    reports: dict[str, RestoreReport] = field(default_factory=dict)
    failed: dict[str, UnderstudyError] = field(default_factory=dict)
    safety: TakenSet | None = None
    replaced: list[str] = field(default_factory=list)

    def raise_failure(self, what: str) -> None:
        """Raise what went wrong, if anything did: a component's own error where nothing at all was restored.

        Raises:
            IncompleteError: some components or items failed; `items` names them, and what is done.
        """
        if self.failed and not self.reports:
            first = next(iter(self.failed.values()))
            first.items += [f"{name} was not restored: {error}" for name, error in [*self.failed.items()][1:]]
            raise first
        failures = [f"{name} was not restored: {error}" for name, error in self.failed.items()]
        hints = [error.hint for error in self.failed.values() if error.hint]
        if self.failed:
            failures += [f"{name} is restored" for name, report in self.reports.items() if not report.failed]
        failures += [line for report in self.reports.values() for line in report.failures]
        failed = sum(report.failed for report in self.reports.values())
        parts = [f"{', '.join(self.failed)} failed"] if self.failed else []
        parts += [f"{failed:,} {'item' if failed == 1 else 'items'} failed"] if failed else []
        if parts:
            hint = hints[0] if hints else "Mend the cause, then run it again."
            raise IncompleteError(f"restoring {what}", ", and ".join(parts), hint, failures)


def bring_back(
    backup: BackupSet,
    components: Sequence[Component],
    options: RestoreOptions,
    progress: Progress,
    *,
    agree: Agree | None = None,
    keep: Keep | None = None,
) -> Restored:
    """Check the set and every target, ask, keep what is replaced, then write the components one after another.

    `agree` is told every line of what would be lost, and raises where that is not wanted; `keep` takes a set of what
    is replaced, from components that are made for it. Neither is called where nothing is lost, nor in a dry run. A
    component that fails does not keep the others from being restored.

    Raises:
        IntegrityError: the set is damaged or a target is too old for it; nothing was written.
        UnderstudyError: a store cannot take it, or what was there could not be kept; nothing was written.
    """
    for component in components:
        component.connect()
    check_sums(backup, progress)
    for component in components:
        component.check_target(backup, options)
    for component in components:
        component.foresee(backup, options, progress)
    outcome = Restored()
    lost = {component.name: component.overwrites(backup, options) for component in components}
    outcome.replaced = [line for each in lost.values() for line in each]
    if outcome.replaced and not options.dry_run:
        if agree:
            agree(outcome.replaced)
        if keep:
            outcome.safety = keep([each.keeping(backup, options) for each in components if lost[each.name]])
    for component in components:
        try:
            outcome.reports[component.name] = component.restore(backup, options, progress)
        except UnderstudyError as error:
            outcome.failed[component.name] = error
            if component is not components[-1]:
                progress.say(f"Warning: {component.name} was not restored: {error}")
    return outcome


def keeper(local: LocalRepository, profile: str, lock: Lock | None, progress: Progress) -> Keep:
    """Return what takes a safety set, named `safety`, which `latest` never means; it closes the components."""

    def keep(components: Sequence[Component]) -> TakenSet:
        try:
            taken = take(components, local, None, profile, progress, name=SAFETY, tier=SAFETY, lock=lock)
        except UnderstudyError as error:
            named(error, "keeping what would be replaced")
            error.hint = f"{error.hint} --no-safety-set goes on without it.".strip()
            raise
        finally:
            for component in components:
                component.close()
        progress.say(
            f"Kept what is there now: {taken.backup.metadata.id}. To go back to it: "
            f"understudy restore {taken.backup.metadata.id} --overwrite"
        )
        return taken

    return keep


def restore(
    backup: BackupSet, components: Sequence[Component], options: RestoreOptions, progress: Progress
) -> dict[str, RestoreReport]:
    """Do what `bring_back` does without asking or keeping anything; return what each component did.

    Run again after an interruption, it completes: keys that are there already are skipped (or written again,
    with `overwrite`).

    Raises:
        IntegrityError: the set is damaged or the target is too old for it; nothing was written.
        UnderstudyError: what a component raised.
    """
    outcome = bring_back(backup, components, options, progress)
    if outcome.failed:
        outcome.raise_failure(str(backup.metadata.id))
    return outcome.reports
