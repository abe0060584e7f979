"""Names of keys as people may see them, and what a name begins with. Keys are anybody's bytes: hostile input."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from understudy.backup.record import Records
from understudy.errors import UsageError

SEPARATORS = ":/|.-_"
MOST_PREFIX_BYTES = 200
MOST_SHOWN = 120


def checked_separators(text: str) -> tuple[bytes, ...]:
    """Return the separators that a text names, a character each, the first one preferred.

    Raises:
        UsageError: it names none.
    """
    if not text:
        raise UsageError("reading --separator", "it names no character", f"The default is '{SEPARATORS}'.")
    return tuple(dict.fromkeys(one.encode() for one in text))


def prefix(key: bytes, separators: Sequence[bytes], depth: int) -> bytes | None:
    """Return the beginning of a name up to and including a separator, or None where it has none.

    Which separator: the first of the list that the name holds behind its first byte. With `depth` 2 up to the second
    one of it, or the last where there are fewer. One longer than `MOST_PREFIX_BYTES` is cut there.
    """
    for separator in separators:
        at = key.find(separator, 1)
        if at >= 0:
            break
    else:
        return None
    for _ in range(depth - 1):
        following = key.find(separator, at + len(separator))
        if following < 0:
            break
        at = following
    return key[: min(at + len(separator), MOST_PREFIX_BYTES)]


def brief(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text, cut where it is longer than a line bears; the cut is marked with `…`."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def identity(key: bytes) -> dict[str, Any]:
    """Return a name as data, as the lines of a set do: `key`, or `key_b64` where it is no UTF-8."""
    from binascii import b2a_base64  # noqa: PLC0415 - two fields in a thousand

    try:
        return {"key": key.decode()}
    except UnicodeDecodeError:
        return {"key_b64": b2a_base64(key, newline=False).decode()}


def meant(text: str) -> frozenset[bytes]:
    r"""Return the names that a person may mean: what was typed, and `'\xff\x00'` as lists show unprintable names."""
    found = {text.encode(errors="surrogateescape")}
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        try:
            read = ast.literal_eval(f"b{text}")
        except (SyntaxError, ValueError):
            pass
        else:
            found.add(read)
    return frozenset(found)


def chosen(records: Records, wanted: Sequence[int]) -> Records:
    """Return the records at these places."""
    return Records(
        [records.keys[at] for at in wanted],
        [records.dbs[at] for at in wanted],
        [records.types[at] for at in wanted],
        [records.expire_at_ms[at] for at in wanted],
        [records.payloads[at] for at in wanted],
        None if records.idle_s is None else [records.idle_s[at] for at in wanted],
        None if records.freq is None else [records.freq[at] for at in wanted],
    )


def text_of(value: str) -> str:
    """Return a text of several lines in which nothing else is left that a terminal might act on."""
    return "".join(one if one.isprintable() or one in "\n\t" else f"\\x{ord(one):02x}" for one in value)


def harmless(text: str) -> str:
    r"""Return JSON in which every character that a terminal might act on stands as `\uXXXX`: the same data."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    number = ord(one)
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
