"""`schedule serve`: the scheduler of a place that has no other, a container: it waits, and has each run begun in time.

The waits are short, for no timer wakes us when the clock is set or the machine was asleep; two looks a minute cost
nothing.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from understudy.errors import UsageError
from understudy.operations import past
from understudy.operations.crontime import CronTime
from understudy.operations.deeds import Deed
from understudy.operations.missed import EARLY
from understudy.operations.schedule import WAIT, program
from understudy.operations.tier import Tier
from understudy.pages.figures import minute

LOOK_EVERY_S = 30.0
_SET_BACK = timedelta(hours=3)  # as cron: what was run in so little time is not run again
_LONGEST_LOOK = timedelta(days=400)
_RUN_ENDS_WITHIN_S = 45.0
_UTC = {"UTC", "GMT", "UCT"}  # also where there is no tzdata


@dataclass(frozen=True)
class Due:
    """A run that is due: since when, and how many due times before that one are made up for with it."""

    tier: Tier
    at: datetime
    before: int = 0


@dataclass
class Agenda:
    """What is due when. A due time counts once, whatever the clock does; `seen` is up to when they were counted."""

    times: Mapping[Tier, CronTime]
    seen: datetime
    _next: Due | None = None

    def due(self, now: datetime) -> list[Due]:
        """Return what became due since the last look, in order; a tier that became due more than once is one run.

        A clock that was set back by up to three hours makes nothing due twice; one set back further is believed.
        """
        if now <= self.seen:
            if self.seen - now > _SET_BACK:
                self.seen, self._next = now, None
            return []
        since, self.seen = max(self.seen, now - _LONGEST_LOOK), now
        if self._next and now < self._next.at:
            return []
        self._next = None
        found = []
        for tier, one in self.times.items():
            if dues := list(one.due(since, now)):
                found.append(Due(tier, dues[-1], len(dues) - 1))
        return sorted(found, key=lambda due: due.at)

    def next(self) -> Due:
        """Return what is due next."""
        if self._next is None:
            coming = [Due(tier, one.next(self.seen)) for tier, one in self.times.items()]
            self._next = min(coming, key=lambda due: due.at)
        return self._next


def owed(times: Mapping[Tier, CronTime], done: Sequence[Deed], profile: str, now: datetime) -> list[Due]:
    """Return the runs that were due while nobody served, since the schedule stands; one for a tier.

    A run that began counts, however it ended: what fails is not begun again by a container that restarts.
    """
    since = past.since(done, profile)
    if since is None:
        return []
    found = []
    for tier, one in times.items():
        dues = list(one.due(max(since, now - _LONGEST_LOOK), now))
        began = max((run.began_at for run in past.runs(done, profile, tier)), default=None)
        missing = [at for at in dues if began is None or began < at - EARLY]
        if missing:
            found.append(Due(tier, missing[-1], len(missing) - 1))
    return sorted(found, key=lambda due: due.at)


def serve(
    agenda: Agenda,
    first: Sequence[Due],
    run: Callable[[Tier], int],
    say: Callable[[str], None],
    clock: Callable[[], datetime],
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Have `first`, and then whatever is due, run by `run`, which returns an exit code; go on until interrupted.

    An interruption (Ctrl-C, or the `SystemExit` of a SIGTERM) ends it; while a run is at work it is passed on.
    """
    at_work = False
    todo, told = list(first), None
    try:
        while True:
            for due in todo:
                say(_beginning(due, clock()))
                at_work = True
                code = run(due.tier)
                at_work = False
                if code:
                    say(f"The {due.tier} run ended with {code}; the schedule goes on.")
                told = None
            todo = agenda.due(clock())
            if todo:
                continue
            following = agenda.next()
            if following != told:
                say(f"Next: {following.tier}, {minute(following.at)}.")
                told = following
            wait(max(0.0, min(LOOK_EVERY_S, (following.at - clock()).total_seconds())))
    except (KeyboardInterrupt, SystemExit):
        if at_work:
            raise
        say("Ended. No run was at work.")


def _beginning(due: Due, now: datetime) -> str:
    late = now - due.at
    more = f", and {due.before} before it" if due.before else ""
    if late <= timedelta(seconds=2 * LOOK_EVERY_S) and not due.before:
        return f"The {due.tier} run is due."
    return f"The {due.tier} run was due {minute(due.at)}{more}: it is made up for now, once."


def run_of(words: Sequence[str]) -> Callable[[Tier], int]:
    """Return what runs a tier as an installed entry does, in a process of its own, and returns its exit code.

    Where we are interrupted the run is asked to end, and waited for: it cleans up behind itself.
    """

    def run(tier: Tier) -> int:
        argv = [*program(), "schedule", "run", str(tier), "--wait", WAIT, *words]
        # a session of its own: Ctrl-C reaches us only, so that the run is told to end once, by us
        process = subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL)
        try:
            return process.wait()
        except BaseException:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_RUN_ENDS_WITHIN_S)
            raise

    return run


def zone(environ: Mapping[str, str], now: datetime) -> str:
    """Return in words which time zone the times are meant in.

    Raises:
        UsageError: TZ names a place that this system knows nothing of: the C library would take UTC without a word.
    """
    name = environ.get("TZ", "").removeprefix(":")
    # `Asia/Seoul` and `Japan` are places, `KST-9` and `CET-1CEST,M3.5.0,M10.5.0/3` say all by themselves
    place = ("/" in name and "," not in name and not name.startswith("/")) or (name.isalpha() and name not in _UTC)
    if place and not any((Path(one) / name).is_file() for one in zoneinfo.TZPATH):
        raise UsageError(
            f"reading TZ={name[:60]!r}", "this system knows no such time zone, and would take UTC",
            "Check its name; a small image may lack the package tzdata.",
        )  # fmt: skip
    local = now.astimezone()
    return f"{name or local.tzname()} (UTC{local:%z})"
