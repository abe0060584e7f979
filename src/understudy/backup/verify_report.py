"""What a verification found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_LISTED = 100


@dataclass
class VerifyReport:
    """Counts, and the first hundred names of each kind in `examples`.

    `unsure` counts value mismatches that could not be looked into, for want of a scratch server; `unheld` keys that
    differ only in what that server cannot hold, which is no mismatch.
    """

    compared: int = 0
    missing: int = 0
    ttl_mismatch: int = 0
    value_mismatch: int = 0
    extra: int = 0
    expired: int = 0
    unsure: int = 0
    unheld: int = 0
    unheld_libraries: int = 0  # of these, how many are function libraries
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, name: str) -> None:
        """Count a difference, and name it while there is room."""
        setattr(self, kind, getattr(self, kind) + 1)
        listed = self.examples.setdefault(kind, [])
        if len(listed) < MOST_LISTED:
            listed.append(name)

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what a worker found."""
        for name in ("compared", "missing", "ttl_mismatch", "value_mismatch", "extra", "expired", "unsure", "unheld"):
            setattr(self, name, getattr(self, name) + other[name])
        for kind, names in other["examples"].items():
            listed = self.examples.setdefault(kind, [])
            listed += names[: MOST_LISTED - len(listed)]

    @property
    def named(self) -> list[tuple[str, str]]:
        """Return the differences that are named: of what kind, and which key."""
        return [(kind, name) for kind, names in self.examples.items() for name in names if kind != "unheld"]

    @property
    def differences(self) -> int:
        """Return how many keys differ, named in `examples` or not."""
        return self.missing + self.ttl_mismatch + self.value_mismatch + self.extra

    @property
    def clean(self) -> bool:
        """Tell whether set and server agree."""
        return not self.differences
