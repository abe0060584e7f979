"""Names: of tables as people and metadata write them, and of the files of databases."""

from __future__ import annotations

import re
from collections.abc import Iterable

FOLDER = "postgres"
_MOST_SLUG = {"custom": 21, "directory": 9}  # `postgres/<slug>.dump`, `postgres/<slug>.d/1234567.dat.gz`: 35 bytes
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def qualified(schema: str, name: str) -> str:
    """Return `schema.name`, with quotes around a part that holds a dot or a quote."""
    return f"{_part(schema)}.{_part(name)}"


def _part(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(r'[."]', text) or not text else text


def parts(text: str) -> tuple[str, ...]:
    """Split what `qualified` made, or what a person or PostgreSQL wrote: dots inside of quotes do not count."""
    found: list[str] = []
    current, inside, at = "", False, 0
    while at < len(text):
        letter = text[at]
        if letter == '"':
            if inside and text[at + 1 : at + 2] == '"':
                current += '"'
                at += 1
            else:
                inside = not inside
        elif letter == "." and not inside:
            found.append(current)
            current = ""
        else:
            current += letter
        at += 1
    return (*found, current)


def file_stems(databases: Iterable[str], form: str) -> dict[str, str]:
    """Return for each database the name of its file without the ending; `db-000` where its own does not fit.

    No two are alike, also where a file system does not tell `a` from `A`.
    """
    stems: dict[str, str] = {}
    taken: set[str] = set()
    others = []
    for name in databases:
        fits = _SLUG.fullmatch(name) and len(name) <= _MOST_SLUG[form] and not name.lower().startswith("db-")
        if fits and ".." not in name and name.lower() not in taken:
            stems[name] = name
            taken.add(name.lower())
        else:
            others.append(name)
    return stems | {name: f"db-{number:03d}" for number, name in enumerate(others)}


def beside(name: str, kind: str, random: str) -> str:
    """Return the name of a database that stands beside another for a while; at most 63 bytes, as PostgreSQL wants."""
    ending = f"__{kind}_{random}"
    return _stem(name, ending) + ending


def is_beside(name: str, found: str, kind: str) -> bool:
    """Tell whether a database is one that `beside` named for this one."""
    ending = re.search(rf"__{kind}_[0-9a-f]{{8}}$", found)
    return bool(ending) and found == _stem(name, ending[0]) + ending[0]  # type: ignore[index]


def _stem(name: str, ending: str) -> str:
    return name.encode()[: 63 - len(ending)].decode(errors="ignore")
