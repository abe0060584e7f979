"""The server's glob patterns (`KEYS`, `SCAN … MATCH`) as a compiled expression over raw keys."""

from __future__ import annotations

import re


def compile_glob(pattern: str) -> re.Pattern[bytes]:
    r"""Return an expression that matches what the server's own matcher matches.

    `*`, `?`, `[abc]`, `[^abc]`, `[a-z]` and `\x`. Source: `stringmatchlen` in Valkey's util.c, its corners
    included: an unclosed class runs to the end of the pattern, a reversed range means the range, and the key with
    the empty name matches `*` alone.
    """
    glob = pattern.encode()
    out: list[bytes] = [] if pattern in {"", "*"} else [b"(?=.)"]
    at = 0
    while at < len(glob):
        char = glob[at : at + 1]
        if char == b"*":
            out.append(b".*")
        elif char == b"?":
            out.append(b".")
        elif char == b"[":
            text, at = _class(glob, at + 1)
            out.append(text)
        else:
            if char == b"\\" and at + 1 < len(glob):
                at += 1
                char = glob[at : at + 1]
            out.append(re.escape(char))
        at += 1
    return re.compile(b"".join(out), re.DOTALL)


def _class(glob: bytes, at: int) -> tuple[bytes, int]:
    """Read a class whose `[` stands before `at`; return its expression and the place of its last byte."""
    negated = glob[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(glob) and glob[at : at + 1] != b"]":
        if glob[at : at + 1] == b"\\" and at + 1 < len(glob):
            at += 1
            members.add(glob[at])
        elif at + 2 < len(glob) and glob[at + 1 : at + 2] == b"-":
            low, high = sorted(byte - 256 if byte > 127 else byte for byte in (glob[at], glob[at + 2]))
            members.update(byte % 256 for byte in range(low, high + 1))  # bytes are signed to the server
            at += 2
        else:
            members.add(glob[at])
        at += 1
    if negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", at
    return b"[" + b"".join(re.escape(bytes([byte])) for byte in sorted(members)) + b"]", at
