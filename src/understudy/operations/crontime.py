"""When a cron entry is due: the five fields that every cron understands alike, in local time, as cron counts it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from understudy.errors import UsageError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_SHORT = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}  # fmt: skip
_ITEM = re.compile(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LONGEST = timedelta(days=9 * 366)  # 29 February is due again after eight years at most


@dataclass(frozen=True)
class CronTime:
    """A time as in a crontab: `text` as it is written there, and the values that each field allows (Sunday is 0)."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # day of month and day of week are both given: cron takes a day that fits one of them

    @classmethod
    def parse(cls, text: str, name: str = "the time") -> CronTime:
        """Read five fields, or `@daily` and its like.

        Raises:
            UsageError: it cannot be read, is never due, or crons differ about what it means.
        """
        written = " ".join(_SHORT.get(text.strip().lower(), text).split())
        fields = written.split(" ")
        if len(fields) != 5:
            raise _wrong(text, name, "it has not five fields")
        values = [_values(field, *kind, text, name) for field, kind in zip(fields, _FIELDS, strict=True)]
        minutes, hours, days, months, weekdays = values
        starred = [field.startswith("*") for field in (fields[2], fields[4])]
        if any(starred) and not {"*"} & {fields[2], fields[4]}:
            raise _wrong(text, name, "crons differ about a step of days of the month together with days of the week")
        time = cls(
            written, minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either_day=not any(starred)
        )
        if not time.either_day and min(days) > max(_LENGTHS[month - 1] for month in months):
            raise _wrong(text, name, "no day is like that")
        return time

    def due(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Give the instants (UTC) of `after` < instant <= `until` at which cron runs it, in order.

        Cron goes by the wall clock. A time that the clock skips in spring is due when it skips: then cron makes up for
        it. A time that comes twice in autumn is due once, the first time.
        """
        from croniter import croniter  # noqa: PLC0415 - an extra

        # a day of margin on both sides: wall clocks differ from UTC, and change
        wall = after.astimezone().replace(tzinfo=None) - timedelta(days=1)
        end = until.astimezone().replace(tzinfo=None) + timedelta(days=1)
        last = after
        for one in croniter(self.text, wall, ret_type=datetime, max_years_between_matches=9):
            if one > end:
                return
            instant = _instant(one)
            if last < instant <= until:
                last = instant
                yield instant

    def next(self, after: datetime) -> datetime:
        """Return the first instant (UTC) after that one."""
        return next(self.due(after, after + _LONGEST))


def _instant(wall: datetime) -> datetime:
    """Return when (UTC) the clock on the wall shows that, the first time; where it skips it: when it skips."""
    first, second = (datetime.fromtimestamp(wall.replace(fold=fold).timestamp(), UTC) for fold in (0, 1))
    if first <= second:  # the usual, and an hour that comes twice
        return first
    before, after = second, first  # the offset changes between these two
    offset = after.astimezone().utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone().utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)


def _values(field: str, title: str, low: int, high: int, names: dict[str, int], text: str, name: str) -> frozenset[int]:
    found: set[int] = set()
    for item in field.lower().split(","):
        match = _ITEM.fullmatch(item)
        if not match:
            raise _wrong(text, name, f"{item!r} is no {title}")
        first, last = low, high
        if not match["all"]:
            first = _number(match["first"], names, item, title, text, name)
            last = _number(match["last"], names, item, title, text, name) if match["last"] else first
            if match["step"] and not match["last"]:
                raise _wrong(text, name, f"a step needs a range, and {item!r} has none")
        step = int(match["step"] or 1)
        if not low <= first <= last <= high or step < 1:
            raise _wrong(text, name, f"{item!r} is no {title}")
        found |= set(range(first, last + 1, step))
    return frozenset(found)


def _number(word: str, names: dict[str, int], item: str, title: str, text: str, name: str) -> int:
    if word.isascii() and word.isdigit():
        return int(word)
    if word not in names:
        raise _wrong(text, name, f"{item!r} is no {title}")
    return names[word]


def _wrong(text: str, name: str, why: str) -> UsageError:
    return UsageError(f"reading {name} {text[:100]!r}", why, "Five fields as in a crontab, for example '0 2 * * *'.")
