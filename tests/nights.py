"""Nights with a moved clock: real runs, real sets, a real audit log, and a rule that says what has to stand.

The rule (`Rule`) is written without looking at the product's: it keeps a list of what was taken, and goes through it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from understudy.backup.component import Taken
from understudy.backup.components.redis import RedisComponent
from understudy.backup.repositories import open_repository
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX
from understudy.backup.set import METADATA, BackupSet, FileEntry
from understudy.errors import UnreachableError
from understudy.operations import past
from understudy.operations.audit import Audit
from understudy.operations.deeds import deeds
from understudy.operations.notify import Event
from understudy.operations.run import Parts, Ran, run
from understudy.operations.tier import Tier, times
from understudy.progress import Progress, Silent
from understudy.settings import Settings, load

DIED = 9
LIMITS = {"daily": 7, "weekly": 30, "monthly": 365}
KILLS = ("taking", "checking", "deleting, archive still there", "deleting")


@contextmanager
def quick_folder(fallback: Path) -> Iterator[Path]:
    """A directory where fsync costs nothing, if this machine has one."""
    shm = Path("/dev/shm")
    if not (shm.is_dir() and os.access(shm, os.W_OK)):
        yield fallback
        return
    folder = Path(tempfile.mkdtemp(prefix="understudy-nights-", dir=shm))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Tiny:
    """The redis component of a server that holds one function and nothing else."""

    name, title = "redis", "Redis"
    read_through = staticmethod(RedisComponent.read_through)

    def __init__(self, nights: Nights) -> None:
        self._nights = nights

    def connect(self) -> None:
        if self._nights.dead:
            raise UnreachableError("connecting to redis", "nobody answers", "Start it.")

    def close(self) -> None:
        pass

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:
        self._nights.kill("taking")
        data = b'{"library":"a","code_b64":"IyFsdWEgbmFtZT1h"}\n'
        path = into / "functions" / "libraries.jsonl"
        path.parent.mkdir(mode=0o700)
        path.write_bytes(data)
        self._nights.now += self._nights.duration
        entry = FileEntry("functions/libraries.jsonl", len(data), hashlib.sha256(data).hexdigest())
        return Taken((), (entry,), {"engine": "scan", "mode": "standalone", "databases": [0]})


@dataclass
class Nights:
    """The clock, what is to go wrong this time, and what was told."""

    settings: Settings
    now: datetime
    duration: timedelta = timedelta(0)
    dead: bool = False
    killed_at: str | None = None
    told: list[Event] = field(default_factory=list)

    def kill(self, moment: str) -> None:
        """Die here as by kill -9, if this is the moment."""
        if self.killed_at == moment:
            os._exit(DIED)

    def run(self, tier: Tier) -> Ran:
        """Run a tier for real."""

        def tell(_: Settings, event: Event) -> list[str]:
            self.told.append(event)
            return []

        parts = Parts(lambda: [Tiny(self)], "stack", clock=lambda: self.now, open_place=open_repository, tell=tell)  # type: ignore[list-item]
        return run(tier, self.settings, parts, Silent())

    def run_killed(self, tier: Tier, moment: str) -> bool:
        """Run it in a process of its own that dies at that moment; tell whether the moment came.

        The client of object stores has threads, which a fork does not take along: there it is a fresh process.
        """
        if self.settings.backup_s3_uri:
            words = (self.settings, self.now, self.duration, tier, moment)
            process = multiprocessing.get_context("spawn").Process(target=_run_killed, args=words)
            process.start()
            process.join()
            return process.exitcode == DIED
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child has the one thread that it needs
            child = os.fork()
        if child == 0:
            _run_killed(self.settings, self.now, self.duration, tier, moment)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == DIED


def _run_killed(settings: Settings, now: datetime, duration: timedelta, tier: Tier, moment: str) -> None:
    """Be the process that dies."""
    try:
        nights = Nights(settings, now, duration, killed_at=moment)
        _arm(nights)
        nights.run(tier)
    finally:
        os._exit(0)


def _arm(nights: Nights) -> None:
    """Let the process die in the middle of a check, or of a deletion; it is the child's own copy of the code."""
    from understudy.operations import run as module

    checked, deleted = module.prove, LocalRepository.delete

    def prove(*words: Any) -> None:
        nights.kill("checking")
        checked(*words)

    def delete(self: LocalRepository, stored: Any) -> None:
        if nights.killed_at and nights.killed_at.startswith("deleting"):
            (self.directory / str(stored.id) / METADATA).unlink()
            nights.kill("deleting, archive still there")
            (self.directory / f"{stored.id}{ARCHIVE_SUFFIX}").unlink()
            nights.kill("deleting")
        deleted(self, stored)

    module.prove, LocalRepository.delete = prove, delete  # type: ignore[method-assign,assignment]


