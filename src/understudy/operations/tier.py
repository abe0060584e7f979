"""What a tier is: a rhythm in which sets are taken, and for how long its sets are kept."""

from __future__ import annotations

from enum import StrEnum

from understudy.errors import UsageError
from understudy.operations.crontime import CronTime
from understudy.settings import Settings

OFF = "off"


class Tier(StrEnum):
    """The tiers. `safety` has no rhythm: such a set is taken before a restore overwrites something."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    SAFETY = "safety"


SCHEDULED = (Tier.DAILY, Tier.WEEKLY, Tier.MONTHLY)


def scheduled(text: str) -> Tier:
    """Return the tier of that name, if it has a rhythm. Raises `UsageError`."""
    if text in SCHEDULED:
        return Tier(text)
    raise UsageError(f"reading the tier {text[:60]!r}", f"it is none of {', '.join(SCHEDULED)}", "For example daily.")


def times(settings: Settings) -> dict[Tier, CronTime]:
    """Return when each tier runs, by SCHEDULE_DAILY and so on; a tier that is `off` is left out.

    Raises:
        UsageError: a time is not one that every cron understands alike.
    """
    found = {}
    for tier in SCHEDULED:
        text = str(getattr(settings, f"schedule_{tier}"))
        if text.strip().lower() != OFF:
            found[tier] = CronTime.parse(text, f"SCHEDULE_{tier.upper()}")
    return found
