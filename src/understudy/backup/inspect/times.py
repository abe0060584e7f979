"""Moments in milliseconds, as people and other programs read them. An expiry may lie beyond every calendar."""

from __future__ import annotations

from datetime import UTC, datetime

_MOST_MS = 253_402_300_799_999  # the end of the year 9999


def iso(at_ms: int) -> str | None:
    """Return `2026-11-21T01:48:39.224Z`; None where no calendar has it."""
    if not 0 <= at_ms <= _MOST_MS:
        return None
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def moment(at_ms: int) -> str:
    """Return `2026-11-21 01:48:39Z` for a table."""
    text = iso(at_ms)
    return "after the year 9999" if text is None else f"{text[:10]} {text[11:19]}Z"
