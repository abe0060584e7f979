"""Which sets to keep and which to delete: a pure function of the sets, the policy and the time.

"7 days" is an age, to the second: a set is deleted when more than 7 times 24 hours have passed since it was begun, and
one that is exactly 7 days old is kept. With a run every night at two, and pruning after it, the seven sets of the last
seven nights stand; where last week's run began later than tonight's, its set stands one night longer.

Ages are as good as the clock. So a set that is dated after today counts for nothing, and where nothing was done for
longer than a tier's sets are kept (the machine slept, or the clock was set ahead), that time does not age them: nothing
of the tier goes until its days have passed since.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from understudy.backup.repository import AHEAD, SAFETY
from understudy.backup.set import SetId
from understudy.operations.tier import Tier
from understudy.pages.figures import count
from understudy.settings import Settings

_DAY = timedelta(days=1)
_LONGEST_QUIET = timedelta(days=32)  # a stack that is backed up once a month is not asleep


@dataclass(frozen=True)
class Known:
    """A set as retention sees it.

    `tier` is None where it was taken by hand. `good` is False where it cannot be read, or a check found it damaged.
    `verified`: its last check passed. `rehearsed`: a rehearsal of it passed. `holds` and `empty` are the components of
    which it holds something and nothing; those of which nobody knows are in neither.
    """

    id: SetId
    tier: str | None
    good: bool = True
    verified: bool = False
    rehearsed: bool = False
    holds: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Policy:
    """How long the sets of one profile are kept, by tier: `days`, and at least `keep` good ones however old.

    Where there is a `name`, it is only about sets that are named so, and about the safety sets of the profile. Of a
    component that `may_be_empty`, nothing is kept because newer sets hold nothing of it.
    """

    profile: str
    days: Mapping[str, int]
    keep: Mapping[str, int] = field(default_factory=dict)
    name: str | None = None
    may_be_empty: tuple[str, ...] = ()

    def covers(self, one: SetId) -> bool:
        """Tell whether a set is ours."""
        return one.profile == self.profile and (self.name is None or one.name in {self.name, SAFETY})

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """Return what BACKUP_DAILY_RETENTION, BACKUP_DAILY_KEEP and the like say."""
        return cls(
            settings.profile,
            {tier: getattr(settings, f"backup_{tier}_retention") for tier in Tier},
            {tier: getattr(settings, f"backup_{tier}_keep", 0) for tier in Tier},
            settings.backup_name,
            settings.backup_may_be_empty,
        )


@dataclass(frozen=True)
class Decision:
    """Whether a set is kept, and why."""

    id: SetId
    keep: bool
    reason: str


def decide(
    sets: Sequence[Known],
    policy: Policy,
    now: datetime,
    newest_run_failed: bool,
    deeds: Sequence[datetime] = (),
) -> list[Decision]:
    """Return a decision for every set, newest first; the order in which they are given does not matter.

    Never deleted are: sets of other profiles or names, sets taken by hand or of a tier that we do not know, sets that
    are not good (a person should look at them) or are dated after today, the newest good set of each tier, the last one
    that a check and the last one that a rehearsal passed, the last good one that holds something of a component which
    is empty in newer ones that are kept, and anything at all while the newest scheduled run failed.
    `deeds` are the times at which something was done here, in any order.
    """
    ours = sorted((one for one in sets if policy.covers(one.id)), key=lambda one: one.id, reverse=True)
    ours = [one for one in ours if one.id.created <= now + AHEAD]
    protected: dict[SetId, str] = {}
    for title, chosen in (
        ("the last set that a check passed", [one for one in ours if one.good and one.verified]),
        ("the last set that a rehearsal passed", [one for one in ours if one.good and one.rehearsed]),
    ):
        for one in chosen[:1]:
            protected.setdefault(one.id, title)
    for tier in Tier:
        of_tier = [one for one in ours if one.good and one.tier == tier]
        wanted = policy.keep.get(tier, 0)
        for place, one in enumerate(of_tier[: max(wanted, 1)]):
            words = f"the newest good {tier} set" if place == 0 else f"one of the {wanted} newest {tier} sets"
            protected[one.id] = words
    asleep = {tier: _asleep(tier, days, deeds, now) for tier, days in policy.days.items()}
    newest_first = sorted(sets, key=lambda one: one.id, reverse=True)

    def decided() -> list[Decision]:
        return [_decision(one, policy, now, newest_run_failed, protected.get(one.id), asleep) for one in newest_first]

    protected = _last_holding(ours, {one.id for one in decided() if one.keep}) | protected
    return decided()


def _last_holding(ours: Sequence[Known], kept: Collection[SetId]) -> dict[SetId, str]:
    """Return, for each component that is empty in sets that are kept, the last set before them that holds something.

    A store that lost everything goes on being backed up, and the sets that still have it must not age away meanwhile.
    """
    good = [one for one in ours if one.good and one.id.name != SAFETY]
    found: dict[SetId, str] = {}
    for name in sorted({name for one in good if one.id in kept for name in one.empty}):
        last = next((one for one in good if name in one.holds), None)
        if last and any(name in one.empty and one.id in kept for one in good if one.id > last.id):
            found.setdefault(last.id, f"the last set in which {name} is not empty")
    return found


def _asleep(tier: str, days: int, deeds: Sequence[datetime], now: datetime) -> str:
    """Return in words since when, and until when, nothing was done, where that is why nothing of a tier may go."""
    most = timedelta(days=days) + _DAY
    if tier == SAFETY:
        most = max(most, _LONGEST_QUIET)
    times = sorted([*(at for at in deeds if at <= now), now])
    for before, after in itertools.pairwise(times):
        if after - before > most and now - after <= timedelta(days=days):
            return f"nothing was done from {before:%Y-%m-%d} to {after:%Y-%m-%d}: was the clock moved?"
    return ""


def _decision(
    one: Known, policy: Policy, now: datetime, failed: bool, protected: str | None, asleep: Mapping[str, str]
) -> Decision:
    if one.id.profile != policy.profile:
        return Decision(one.id, True, f"of profile {one.id.profile}, and not ours ({policy.profile})")
    if not policy.covers(one.id):
        return Decision(one.id, True, f"named {one.id.name}, and not ours ({policy.name})")
    if not one.good:
        return Decision(one.id, True, "damaged: check it again, or delete it yourself")
    if one.tier is None:
        return Decision(one.id, True, "taken by hand")
    days = policy.days.get(one.tier)
    if days is None:
        return Decision(one.id, True, f"of a tier that we do not know ({one.tier[:30]})")
    age = now - one.id.created
    if age < -AHEAD:
        return Decision(one.id, True, f"{one.tier}, dated {_days(-age)} after now: was the clock wrong, or is it?")
    old = f"{one.tier}, {_days(age)} old"
    if age <= timedelta(days=days):
        return Decision(one.id, True, f"{old}, kept for {count(days, 'day')}")
    if protected:
        return Decision(one.id, True, f"{old}, but {protected}")
    if failed:
        return Decision(one.id, True, f"{old}, but the newest run failed: nothing is deleted")
    if asleep[one.tier]:
        return Decision(one.id, True, f"{old}, but {asleep[one.tier]}")
    return Decision(one.id, False, f"{old}, kept for {count(days, 'day')} only")


def _days(age: timedelta) -> str:
    """Return an age to the second: what is a little over a limit must not look as if it were not."""
    if age < timedelta(0):
        return f"-{_days(-age)}"
    minutes, seconds = divmod(age.seconds, 60)
    return f"{age.days} d {minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
