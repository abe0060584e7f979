"""Rehearse a restore: a set into scratch servers, every key compared, every row and vector counted, and thrown away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from understudy import installed
from understudy.backup.check import check_sums
from understudy.backup.component import Comparison, RestoreOptions, RestoreReport
from understudy.backup.components import NAMES, kind
from understudy.backup.contents import Change, changes
from understudy.backup.encryption import Key, unlocked
from understudy.backup.rdb_expand import expanded, is_rdb_only
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, Repository
from understudy.backup.restore import held, opened
from understudy.backup.set import BackupSet, Metadata
from understudy.drill.findings import Verdict
from understudy.errors import (
    NotAuthorisedError,
    ServerSaidError,
    UnderstudyError,
    UnreachableError,
    UsageError,
)
from understudy.operations.rehearsal.ask import ask_all, environment
from understudy.operations.rehearsal.checks import Check, read_checks
from understudy.operations.rehearsal.findings import (
    MOST_NAMED,
    ComponentFindings,
    Limits,
    Rehearsal,
    Step,
    judge,
    title_of,
)
from understudy.operations.scratch import NoScratchError, Scratch, refuse, refuse_production, scratch_for
from understudy.pages.figures import count
from understudy.progress import Progress
from understudy.settings import Settings

Clock = Callable[[], float]
NOTHING = "nothing was compared"


@contextlib.contextmanager
def rehearsed(
    name: str,
    local: LocalRepository,
    remote: Repository | None,
    settings: Settings,
    progress: Progress,
    *,
    components: Sequence[str] = (),
    limits: Limits | None = None,
    command: str = "",
    taken: bool = False,
    allow_empty: bool = False,
) -> Iterator[tuple[Rehearsal, Mapping[str, str]]]:
    """Rehearse a set; inside the block the scratch servers still run, in the environment that is given with it.

    Raises:
        UsageError: a check of the user's makes no sense; nothing was started.
        RefusedError: a server that is named for rehearsals is production's, or not empty; or the key is wrong.
        NotFoundError: there is no such set, or it lacks a component that was asked for.
        IntegrityError: the set is damaged; nothing was started.
    """
    checks = read_checks(settings.rehearse_checks)
    refuse_production(settings)
    began, clock = datetime.now(UTC), _Stopwatch()
    with contextlib.ExitStack() as stack:
        backup = stack.enter_context(
            opened(name, local, remote, progress, settings.profile, components, settings.backup_name)
        )
        place = _place(backup, name, local, settings.backup_s3_uri if remote else None)
        opening = [clock.step("Download and unpack" if remote else "Open the set")]
        wanted = sorted(held(backup, components), key=lambda one: NAMES.index(one) if one in NAMES else len(NAMES))
        asked, left_out = _divide(checks, backup.metadata, wanted)
        for one in wanted:
            if not _not_installed(one):
                refuse(one, backup, settings)
        if backup.metadata.encryption:  # this checks the sums, too, before anything else
            backup = stack.enter_context(unlocked(backup, Key.from_settings(settings), local, progress))
            opening.append(clock.step("Check the sums and decrypt"))
        else:
            check_sums(backup, progress)
            opening.append(clock.step("Check the sums"))
        for one in wanted:
            if not _not_installed(one):
                kind(one).read_through(backup, progress)
        opening.append(clock.step("Read every file"))
        if is_rdb_only(backup) and "redis" in wanted and not _not_installed("redis"):
            backup = stack.enter_context(expanded(backup, local, progress))
            opening.append(clock.step("Load the RDB files"))
        scratches: dict[str, Scratch] = {}
        found = [_restored(one, backup, settings, stack, scratches, progress, began) for one in wanted]
        if not allow_empty:
            told = changes(backup.metadata, remote or local, settings.backup_may_be_empty)
            found = [_unproven(one, told) for one in found]
        answers = ask_all(asked, scratches, progress)
        limits = limits or Limits()
        result = Rehearsal(
            set=str(backup.metadata.id), place=place, began_at=began.isoformat(timespec="milliseconds"),
            opening=tuple(opening), components=tuple(found), checks=answers, verdict=Verdict("unknown", ()),
            took_s=clock.total(), command=command, limits=limits, missing=dict(backup.metadata.missing),
            left_out=left_out, whole=set(wanted) == set(backup.metadata.components), taken=taken,
        )  # fmt: skip
        verdict = judge(found, answers, limits, recovery_s=result.recovery_s)
        yield replace(result, verdict=verdict), environment({}, scratches.values())


class _Stopwatch:
    """Steps, each from the end of the one before."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def step(self, what: str) -> Step:
        """Return what ended now."""
        began, self._last = self._last, time.monotonic()
        return Step(what, self._last - began)

    def total(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._began


def _place(backup: BackupSet, name: str, local: LocalRepository, uri: str | None) -> str:
    """Return where the set was found; an archive was unpacked, and is named itself."""
    archive = f"{backup.metadata.id}{ARCHIVE_SUFFIX}"
    if uri:
        return f"{uri.rstrip('/')}/{archive}"
    if backup.directory.is_relative_to(local.directory) and backup.directory.parent != local.directory:
        return name if Path(name).is_file() else str(local.directory / archive)
    return str(backup.directory)


def _not_installed(name: str) -> str:
    """Return what is missing to read a component at all; nothing where it can be."""
    try:
        kind(name)
    except ImportError as error:
        return f"{error.name} is not installed: {installed.how_to_add(name)}"
    return ""


def _divide(checks: Sequence[Check], metadata: Metadata, wanted: Sequence[str]) -> tuple[list[Check], tuple[str, ...]]:
    """Return the checks to run, and in words what is not looked at because it was not asked for.

    Raises:
        UsageError: a check asks a database that the set does not hold.
    """
    asked, left_out = [], [f"component {name}" for name in metadata.components if name not in wanted]
    for check in checks:
        if check.component in wanted or (check.component is None and not left_out):
            _refuse_unknown_database(check, metadata)
            asked.append(check)
        elif check.component in metadata.components or check.component is None:
            left_out.append(f"check {check.name!r}")
        else:  # the set lacks what it asks: that is not known, and must not pass unnoticed
            asked.append(check)
    return asked, tuple(left_out)


def _refuse_unknown_database(check: Check, metadata: Metadata) -> None:
    if check.kind == "command" or check.database is None or "postgres" not in metadata.components:
        return
    databases = [row.get("name") for row in metadata.components["postgres"].get("databases", ())]
    if check.database not in databases:
        raise UsageError(
            f"reading the check {check.name!r} of [[rehearse.checks]]", f"the set has no database {check.database!r}",
            f"It has {', '.join(map(str, databases))}.",
        )  # fmt: skip


def _restored(
    name: str,
    backup: BackupSet,
    settings: Settings,
    stack: contextlib.ExitStack,
    scratches: dict[str, Scratch],
    progress: Progress,
    now: datetime,
) -> ComponentFindings:
    """Restore one component into a scratch server, which runs as long as the stack, and compare it."""
    recorded = backup.metadata.components[name]
    found = ComponentFindings(name, title_of(name), age_s=_age_s(recorded, backup.metadata, now))
    if lacking := _not_installed(name):
        return replace(found, open_questions=(f"not rehearsed: {lacking}",))
    clock = _Stopwatch()
    try:
        scratch = stack.enter_context(scratch_for(name, backup, settings))
        scratch.component.connect()
    except NoScratchError as error:
        return replace(found, open_questions=(f"not rehearsed: {error}",))
    except (UnreachableError, NotAuthorisedError, ServerSaidError, UsageError) as error:
        return replace(found, open_questions=(f"not rehearsed: {error}",))
    found = replace(found, server=scratch.server, steps=(clock.step("start"),))
    try:
        scratch.component.check_target(backup, RestoreOptions())
    except UnderstudyError as error:  # it says nothing of the set
        return replace(found, open_questions=(f"not rehearsed: {error}",))
    try:
        report = scratch.component.restore(backup, RestoreOptions(), progress)
    except UnderstudyError as error:
        return _told(replace(found, steps=(*found.steps, clock.step("restore"))), error)
    found = replace(found, steps=(*found.steps, clock.step("restore")))
    found = replace(found, notes=_notes(report), failures=_some(report.failures, report.failed))
    scratches[name] = scratch
    try:
        compared = scratch.component.compare(backup, progress)
    except UnderstudyError as error:
        return _told(replace(found, compared_s=clock.step("").took_s), error)
    return _with(found, compared, clock.step("").took_s)


def _unproven(found: ComponentFindings, changed: Sequence[Change]) -> ComponentFindings:
    """Return the findings of a component as unknown where the set holds nothing of it: that equals any empty server."""
    told = next((f"{one}: {NOTHING}" for one in changed if one.component == found.name and not one.held), "")
    return replace(found, open_questions=(*found.open_questions, told)) if told and found.counted else found


def _told(found: ComponentFindings, error: UnderstudyError) -> ComponentFindings:
    """Return the findings with an error: one that another try could mend proves nothing."""
    lines = (str(error), *error.items[:MOST_NAMED])
    return replace(found, open_questions=lines) if error.retryable else replace(found, failures=lines)


def _with(found: ComponentFindings, compared: Comparison, took_s: float) -> ComponentFindings:
    differences = _some(compared.differences, len(compared.differences))
    return replace(found, counted=compared.counted, counts=compared.counts, differences=differences, compared_s=took_s)


def _some(texts: Sequence[str], total: int) -> tuple[str, ...]:
    """Return as many as are kept by name, and how many more there are."""
    more = total - min(len(texts), MOST_NAMED)
    return (*texts[:MOST_NAMED], *([f"and {more:,} more"] if more else []))


def _notes(report: RestoreReport) -> tuple[str, ...]:
    return (f"{count(report.expired, 'key')} had expired since, and were not restored",) if report.expired else ()


def _age_s(recorded: Mapping[str, Any], metadata: Metadata, now: datetime) -> float:
    """Return how old a component's data was: from the moment at which reading it began."""
    began = recorded.get("began_at")
    moment = datetime.fromisoformat(began) if isinstance(began, str) else metadata.id.created
    return max(0.0, (now - moment).total_seconds())
