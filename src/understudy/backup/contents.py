"""How much a set holds of each component against the sets before it: has the store lost what it held?

Pure functions of what `metadata.json` recorded: nothing is opened. A backup of a store that lost everything succeeds,
and so does its restore; only the sets before it know better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.backup.components import NAMES
from understudy.backup.repository import Repository, peek
from understudy.backup.set import Metadata, SetId
from understudy.errors import UnderstudyError
from understudy.pages.figures import count

SHRUNK = 10  # a store that holds less than one of so many is told of
_WORDS = {"postgres": ("row", " of PostgreSQL"), "redis": ("key", ""), "qdrant": ("vector", " of Qdrant")}


@dataclass(frozen=True)
class Change:
    """A component of which a set holds nothing, or far less than the newest set before it that held something.

    `before` is that set and `had` what it held; None and 0 where no set before it held anything.
    """

    component: str
    set: SetId
    held: int
    before: SetId | None
    had: int
    match: str | None = None

    @property
    def lost(self) -> bool:
        """Tell whether everything is gone."""
        return not self.held and self.before is not None

    def __str__(self) -> str:
        unit, of = _WORDS[self.component]
        text = f"the set holds {f'only {count(self.held, unit)}' if self.held else f'no {unit}s'}{of}"
        if not self.held and self.match:
            text += f": none matches {self.match!r}"
        if self.before is None:
            return text
        return f"{text}, and {self.before} before it held {count(self.had, unit)}"

    @property
    def line(self) -> str:
        """Return it with what to do about it; of a store that never held anything only the fact."""
        return f"{self}. {self.hint}." if self.before else f"{self}."

    @property
    def hint(self) -> str:
        """Return what to do about it."""
        if self.before is None:
            return f"Is it the right server? Where it may be empty: BACKUP_MAY_BE_EMPTY={self.component}"
        meant = f"; where it may be empty: BACKUP_MAY_BE_EMPTY={self.component}" if not self.held else ""
        return f"Is it the right server? To bring back what was: {self.command}{meant}"

    @property
    def command(self) -> str:
        """Return what brings back what the set before holds."""
        return f"understudy restore --component {self.component} {self.before}"


def amount(metadata: Metadata, name: str) -> int | None:
    """Return the keys, rows (and large objects) or vectors of a component; None where that was not recorded."""
    said = metadata.components.get(name)
    if said is None:
        return None
    try:
        if name == "redis":
            return _number(said["keys"])
        if name == "qdrant":
            return sum(_number(each["points"]) for each in said["collections"])
        if name == "postgres":
            return sum(
                sum(_number(rows) for title, rows in each["tables"].items() if title not in each["partitions"])
                + _number(each["large_objects"]["count"])
                for each in said["databases"]
            )
    except (KeyError, TypeError, AttributeError):
        pass  # an older set, or one of a test: nothing is claimed
    return None


def _number(value: Any) -> int:
    """Return a number; of a range, where writes went on, its upper end."""
    value = value[-1] if isinstance(value, list) else value
    if type(value) is not int:
        raise TypeError
    return value


def amount_in_words(metadata: Metadata, name: str) -> str:
    """Return `316 keys`, `25 rows of PostgreSQL`; nothing where it is not known."""
    held, (unit, of) = amount(metadata, name), _WORDS[name]
    return "" if held is None else f"{count(held, unit)}{of}"


def nothing_of(metadata: Metadata) -> frozenset[str]:
    """Return the components of which a set holds nothing."""
    return frozenset(name for name in metadata.components if amount(metadata, name) == 0)


def something_of(metadata: Metadata) -> frozenset[str]:
    """Return the components of which a set holds something."""
    return frozenset(name for name in metadata.components if amount(metadata, name))


def change(name: str, sets: Iterable[Metadata]) -> Change | None:
    """Return what is to be told of a component's newest set; None: all is well, or nobody knows.

    `sets` are the good ones, newest first; those without the component, or with an unknown amount, are passed over.
    Sets of different BACKUP_MATCH are compared only where nothing is left.
    """
    known = ((one, number) for one in sets if (number := amount(one, name)) is not None)
    newest, held = next(known, (None, 0))
    if newest is None:
        return None
    match = newest.components[name].get("match")
    alike = (pair for pair in known if pair[1] and (not held or pair[0].components[name].get("match") == match))
    before, had = next(alike, (None, 0))
    if held and held * SHRUNK >= had:
        return None
    return Change(name, newest.id, held, before.id if before else None, had, match)


def changes(
    newest: Metadata, repository: Repository, may_be_empty: Collection[str] = (), damaged: Collection[str] = ()
) -> list[Change]:
    """Return what is to be told of a set beside those before it (of the same profile and name) in a repository.

    `may_be_empty` are components of which nothing left is no news, `damaged` the sets whose last check failed.
    """
    found = []
    for name in [one for one in NAMES if amount(newest, one) is not None]:
        told = change(name, _with_those_before(newest, repository, damaged))
        if told and (told.held or name not in may_be_empty):
            found.append(told)
    return found


def _with_those_before(newest: Metadata, repository: Repository, damaged: Collection[str]) -> Iterator[Metadata]:
    yield newest
    try:
        stored = repository.sets()
    except UnderstudyError:
        return  # whoever needs the repository says so
    for one in stored:
        ours = (one.id.name, one.id.profile) == (newest.id.name, newest.id.profile)
        if ours and one.id < newest.id and str(one.id) not in damaged:
            try:
                yield peek(repository, one)
            except (UnderstudyError, OSError):
                continue  # damaged, or deleted meanwhile: it is no good set


def told_of(found: Sequence[Change]) -> str | None:
    """Return them as one line for the audit log; None where there are none."""
    return "; ".join(map(str, found)) or None
