"""A file of KEY=VALUE lines with what must not stand in a crontab: passwords and keys."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from understudy.errors import NotFoundError, RefusedError, UsageError

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)")
_PIECE = re.compile(  # what stands together without a space is one value, as in 'it'\''s secret'
    r"""'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)"|\\(?P<escaped>.)|(?P<plain>[^\s'"\\;&|<>()$`]+)"""
)
_END = re.compile(r"\s*|\s+#.*")
_ESCAPED = re.compile(r'\\(["\\$`])')


def read(path: Path) -> dict[str, str]:
    """Return what the file says: `KEY=VALUE`, also `export KEY="VALUE"`; `#` begins a comment; nothing is expanded.

    What begins with a quote is read as a shell reads it: `'it'\\''s secret'`. Without, all up to ` #` is the value.

    Raises:
        NotFoundError: there is no such file, or it cannot be read.
        RefusedError: others can read or change it.
        UsageError: a line is none of ours; its text is not repeated, for it may be a secret.
    """
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            data = file.read()
    except OSError as error:
        raise NotFoundError(f"reading {path}", error.strerror or str(error), "Check --env-file.") from error
    if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or about.st_uid not in {0, os.getuid()}:
        raise RefusedError(
            f"reading {path}", "it belongs to somebody else, or others may read it, and it holds secrets",
            f"chmod 600 {path}",
        )  # fmt: skip
    found: dict[str, str] = {}
    for number, line in enumerate(data.decode(errors="surrogateescape").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        value = _value(match["value"]) if match else None
        if match is None or value is None or "\0" in value:  # no environment can hold that
            quoted = match is not None and value is None
            raise UsageError(
                f"reading line {number} of {path}",
                "it is not KEY=VALUE" + (": a quote is not closed, or more stands after it" if quoted else ""),
                r"Write KEY='a value with spaces'; a single quote in it is '\'', as in KEY='it'\''s secret'.",
            )
        found[match["name"]] = value
    return found


def load(path: Path) -> tuple[dict[str, str], list[str]]:
    """Put what the file says into the environment, where a name is not set there already.

    Returns what the file says, and the names for which the environment says something else, and wins.
    """
    found = read(path)
    overruled = [name for name, value in found.items() if os.environ.setdefault(name, value) != value]
    return found, overruled


def _value(text: str) -> str | None:
    """Return what a shell makes of a value, without expanding anything; None where a quote is not closed."""
    if text[:1] not in {"'", '"'}:
        return re.split(r"\s#", text, maxsplit=1)[0].strip()
    found, at = [], 0
    while match := _PIECE.match(text, at):
        at = match.end()
        double = match["double"]
        found.append(_ESCAPED.sub(r"\1", double) if double is not None else match[match.lastgroup or 0])
    return "".join(found) if _END.fullmatch(text, at) else None
