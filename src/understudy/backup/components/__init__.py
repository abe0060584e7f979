"""The stores that a set can hold, one file each; `component.py` says what one is."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from understudy.errors import IntegrityError

if TYPE_CHECKING:
    from understudy.backup.component import Component

NAMES = ("postgres", "redis", "qdrant")


def kind(name: str) -> type[Component]:
    """Return the class of a component by its name; it is imported only now.

    Raises:
        IntegrityError: a set names a component that we do not know.
    """
    if name not in NAMES:
        raise IntegrityError(
            "reading a set", f"it holds a component {name[:60]!r}, which this version does not know",
            "Use a newer Understudy for it.",
        )  # fmt: skip
    module = importlib.import_module(f"understudy.backup.components.{name}")
    found: type[Component] = getattr(module, f"{name.capitalize()}Component")
    return found
