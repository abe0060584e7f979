"""What a fault is: one thing that goes wrong, and the way back.

To add one, write a file in `faults/` with a class that has these members, and name it in `faults/__init__.py`; the
conformance suite in `tests/drill/test_faults.py` then runs over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from understudy.drill.interposed import Interposed
from understudy.lab.live import Lab
from understudy.lab.server import LabNode

Value = str | int | float | bool


def _nobody_asks() -> None:
    """Tell nobody."""


@dataclass
class Scene:
    """Where a fault happens. Whatever it does, it first puts the way back on `undo`, which is run in every case.

    `nodes` are those that were meant, as they are at this moment. `params` are the fault's own settings.
    `nodes_changed` is to be called whenever addresses of the lab's nodes have come or gone. `relays` are those that
    `prepare` put in front of nodes, by the node's name.
    """

    lab: Lab
    nodes: tuple[LabNode, ...]
    undo: ExitStack
    params: Mapping[str, Value] = field(default_factory=dict)
    nodes_changed: Callable[[], None] = _nobody_asks
    relays: dict[str, Interposed] = field(default_factory=dict)

    @property
    def names(self) -> str:
        """Return the names of the nodes that were meant."""
        return ", ".join(node.name for node in self.nodes)


class Unprepared:
    """For faults that need nothing before the workload begins."""

    def prepare(self, scene: Scene) -> None:
        """Do nothing."""


class Fault(Protocol):
    """One kind of fault. Stateless: everything is in the scene.

    `nodes` says in words which nodes are meant unless the user names some, `layouts` where it makes sense,
    `defaults` the parameters and their values. A `lasting` one holds until it is undone; others are over at once.
    `mend` says how a fault that was left in place goes away; empty where it would go with us, or there is
    nothing left; `{layout}` and `{lab}` in it are the lab's.
    """

    name: str
    about: str
    nodes: str
    layouts: frozenset[str]
    defaults: Mapping[str, Value]
    lasting: bool
    mend: str

    def prepare(self, scene: Scene) -> None:
        """Do what must stand before the workload begins and is no fault yet, such as a proxy in front of a node."""

    def apply(self, scene: Scene) -> str:
        """Break it, and return in a sentence what was done to whom.

        Raises:
            UnderstudyError: it could not be done; what was done of it is on `scene.undo`.
        """
