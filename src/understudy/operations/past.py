"""What the audit log says about runs and sets: the last run of a tier, what never ended, what was proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from understudy.backup.set import SetId
from understudy.operations.crontime import CronTime
from understudy.operations.deeds import Deed
from understudy.operations.missed import EARLY, missed
from understudy.operations.tier import SCHEDULED, Tier

_SOME_TIME = datetime(1970, 1, 1, tzinfo=UTC)
INSTALLED, REMOVED = "installed", "removed"


@dataclass(frozen=True)
class Proofs:
    """What checks and rehearsals found, by the name of the set; the last one of each counts.

    `rehearsals` names the components that passed, in one rehearsal or in several; one that fails takes all back.
    """

    checks: dict[str, bool]
    rehearsals: dict[str, frozenset[str]]

    @classmethod
    def of(cls, past: Sequence[Deed]) -> Proofs:
        """Collect them from the audit log; what never ended proves nothing."""
        checks: dict[str, bool] = {}
        rehearsals: dict[str, frozenset[str]] = {}
        for deed in past:
            if deed.set and deed.outcome is not None:
                good = deed.outcome == "ok"
                if deed.action == "check":
                    checks[deed.set] = good
                elif deed.action == "rehearse":
                    before = rehearsals.get(deed.set, frozenset())
                    rehearsals[deed.set] = before | set(deed.components) if good else frozenset()
        return cls(checks, rehearsals)


def runs(past: Sequence[Deed], profile: str, tier: str | None = None) -> list[Deed]:
    """Return the scheduled runs of a profile (of one tier), in order."""
    return [
        deed
        for deed in past
        if deed.action == "backup"
        and (deed.tier in SCHEDULED if tier is None else deed.tier == tier)
        and _is_of(profile, deed)
    ]


def _is_of(profile: str, deed: Deed) -> bool:
    """Tell whether a deed is a profile's; an old line without one counts for all, unless its set's name says it."""
    said = deed.profile or (SetId(_SOME_TIME, deed.set).profile if deed.set else None)
    return said is None or said == profile


def newest_failed(past: Sequence[Deed], profile: str) -> bool:
    """Tell whether the newest run failed or never ended. Ask only while no run is at work."""
    newest = runs(past, profile)[-1:]
    return bool(newest) and newest[0].outcome != "ok"


def since(past: Sequence[Deed], profile: str) -> datetime | None:
    """Return since when a profile's schedule stands as it does; None where it was removed, or never installed."""
    stands = _installation(past, profile)
    return stands.began_at if stands else None


def installed_as(past: Sequence[Deed], profile: str) -> str | None:
    """Return what the log says of a profile's schedule, by whom and with which times; None where none stands."""
    stands = _installation(past, profile)
    return stands.detail if stands else None


def _installation(past: Sequence[Deed], profile: str) -> Deed | None:
    changes = [
        deed
        for deed in past
        if deed.action == "schedule" and deed.outcome == "ok" and deed.detail and _is_of(profile, deed)
    ]
    return changes[-1] if changes and (changes[-1].detail or "").startswith(INSTALLED) else None


def missing_runs(
    past: Sequence[Deed], profile: str, times: dict[Tier, CronTime], now: datetime, *, since_last: bool = False
) -> dict[Tier, list[datetime]]:
    """Return the runs of each tier that were due since the schedule was installed, and did not happen.

    With `since_last` only those since the last run of the tier.
    """
    installed = since(past, profile)
    if installed is None:
        return {tier: [] for tier in times}
    found = {}
    for tier, time in times.items():
        began = [deed.began_at for deed in runs(past, profile, tier)]
        first = max(installed, began[-1] + EARLY) if since_last and began else installed
        found[tier] = missed(time, first, began, now)
    return found
