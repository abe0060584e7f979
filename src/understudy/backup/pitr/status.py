"""One line that says how an archive is doing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from understudy.backup.pitr.meter import Meter
from understudy.pages.figures import count

_LATE_S = 3.0  # a second that is over is looked at once, so that one or two are always open


def line(meters: Sequence[Meter], now_s: float) -> str:
    """Return it for the shards that are archived just now."""
    if not meters:
        return "No shard is archived."
    shipped = [one.shipped_ms for one in meters]
    first = "its base is on the way" if len(shipped) == 1 else "bases are on the way"
    until = first if None in shipped else f"restorable until {_moment(min(filter(None, shipped)))}"
    behind = [now_s - one.exact_ms / 1000 for one in meters if one.exact_ms is not None]
    told = [count(len(meters), "shard"), until]
    if behind and max(behind) > _LATE_S:
        told.append(f"copies {max(behind):.1f} s behind")
    if lost := sum(not one.connected for one in meters):
        told.append(f"{lost} not connected")
    told.append(f"{sum(one.shipped_bytes for one in meters) / (1 << 20):,.1f} MiB shipped")
    if gaps := sum(one.gaps for one in meters):
        told.append(count(gaps, "gap"))
    if missed := sum(one.missed_seconds for one in meters):
        told.append(f"{missed:,} s missed")
    return ", ".join(told)


def _moment(at_ms: int) -> str:
    """Return the second that ends then."""
    return f"{datetime.fromtimestamp(at_ms // 1000 - 1, UTC):%Y-%m-%dT%H:%M:%SZ}"
