"""Numbers and times as people read them: on pages and at the terminal alike."""

from __future__ import annotations

from datetime import datetime

_LARGE = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def count(number: int, unit: str) -> str:
    """Return a number with its unit, as `1 key` or `2,000 keys`."""
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"


def minute(at: datetime) -> str:
    """Return a time as people on this machine tell it, to the minute: `2026-11-21 02:00`."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def size(number: float) -> str:
    """Return a number of bytes, as `812 B` or `104.2 MiB`."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def seconds(number: float) -> str:
    """Return a duration given in seconds, as `80 ms`, `3.2 s`, `2 min 5 s`, `5 h 2 min` or `3 d 4 h`."""
    if number < 0.9995:
        return f"{number * 1000:.0f} ms"
    if number < 99.95:
        return f"{number:.1f} s"
    whole = round(number)
    large, unit, small, rest = next(one for one in _LARGE if whole >= one[0])
    left = whole % large // small
    return f"{whole // large} {unit} {left} {rest}" if left else f"{whole // large} {unit}"


def precise(number: float) -> str:
    """Return a duration given in seconds as a measurement, as `80 ms`, `3.21 s` or `2 min 5 s`."""
    return f"{number:.2f} s" if 0.9995 <= number < 99.995 else seconds(number)


def rate(number: float, over_s: float, unit: str) -> str:
    """Return so many units over so many seconds, as `31,000 keys/s`, to three digits: more would be noise."""
    per_s = number / max(over_s, 1e-9)
    digits = len(str(int(per_s)))
    return f"{round(per_s, 3 - digits if digits > 3 else 0):,.0f} {unit}/s"
