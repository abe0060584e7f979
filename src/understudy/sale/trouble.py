"""What goes wrong during a sale: the faults of a plan, one after the other, each undone before the next begins."""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

from understudy.drill.aftermath import await_agreement
from understudy.drill.chosen import chosen
from understudy.drill.fault import Scene
from understudy.drill.faults import find_fault, params_for
from understudy.drill.shards import Shards
from understudy.drill.watch import Watch
from understudy.errors import UnderstudyError
from understudy.lab.live import Lab
from understudy.progress import Progress
from understudy.sale.gateways import Gateways
from understudy.sale.plan import GATEWAY, SalePlan, kind_in
from understudy.valkey.slots import key_slot

_WHOLE_WITHIN_S = 60.0


class Trouble:
    """Runs in a thread of its own; `over` ends it early, undoing what is in effect."""

    def __init__(
        self, lab: Lab, plan: SalePlan, gateways: Gateways, watch: Watch, event: str, progress: Progress
    ) -> None:
        self._lab, self._plan, self._gateways, self._watch, self._progress = lab, plan, gateways, watch, progress
        self._shard = 1 + Shards.of_lab(lab).of_slot[key_slot(f"event:{{{event}}}".encode())]
        self._random = random.Random(plan.seed)  # noqa: S311 - to be drawn again
        self.over = threading.Event()
        self.failures: list[str] = []

    def run(self) -> None:
        """Do all of it."""
        self.over.wait(self._plan.before_s)
        for kind in self._plan.faults:
            if self.over.is_set():
                return
            try:
                if kind == GATEWAY:
                    self._gateway()
                else:
                    self._servers(kind)
            except UnderstudyError as error:
                self.failures.append(f"{kind}: {error}")
                self._watch.note("unmended", "", None, f"{kind}: {error}")
            self.over.wait(self._plan.settle_s)

    def _servers(self, kind: str) -> None:
        fault = find_fault(kind_in(self._lab.layout, kind), self._lab.layout)
        given = ["coordinated=true"] if fault.name == "sentinel-failover" and kind == "failover" else []
        with ExitStack() as prepared, ExitStack() as undo:
            nodes = chosen(self._lab, [f"primary:{self._shard}"], self._random)
            scene = Scene(self._lab, nodes, prepared, params_for(fault, given))
            fault.prepare(scene)
            self._tell("fault", scene.names, f"{kind} {scene.names}")
            said = fault.apply(replace(scene, undo=undo))
            self._tell("applied", scene.names, said)
            self.over.wait(self._plan.hold_fault_s)
            if kind == "kill" and self._lab.layout != "standalone" and not self._lab.options.persist:
                self._await_successor()
            undo.close()
            if fault.lasting:
                self._tell("undone", scene.names, f"{kind} undone")
        self._lab.heal(_WHOLE_WITHIN_S)
        await_agreement(self._lab, _WHOLE_WITHIN_S)
        self._tell("whole", "", "all servers agree again")

    def _await_successor(self) -> None:
        """A server without its data must not be back before its replica took over: it would stay primary, and empty."""
        until_s = time.monotonic() + _WHOLE_WITHIN_S
        while time.monotonic() < until_s and not self.over.wait(0.05):
            kinds = [one.kind for one in self._watch.events if one.kind in {"fault", "promoted"}]
            if kinds[-1:] == ["promoted"]:
                return

    def _gateway(self) -> None:
        number = self._random.randrange(len(self._gateways.addresses))
        name = f"gateway {number + 1}"
        self._tell("fault", name, f"kill -9 of {name}")
        self._gateways.kill(number)
        self.over.wait(min(2.0, self._plan.hold_fault_s))
        self._gateways.start(number)
        self._tell("undone", name, f"{name} answers again")

    def _tell(self, kind: str, node: str, text: str) -> None:
        self._watch.note(kind, node, None, text)
        self._progress.say(text)
