"""How the schedule stands: for each tier when it is due next, how its last run ended, and what did not happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from understudy.operations import past
from understudy.operations.deeds import Deed
from understudy.operations.lock import Holder
from understudy.operations.tier import SCHEDULED, Tier, times
from understudy.settings import Settings

_SHOWN = timedelta(days=31)


@dataclass(frozen=True)
class Standing:
    """One tier. `time` is None where it is off; `installed` maps a scheduler to the time that stands there.

    `outcome` is that of the last run: `ok`, `failed`, `running`, `never ended`, or None where there was none. `missed`
    are the runs of the last 31 days that did not happen; `open` those of them since the last run.
    """

    tier: Tier
    time: str | None
    next: datetime | None
    last: datetime | None
    outcome: str | None
    missed: tuple[datetime, ...]
    open: tuple[datetime, ...]
    installed: Mapping[str, str]

    @property
    def current(self) -> bool:
        """Tell whether what is installed is what the settings say."""
        return set(self.installed.values()) == ({self.time} if self.time else set())

    def as_data(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {
            "tier": str(self.tier),
            "time": self.time,
            "next": _iso(self.next),
            "last": _iso(self.last),
            "outcome": self.outcome,
            "missed": [_iso(one) for one in self.missed],
            "missed_since_last": len(self.open),
            "installed": dict(self.installed),
            "current": self.current,
        }


def standings(
    settings: Settings,
    done: Sequence[Deed],
    installed: Mapping[str, Mapping[str, str]],
    holder: Holder | None,
    now: datetime,
) -> list[Standing]:
    """Return how each tier stands. `installed` maps a scheduler's name to tiers and times; `holder` has the lock."""
    when = times(settings)
    missing = past.missing_runs(done, settings.profile, when, now)
    found = []
    for tier in SCHEDULED:
        last = next(iter(past.runs(done, settings.profile, tier)[-1:]), None)
        missed = tuple(one for one in missing.get(tier, []) if now - one <= _SHOWN)
        found.append(Standing(
            tier, when[tier].text if tier in when else None, when[tier].next(now) if tier in when else None,
            last.began_at if last else None, _outcome(last, holder), missed,
            tuple(one for one in missed if last is None or one > last.began_at),
            {name: rows[tier] for name, rows in installed.items() if tier in rows},
        ))  # fmt: skip
    return found


def _outcome(last: Deed | None, holder: Holder | None) -> str | None:
    if last is None or last.outcome:
        return last.outcome if last else None
    return "running" if holder and str(last.tier) in holder.what else "never ended"


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None