@dataclass
class Rule:
    """What has to stand, by the words of the contract, one set after the other: `sets` maps a beginning to its tier."""

    sets: dict[datetime, str] = field(default_factory=dict)
    rehearsed: datetime | None = None

    def too_old(self, now: datetime) -> list[datetime]:
        """Return what a successful run deletes, oldest first."""
        found = []
        for created in sorted(self.sets):
            tier = self.sets[created]
            later_ones = [other for other in self.sets if self.sets[other] == tier and other > created]
            if (now - created).total_seconds() > LIMITS[tier] * 86400 and later_ones and created != self.rehearsed:
                found.append(created)
        return found

    def after_success(self, now: datetime) -> None:
        for created in self.too_old(now):
            del self.sets[created]


@dataclass
class Counts:
    """How often things went as they went, so that nobody believes in a test in which nothing went wrong."""

    ok: int = 0
    failed: int = 0
    missed: list[tuple[Tier, datetime]] = field(default_factory=list)
    killed: int = 0
    deleted: int = 0


def live(
    settings: Settings,
    first: datetime,
    days: int,
    chance: random.Random,
    standing: Callable[[], list[set[datetime]]],
) -> Counts:
    """Live through so many days; after every run, in every place, exactly the right sets stand.

    `standing` returns for each place (the directory first) the beginnings of the sets that it lists. In a place of
    copies that is what stands in the directory, since the last run that went well; one that was killed while it
    deleted had copied what was missing.
    """
    nights, rule, counts = Nights(settings, first), Rule(), Counts()
    audit = Audit(settings.backup_dir, clock=lambda: nights.now)
    with audit.recorded("schedule") as record:
        record.detail = f"{past.INSTALLED} by hand"
    last = first + timedelta(days=days)
    due = sorted((at, tier) for tier, time in times(settings).items() for at in time.due(first, last))
    outcomes: dict[Tier, str] = {}
    copied: set[datetime] = set()
    end = first
    for asked, tier in due:
        at = max(asked, end + timedelta(seconds=1))  # two fall together where the clock skips an hour: one waits
        nights.now, nights.dead, nights.duration = at, False, timedelta(seconds=chance.randrange(900))
        end = at + nights.duration
        what = chance.random()
        if what < 0.03:
            counts.missed.append((tier, asked))
        elif what < 0.07:
            nights.dead = True
            told = len(nights.told)
            try:
                nights.run(tier)
            except UnreachableError:
                counts.failed += 1
            assert [event.kind for event in nights.told[told:]] == ["failure"]
            outcomes[tier] = "failed"
        elif what < 0.10 and nights.run_killed(tier, moment := chance.choice(KILLS)):
            counts.killed += 1
            outcomes[tier] = "killed"
            if moment != "taking":
                rule.sets[at] = tier
            if moment.startswith("deleting"):
                copied |= rule.sets.keys()
            if moment == "deleting":
                del rule.sets[rule.too_old(end)[0]]
        else:
            if what >= 0.10:
                ran = nights.run(tier)
                wanted = "recovery" if outcomes.get(tier, "ok") != "ok" else "success"
                assert nights.told[-1].kind == wanted
                assert ran.set is not None
                assert BackupSet.open(settings.backup_dir / str(ran.set)).metadata.tier == tier
            outcomes[tier] = "ok"
            counts.ok += 1
            rule.sets[at] = tier
            before = len(rule.sets)
            rule.after_success(end)
            counts.deleted += before - len(rule.sets)
            copied = set(rule.sets)
            assert not _junk(settings.backup_dir)
        here, *there = standing()
        assert here == rule.sets.keys(), f"after the {tier} run of {at}"
        for place in there:
            assert place == copied, f"of copies, after the {tier} run of {at}"
        if at.day == 15 and tier is Tier.DAILY and rule.sets:
            rule.rehearsed = max(rule.sets)
            name = next(
                one.id for one in LocalRepository(settings.backup_dir).sets() if one.id.created == rule.rehearsed
            )
            with audit.recorded("rehearse", set=str(name), components=("redis",)):
                pass
    now = last + timedelta(days=1)
    nights.now = now
    done = deeds(audit.entries())
    missing = past.missing_runs(done, settings.profile, times(settings), now)
    found = {
        (tier, at) for tier, dues in missing.items() for at in dues if first < at <= last and at > now - timedelta(400)
    }
    assert found == {pair for pair in counts.missed if pair[1] > now - timedelta(400)}
    assert audit.broken() is None
    return counts


def _junk(directory: Path) -> list[str]:
    """What lies in the directory and is neither a set nor ours."""
    sets = {str(one.id) for one in LocalRepository(directory).sets()}
    return [
        path.name
        for path in directory.iterdir()
        if path.name.removesuffix(ARCHIVE_SUFFIX) not in sets and path.name.startswith(("stack-", ".partial"))
    ]


def settings_for(directory: Path, **others: Any) -> Settings:
    """The document's schedule and retention."""
    return load(backup_dir=directory, profile="prd", **others)


def begun(place: str | Path) -> set[datetime]:
    """The beginnings of the sets that a place lists."""
    return {one.id.created for one in open_repository(place).sets()}
