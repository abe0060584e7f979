"""The operations as Lua: one library of server functions, or one script for each where the server has no functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"
_PREFIX = "understudy_waitingroom_"
# a function that uses another stands behind it: heartbeat answers as status does
OPERATIONS = (
    "join", "status", "heartbeat", "enter", "leave", "hold", "release", "confirm", "event", "tick",
    "create", "seats", "configure", "act", "dequeue", "ack", "cleanup", "purge",
)  # fmt: skip
READS = frozenset({"status", "event"})
# not when memory is full: the line and the events grow no more, and who was called can still enter, hold and buy
_GROWS = frozenset({"join", "create", "seats"})
LIBRARIES = f"{_PREFIX}*"


def texts() -> dict[str, str]:
    """Return the text of every file: each operation by its name, and `shared`, which stands before them."""
    return {name: (_FOLDER / f"{name}.lua").read_text() for name in ("shared", *OPERATIONS)}


class Library:
    """The operations of some texts. The name changes with every change of the code.

    A gateway of another version beside this one calls functions of its own, on the same keys.
    """

    def __init__(self, code: Mapping[str, str]) -> None:
        self._bodies = {name: code[name] for name in OPERATIONS}
        self._shared = code["shared"]
        text = self._shared + "".join(self._bodies[name] + _flags(name) for name in OPERATIONS)
        self.version = hashlib.sha256(text.encode()).hexdigest()[:8]
        self.name = _PREFIX + self.version
        self.functions = {name: f"waitingroom_{self.version}_{name}" for name in OPERATIONS}  # what FCALL takes

    @property
    def source(self) -> str:
        """Return what FUNCTION LOAD takes."""
        registered = "\n".join(
            f"redis.register_function{{function_name='{function}', callback={name}, flags={{'{_flags(name)}'}}}}"
            for name, function in self.functions.items()
        ).replace("{''}", "{}")
        return f"#!lua name={self.name}\n{self._shared}\n{''.join(self._bodies.values())}\n{registered}\n"

    @cache  # noqa: B019 - a process has one
    def script(self, operation: str, flagged: bool) -> str:
        """Return what EVAL takes; servers before 7.0 read no flags."""
        flags = f"#!lua flags={_flags(operation)}\n" if flagged and _flags(operation) else ""
        needed = self._bodies["status"] if operation == "heartbeat" else ""
        return f"{flags}{self._shared}\n{needed}{self._bodies[operation]}\nreturn {operation}(KEYS, ARGV)\n"

    @cache  # noqa: B019
    def digest(self, operation: str, flagged: bool) -> str:
        """Return what EVALSHA takes."""
        script = self.script(operation, flagged)
        return hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 - the server's own name for it


def _flags(operation: str) -> str:
    if operation in READS:
        return "no-writes"
    return "" if operation in _GROWS else "allow-oom"


@cache
def library() -> Library:
    """Return the library as it is shipped."""
    return Library(texts())
