"""The time of day as answers have it, and when something regular is due next."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def timestamp(now: datetime | None = None) -> str:
    """Return a moment, or this one, as `2026-11-21T03:34:14.123Z`."""
    return (now or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def next_due(began_s: float, interval_s: float, now_s: float) -> float:
    """Return the next multiple of the interval since the beginning: what took longer than one is not made up for."""
    return began_s + interval_s * (math.floor((now_s - began_s) / interval_s) + 1)
