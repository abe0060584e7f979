"""What of a key the target has no place for: the kinds of loss, and which of them a key has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.backup.anywhere.values import Value
from understudy.backup.component import MOST_LISTED, RestoreReport
from understudy.pages.figures import count
from understudy.valkey.abilities import Abilities
from understudy.valkey.payload import FIELDS_EXPIRE

FIELD_EXPIRY, STREAM_COUNTERS, CONSUMER_TIMES = "field-expiry", "stream-counters", "consumer-times"
IDLE_TIME, FREQUENCY, WHOLE_KEY, FUNCTION = "idle-time", "frequency", "whole-key", "function-library"
WORDS = {
    FIELD_EXPIRY: "the expiry of its fields",
    STREAM_COUNTERS: "its counters (entries-added, max-deleted-entry-id, entries-read)",
    CONSUMER_TIMES: "when its consumers were last seen and active",
    IDLE_TIME: "how long it was idle",
    FREQUENCY: "how often it was used",
    WHOLE_KEY: "the whole key: the target lacks the module that its value is of",
    FUNCTION: "the whole library: the target has no functions, or a proxy hides them",
}
_MODULE_BYTES = (6, 7)
_SHOWN_WHEN_DONE = 20


@dataclass
class Losses:
    """Keys that lose something: how many, how often each kind, and the first thousand by name, as data."""

    lost: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    named: list[dict[str, Any]] = field(default_factory=list)

    def note(self, name: str, db: int | None, kind: str, lost: Iterable[str]) -> None:
        """Count a key, and name it while there is room."""
        what = sorted(lost)
        self.lost += 1
        self.kinds.update(what)
        if len(self.named) < MOST_LISTED:
            self.named.append({"key": name, "db": db, "type": kind, "lost": what})

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what a worker found, as `as_data` gives it."""
        self.lost += other["lost"]
        self.kinds.update(other["kinds"])
        self.named += other["named"][: MOST_LISTED - len(self.named)]

    def as_data(self) -> dict[str, Any]:
        """Return plain data."""
        return {"lost": self.lost, "kinds": dict(self.kinds), "named": self.named}

    def into(self, report: RestoreReport) -> None:
        """Add them to the report of a restore."""
        report.lost += self.lost
        report.losses += self.named[: MOST_LISTED - len(report.losses)]
        for kind, number in self.kinds.items():
            report.lost_kinds[kind] = report.lost_kinds.get(kind, 0) + number


def line(loss: Mapping[str, Any]) -> str:
    """Return a loss as a person reads it."""
    database = f" of database {loss['db']}" if loss["db"] else ""
    return f"{loss['key']} ({loss['type']}{database}): {'; '.join(WORDS[kind] for kind in loss['lost'])}"


def in_words(kinds: Mapping[str, int]) -> str:
    """Return how many lose what: `consumer-times 1, field-expiry 3`."""
    return ", ".join(f"{kind} {number:,}" for kind, number in sorted(kinds.items()))


def how_many(lost: int, kinds: Mapping[str, int]) -> str:
    """Return `9 keys and 1 function library`."""
    libraries = kinds.get(FUNCTION, 0)
    told = [count(lost - libraries, "key")] if lost > libraries else []
    told += [f"{libraries:,} function {'library' if libraries == 1 else 'libraries'}"] if libraries else []
    return " and ".join(told)


def described(named: Sequence[Mapping[str, Any]], lost: int, kinds: Mapping[str, int], *, dry_run: bool) -> list[str]:
    """Return what a restore tells of losses: how many, of what kinds, and which: in a dry run the first thousand."""
    if not lost:
        return []
    what = f"{how_many(lost, kinds)} without what the server cannot hold: {in_words(kinds)}"
    shown = named if dry_run else named[:_SHOWN_WHEN_DONE]
    rows = [f"  {line(loss)}" for loss in shown]
    if lost > len(shown):
        rows.append(f"  and {lost - len(shown):,} more" + ("" if dry_run else "; --json names a thousand"))
    if not dry_run:
        return [f"Accepted: {what}", *rows]
    rows.append("It takes --accept-loss to restore them without it.")
    return [f"[DRY RUN] {row}" for row in (what, *rows)]


def is_module(payload: bytes) -> bool:
    """Tell whether a payload is a module's value."""
    return payload[0] in _MODULE_BYTES


def told_by_payload(payload: bytes, able: Abilities, idle_s: int | None, freq: int | None) -> set[str]:
    """Return what a key that is built with commands loses, as far as its payload's first byte tells it."""
    lost = set()
    if payload[0] in FIELDS_EXPIRE and not able.field_expiries:
        lost.add(FIELD_EXPIRY)
    if idle_s is not None:
        lost.add(IDLE_TIME)
    if freq is not None:
        lost.add(FREQUENCY)
    return lost


def told_by_stream(value: Value, able: Abilities, groups: bool) -> set[str]:
    """Return what a stream loses that is built with commands; `groups`: whether its groups are wanted at all."""
    lost = set() if able.stream_counters else {STREAM_COUNTERS}
    if groups and any(group[b"consumers"] for group in value.groups):
        lost.add(CONSUMER_TIMES)
    return lost
