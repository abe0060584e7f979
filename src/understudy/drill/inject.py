"""One fault on a lab that runs: break it, hold it, undo it, and wait until all is whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from understudy.drill.chosen import chosen
from understudy.drill.fault import Fault, Scene, Value
from understudy.drill.faults import find_fault, params_for
from understudy.errors import NotFoundError, RefusedError
from understudy.lab import named, server, state
from understudy.lab.live import Lab
from understudy.lab.server import LabNode

Result = TypeVar("Result")

_WHOLE_WITHIN_S = 60.0
_UNDONE_BY = {"kill": "start", "pause": "unpause"}


@dataclass(frozen=True)
class Plan:
    """What is to be done to whom. Everything that can be wrong with it was found before anything was changed."""

    lab: Lab
    fault: Fault
    nodes: tuple[LabNode, ...]
    params: dict[str, Value]
    keep: bool

    @property
    def held(self) -> bool:
        """Return whether there is anything to undo after a while."""
        return not self.keep and bool(self.fault.lasting or self.fault.mend)

    @property
    def mend(self) -> str:
        """Return how what was left in place goes away."""
        if self.lab.adopted and self.fault.name in _UNDONE_BY:
            names = " ".join(node.container or node.name for node in self.nodes)
            return f"`docker {_UNDONE_BY[self.fault.name]} {names}` undoes it."
        return self.fault.mend.format(layout=self.lab.layout, lab=self.lab.name)


def plan(lab: Lab, kind: str, words: Sequence[str] = (), given: Iterable[str] = (), *, keep: bool = False) -> Plan:
    """Return the plan for a fault's name, nodes in words (its own unless given) and parameters as `name=value`.

    Raises:
        UsageError, NotFoundError: no such fault in this layout, parameter or node.
        RefusedError: it cannot be left in place, since it ends with us.
    """
    fault = find_fault(kind, lab.layout)
    params = params_for(fault, given)
    if keep and fault.lasting and not fault.mend:
        raise RefusedError(f"leaving the fault {kind} in place", "it ends with the command", "Use --for, as --for 10m.")
    return Plan(lab, fault, chosen(lab, words or [fault.nodes]), params, keep)


def inject(what: Plan, for_s: float, tell: Callable[[str], None]) -> str:
    """Break it, hold it for so long, undo it; return what was done. Whatever comes in between, it is undone.

    Raises:
        UnderstudyError: it could not be done (and was undone), or not undone.
    """
    with ExitStack() as undo:
        scene = Scene(what.lab, what.nodes, undo, what.params)
        try:
            what.fault.prepare(scene)
            did = what.fault.apply(scene)
            tell(did)
            if what.keep:
                undo.pop_all()
                return did
            if what.held:
                tell(f"undoing it in {for_s:g} s")
                time.sleep(for_s)  # what the user asked for
        finally:
            if not what.keep:
                tell("undoing it")
    tell("waiting until the lab is whole")
    what.lab.heal(_WHOLE_WITHIN_S)
    return did


def on_named(name: str | None, doing: str, act: Callable[[Lab], Result]) -> Result:
    """Act on a lab by its name, or the only one that runs; no other command changes it meanwhile.

    Raises:
        NotFoundError: none runs, or none of that name does.
        UsageError: several run and none was named.
        RefusedError: another command works on it.
    """
    name = name or named.only_one(doing, [lab.name for lab in named.here_or_adopted()], "Choose with --name.")
    if name is None:
        raise NotFoundError(doing, "no lab is running", "Start one: understudy up cluster")
    with state.locked(name):
        lab = named.find(name)
        if not any(node.alive for node in lab.nodes):
            again = f"docker start {' '.join(node.container or '' for node in lab.nodes)}" if lab.adopted else ""
            hint = again or f"understudy up {lab.layout} --name {name}"
            raise NotFoundError(doing, f"the lab {name} is not running", hint)
        try:
            return act(lab)
        finally:
            server.disown(lab.nodes)
