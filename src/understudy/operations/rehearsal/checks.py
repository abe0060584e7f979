"""The user's own checks of a rehearsal, `[[rehearse.checks]]`: read before anything starts, run when all is restored.

A check asks one thing (`sql`, `command` or `run`) and says what the answer must be (`expect`, `at_least`, `at_most`);
without that it is enough that the question is answered without an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import UsageError

_KINDS = {"sql": "postgres", "command": "redis", "run": None}
_FIELDS = {"name", "component", "database", "expect", "at_least", "at_most", "timeout_s", *_KINDS}
DEFAULT_TIMEOUT_S = 60.0
_EXAMPLE = '{name = "topics", component = "postgres", sql = "SELECT count(*) FROM topics", at_least = 1}'
Scalar = bool | int | float | str


@dataclass(frozen=True)
class Check:
    """One check. `kind` is `sql`, `command` or `run`; `component` is the one that it needs, if it is tied to one.

    `database` is the name of a PostgreSQL database (None: the set's first) or the number of a Redis database.
    """

    name: str
    kind: str
    ask: str | tuple[str, ...]
    component: str | None
    database: str | int | None = None
    expect: Scalar | None = None
    at_least: float | None = None
    at_most: float | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S

    @property
    def wanted(self) -> str:
        """Return what the answer must be, in words."""
        limits = [
            f"{self.expect!r} expected" if self.expect is not None else "",
            f"at least {self.at_least:g}" if self.at_least is not None else "",
            f"at most {self.at_most:g}" if self.at_most is not None else "",
        ]
        return ", ".join(filter(None, limits))

    def holds(self, answer: Any) -> bool:
        """Tell whether an answer is what it must be. A list is measured by its length."""
        if self.expect is not None and not _equal(self.expect, answer):
            return False
        if self.at_least is None and self.at_most is None:
            return True
        number = _number(answer)
        if number is None:
            return False
        least = -math.inf if self.at_least is None else self.at_least
        return least <= number <= (math.inf if self.at_most is None else self.at_most)


def _equal(expected: Scalar, answer: Any) -> bool:
    if isinstance(expected, bool) or isinstance(answer, bool):
        return expected is answer or str(expected).lower() == str(answer).lower()
    if isinstance(expected, int | float):
        return _number(answer) == expected
    return str(answer) == expected


def _number(answer: Any) -> float | None:
    if isinstance(answer, list):
        return len(answer)
    try:
        return float(answer)
    except (TypeError, ValueError):
        return None


def read_checks(rows: Sequence[Mapping[str, Any]]) -> tuple[Check, ...]:
    """Return the checks that the settings define.

    Raises:
        UsageError: one makes no sense; it is named, and nothing was started.
    """
    checks: list[Check] = []
    for number, row in enumerate(rows, 1):
        check = _read(row, number)
        if any(check.name == other.name for other in checks):
            raise _wrong(check.name, "another check has the same name")
        checks.append(check)
    return tuple(checks)


def _wrong(name: object, why: str) -> UsageError:
    return UsageError(f"reading the check {name!r} of [[rehearse.checks]]", why, f"For example {_EXAMPLE}.")


def _read(row: Mapping[str, Any], number: int) -> Check:
    name = row.get("name", number)
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > 200:
        raise _wrong(name, "it needs a name, of at most 200 printable characters")
    if unknown := sorted(map(str, row.keys() - _FIELDS)):
        raise _wrong(name, f"there is no field {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}")
    kinds = [kind for kind in _KINDS if kind in row]
    if len(kinds) != 1:
        raise _wrong(name, "it needs one of sql, command and run, and only one")
    kind = kinds[0]
    component = row.get("component", _KINDS[kind])
    if component not in (("postgres", "redis", "qdrant", None) if kind == "run" else (_KINDS[kind],)):
        raise _wrong(name, f"{kind!r} does not go with the component {component!r}")
    return Check(
        name,
        kind,
        _ask(name, kind, row[kind]),
        component,
        _database(name, kind, row.get("database")),
        **_limits(name, row),
    )


def _ask(name: str, kind: str, asked: Any) -> str | tuple[str, ...]:
    if kind == "sql":
        if not isinstance(asked, str) or not asked.strip():
            raise _wrong(name, "sql must be a text")
        return asked
    if not isinstance(asked, list) or not asked or not all(isinstance(word, str) for word in asked) or not asked[0]:
        raise _wrong(name, f'{kind} must be a list of texts, for example ["DBSIZE"]')
    return tuple(asked)


def _database(name: str, kind: str, given: Any) -> str | int | None:
    if given is None:
        return None
    if kind == "command" and (type(given) is not int or given < 0):
        raise _wrong(name, "the database of a Redis command must be a number")
    if kind == "sql" and (not isinstance(given, str) or not given):
        raise _wrong(name, "database must be a database's name")
    if kind == "run" and not isinstance(given, str):
        raise _wrong(name, "database must be the name of a PostgreSQL database")
    return given  # type: ignore[no-any-return]


def _limits(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in ("at_least", "at_most", "timeout_s"):
        if field in row:
            value = row[field]
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise _wrong(name, f"{field} must be a number")
            found[field] = float(value)
    if not 0 < found.get("timeout_s", DEFAULT_TIMEOUT_S) <= 86_400:
        raise _wrong(name, "timeout_s must be more than 0, and at most a day")
    if found.get("at_least", -math.inf) > found.get("at_most", math.inf):
        raise _wrong(name, "at_least is more than at_most")
    if "expect" in row:
        if found.keys() & {"at_least", "at_most"}:
            raise _wrong(name, "expect does not go with at_least and at_most")
        if not isinstance(row["expect"], bool | int | float | str):
            raise _wrong(name, "expect must be a text, a number, true or false")
        found["expect"] = row["expect"]
    return found
