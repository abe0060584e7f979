"""Names of collections: in a URL, in a set's paths, and before a person's eyes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

FOLDER = "qdrant"
SUFFIX = ".snapshot"
ALIASES = f"{FOLDER}/aliases.json"
MOST_PATH = 35
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def in_url(name: str) -> str:
    """Return a name as one part of a path; whatever stands in it stays in that part."""
    quoted = quote(name, safe="")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted  # a part of dots alone would lead elsewhere


def shown(name: str) -> str:
    """Return a name for a line of text: as it is, or escaped where it would break the line."""
    return name if name.isprintable() and name.strip() == name else ascii(name)


def stems(names: Sequence[str], longest: int) -> dict[str, str]:
    """Return, for each collection, what its files' names begin with: its name where that fits and is the only one.

    Two names that differ in upper and lower case only would be one file on some disks.
    """
    folded = [name.lower() for name in names]
    found = {
        name: name
        for name in names
        if _PLAIN.fullmatch(name) and len(name) <= longest and folded.count(name.lower()) == 1
    }
    used = {name.lower() for name in found}
    numbers = (f"collection-{number:03d}" for number in range(len(names) * 2 + 1))
    free = (stem for stem in numbers if stem not in used)
    return found | {name: next(free) for name in names if name not in found}


def paths(names: Sequence[str], nodes: int) -> dict[tuple[str, int], str]:
    """Return the path of each collection's snapshot from each node, numbered from 0."""
    ends = [""] if nodes == 1 else [f"-n{number}" for number in range(nodes)]
    longest = MOST_PATH - len(f"{FOLDER}/{SUFFIX}") - max(map(len, ends))
    return {
        (name, number): f"{FOLDER}/{stem}{end}{SUFFIX}"
        for name, stem in stems(names, longest).items()
        for number, end in enumerate(ends)
    }


def vectors_in(name: str, low: int, high: int | None = None) -> str:
    """Return `1500 vectors in scholaria_documents`, or a range where it was no one number."""
    if high is not None and high != low:
        return f"{low} to {high} vectors in {shown(name)}"
    return f"{low} {'vector' if low == 1 else 'vectors'} in {shown(name)}"
