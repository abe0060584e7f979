"""A second of the past as people write it, and as we tell it: always with its distance from UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from understudy.errors import UsageError

_UNIX = re.compile(r"[0-9]{1,11}")
_EXAMPLE = "For example --at 2026-11-20T14:03:07Z, or --at 2026-11-20T15:03:07+01:00, or unix seconds."


def second_of(text: str) -> int:
    """Return the unix second that ISO 8601 with an offset means, or a number of seconds.

    A time without an offset is refused, not guessed: an hour off, and the wrong state is restored.

    Raises:
        UsageError: it is no time, has no offset, or is no whole second.
    """
    doing = f"reading the time {text[:60]!r}"
    if _UNIX.fullmatch(text.strip()):
        return int(text)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(doing, "it is neither ISO 8601 nor a number of unix seconds", _EXAMPLE) from None
    try:
        second = int(moment.timestamp())
        told(second)
        meant = {moment.astimezone().isoformat(), moment.replace(fold=1).astimezone().isoformat()}
    except (OverflowError, OSError, ValueError):
        raise UsageError(doing, "no second is there", _EXAMPLE) from None
    if moment.tzinfo is None:  # in the hour that an autumn night has twice it may be either
        local = " and ".join(sorted(meant, reverse=True))
        raise UsageError(
            doing, "it does not say how far it is from UTC",
            f"Say which is meant: {moment.isoformat()}Z is UTC, {local} {'is' if len(meant) == 1 else 'are'} this"
            " machine's time zone.",
        )  # fmt: skip
    if moment.microsecond:
        raise UsageError(doing, "only whole seconds can be restored", f"Name the last one that is good. {_EXAMPLE}")
    return second


def told(second: int) -> str:
    """Return `2026-11-20T14:03:07Z`."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"


def length(seconds: int) -> str:
    """Return `3 s`, `4 h 3 min` or `2 days 1 h`: the two largest units."""
    units = [("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1)]
    words = []
    for name, size in units:
        number, seconds = divmod(seconds, size)
        if number:
            words.append(f"{number:,} {name}{'s' if name == 'day' and number != 1 else ''}")
        elif words:
            break
    return " ".join(words[:2]) or "0 s"
