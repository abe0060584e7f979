"""What a client under test is: a library with settings, reached in one of the connection modes.

To add a library, write a file in `clients/` with a function `connect` like those there, and name it in
`clients/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from understudy.drill.operation import Outcome

Setting = str | int | float | bool


class Client(Protocol):
    """A connected client. What goes wrong is the library's own exception."""

    def set(self, key: str, value: str) -> None:
        """`SET`. Safe to repeat."""

    def get(self, key: str) -> str | None:
        """`GET`."""

    def append(self, key: str, value: str) -> None:
        """`RPUSH`. Whoever repeats it may do it twice; the library's own retries do."""

    def close(self) -> None:
        """Let go of every connection."""


@dataclass
class Trace:
    """What was seen of one call on the wire: tries sent, tries never answered, redirections.

    `error`, its `text` and `outcome` say how the call ended; until it failed it is ok.
    """

    key: bytes
    attempts: int = 0
    unanswered: int = 0
    moved: int = 0
    asked: int = 0
    outcome: Outcome = Outcome.OK
    error: str = ""
    text: str = ""


class Watch(Protocol):
    """Sees what a library does for one call: `with watch(key) as trace: client.set(key, value)`.

    The library's exception ends there and is told in the trace.
    """

    def __call__(self, key: str) -> AbstractContextManager[Trace]:
        """Return the context for one call with this key."""


@dataclass(frozen=True)
class Preset:
    """A library with settings, in words that can be sent to another process.

    `settings` are the library's own (or `retries`). `deadline_s`: SET and GET are tried again, with growing pauses,
    for so long; RPUSH never is, since that would not be safe. `mode` overrides the lab's own connection mode; `stable`
    connects through one address that stays when nodes are replaced. `base` names the preset that this one changes.
    """

    name: str
    library: str = "redis-py"
    base: str = "defaults"
    mode: str | None = None
    stable: bool = False
    deadline_s: float | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "settings": dict(self.settings)}

    def __str__(self) -> str:
        said = [f"{self.library}, {self.base}"]
        said += [f"{name} = {value}" for name, value in self.settings.items()]
        said += [f"deadline {self.deadline_s:g} s"] if self.deadline_s is not None else []
        said += [f"{self.mode} mode"] if self.mode is not None else []
        said += ["through a stable address"] * self.stable
        return ", ".join(said)
