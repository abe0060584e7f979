"""Run one leg of a scenario once: a lab, its clients under load, a fault, and what is there when it is over."""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

import redis

from understudy.drill import aftermath, history
from understudy.drill.chosen import chosen
from understudy.drill.client import Preset
from understudy.drill.fault import Fault, Scene
from understudy.drill.faults import find_fault
from understudy.drill.firsthand import follow_moved, try_crud
from understudy.drill.history import Final, History
from understudy.drill.operation import Operation, Part
from understudy.drill.relay import Relay
from understudy.drill.scenario import Leg
from understudy.drill.shards import Shards
from understudy.drill.watch import Watch
from understudy.drill.workload import Plan, Workload
from understudy.errors import UnderstudyError, UnreachableError
from understudy.lab import temporary
from understudy.lab.layout import of_kind
from understudy.lab.layouts import options_for
from understudy.lab.live import Lab
from understudy.progress import Progress, stage
from understudy.valkey.target import Address, Mode, Target

RATE_OF_ONE_PROCESS = 1250.0  # operations/s; with more the interpreter's lock makes operations late
_BEGINS_IN_NS = 300_000_000


def run(leg: Leg, directory: Path, progress: Progress, seed: int, place: Lab | None = None) -> History:
    """Run a leg, in a lab of its own unless `place` is given, which is left whole; return its history.

    In `directory` operations are written while it runs, and removed when it ends.

    Whatever happens, interruption included: the fault is undone, and no process of ours is left.

    Raises:
        UnderstudyError: the lab did not start, a client did not connect, or the fault could not be applied.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory, prefix=".running-")))
        options = leg.lab.model_dump(exclude_none=True)
        lab = place or stack.enter_context(temporary.run(options_for(leg.layout, **options)))
        tag = secrets.token_hex(3)
        if place is not None:
            stack.callback(aftermath.remove, lab, f"drill:{tag}")
            stack.callback(lab.heal)
        return _Leg(leg, lab, tag, scratch, progress, seed, stack).run()


class _Leg:
    def __init__(
        self, leg: Leg, lab: Lab, tag: str, directory: Path, progress: Progress, seed: int, stack: ExitStack
    ) -> None:
        self.leg, self.lab, self.tag, self.progress, self.seed, self.stack = leg, lab, tag, progress, seed, stack
        self.directory = directory
        self.notes: list[str] = list(leg.explain)
        self.shards = Shards.of_lab(lab)
        # What a fault is prepared with stays to the end: taking a relay away breaks connections, and is no part of it.
        self.prepared = stack.enter_context(ExitStack())
        self.undo = stack.enter_context(ExitStack())
        self.relay: Relay | None = None

    def run(self) -> History:
        leg, presets = self.leg, self.leg.presets()
        if any(preset.stable for preset in presets):
            self.relay = self.stack.enter_context(Relay(self._addresses()))
        fault, scene = self._prepare()
        workloads = [work for number, preset in enumerate(presets) for work in self._workloads(number, preset)]
        self._try_by_hand("before the fault")
        with stage(self.progress, leg.name or leg.layout, None, "operations"):
            for work in workloads:
                work.await_ready()
            zero_ns = time.monotonic_ns() + _BEGINS_IN_NS
            zero = datetime.now(UTC) + timedelta(microseconds=_BEGINS_IN_NS / 1000)
            watch = Watch(self.lab, self.shards, zero_ns)
            with watch:
                for number, work in enumerate(workloads):
                    work.go(zero_ns, zero_ns + int(number * 1e9 / leg.workload.rate / len(workloads)))
                _sleep_until(zero_ns, leg.workload.before_s)
                self._break(fault, scene, watch, workloads)
                ended_us = (time.monotonic_ns() - zero_ns) // 1000
                for work in workloads:
                    work.stop()
                parts = [work.finish() for work in workloads]
                self._mend(watch)
        operations = [one for part in parts for one in history.read_operations(part)]
        said: dict[str, dict[str, str]] = {}
        for work in workloads:
            said.setdefault(work.plan.preset.name, {}).update(work.said)
        final, wrong = self._final(operations), self._look_around()
        header = {
            "zero": zero.isoformat(), "ended_us": ended_us, "shards": self.shards.count, "leg": leg.name,
            "layout": leg.layout, "fault": leg.fault.kind if leg.fault else "", "judged": sorted(leg.judged),
            "clients": {preset.name: str(preset) for preset in presets}, "rate": leg.workload.rate, "said": said,
            "servers": str(self.lab.binary), "seed": self.seed, "notes": self.notes,
            "wrong": wrong,
        }  # fmt: skip
        events = sorted(watch.events, key=lambda event: event.at_us)
        return History(header, operations, events, final)

    def _prepare(self) -> tuple[Fault | None, Scene]:
        plan = self.leg.fault
        if plan is None:
            return None, Scene(self.lab, (), self.prepared)
        fault = find_fault(plan.kind, self.leg.layout)
        nodes = chosen(self.lab, plan.nodes or (fault.nodes,), random.Random(self.seed))  # noqa: S311
        scene = Scene(self.lab, nodes, self.prepared, plan.params(self.leg.layout), self._nodes_changed)
        fault.prepare(scene)
        return fault, replace(scene, undo=self.undo)

    def _workloads(self, number: int, preset: Preset) -> list[Workload]:
        """Start the processes of one client: several where one could not keep its times.

        The idle and the fresh connection have their own: to make a cluster's client takes 30 ms of an interpreter,
        during which nothing else in it begins.
        """
        work = self.leg.workload
        processes = ceil(work.rate / RATE_OF_ONE_PROCESS)
        started = []
        for process in range(processes + 1):
            busy = process < processes
            plan = Plan(
                self._target(preset), preset, work.rate / processes, f"{self.tag}.{number}.{process}",
                self.shards.of_slot, self.directory / f"{number}-{process}.gz", self.seed + process,
                {"sets": work.sets, "appends": work.appends}, work.keys,
                (Part.BUSY,) if busy else (Part.IDLE, Part.FRESH),
            )  # fmt: skip
            one = Workload(plan, self.progress.advance)
            self.stack.callback(one.close)
            started.append(one)
        return started

    def _target(self, preset: Preset) -> Target:
        target = self.lab.target(Mode(preset.mode) if preset.mode else None)
        return target.at(self.relay.address) if preset.stable and self.relay else target

    def _break(self, fault: Fault | None, scene: Scene, watch: Watch, workloads: Sequence[Workload]) -> None:
        """Apply the fault, wake the idle clients, undo it where it is to be undone, and wait."""
        leg, plan = self.leg.workload, self.leg.fault
        if fault is None or plan is None:
            _sleep_until(time.monotonic_ns(), leg.after_s)
            return
        names = scene.names
        watch.note("fault", names, None, f"{fault.name} {names}")
        said = fault.apply(scene)
        watch.note("applied", names, None, said)
        self.progress.say(said)
        applied_ns = time.monotonic_ns()
        end_s = leg.after_s + (plan.hold_s or 0)
        steps = [(min(leg.idle_after_s, end_s / 2), "wake"), (end_s, "end")]
        if plan.hold_s is not None and fault.lasting:
            steps.append((plan.hold_s, "undo"))
        for at_s, step in sorted(steps):
            _sleep_until(applied_ns, at_s)
            if step == "wake":
                for work in workloads:
                    work.wake()
            elif step == "undo":
                self.undo.close()
                watch.note("undone", names, None, f"{fault.name} undone")
                self.progress.say(f"{fault.name} undone")
            else:
                return

    def _mend(self, watch: Watch) -> None:
        """Undo what is not undone yet, and wait until the lab is whole and its servers agree on who is who."""
        try:
            self.undo.close()
            self.prepared.close()
            self.lab.heal()
            aftermath.await_agreement(self.lab)
        except UnderstudyError as error:
            self.notes.append(f"the lab did not become whole again: {error}")
            watch.note("unmended", "", None, str(error))

    def _final(self, operations: Sequence[Operation]) -> Final | None:
        """Read everything; None where it cannot be read."""
        try:
            return aftermath.read_all(self.lab, operations)
        except UnderstudyError as error:
            self.notes.append(f"what is there could not be read: {error}")
            return None

    def _look_around(self) -> list[str]:
        """Tell how keys are spread, and try by hand what was tried before; return what did not work."""
        try:
            rows = sorted(aftermath.keys_per_shard(self.lab))
            if len(rows) > 1:
                told = (f"{address} serves {slots:,} slots and holds {keys:,} keys" for address, slots, keys in rows)
                self.notes.append(f"at the end {'; '.join(told)}")
            self._try_by_hand("after it")
        except UnderstudyError as error:
            return [f"by hand, after the fault: {error}"]
        return []

    def _try_by_hand(self, when: str) -> None:
        for wanted, attempt in ((self.leg.crud, try_crud), (self.leg.moved, follow_moved)):
            if wanted:
                try:
                    said = attempt(self.lab.target(), f"drill:{self.tag}:by-hand")
                except redis.RedisError as error:
                    raise UnreachableError(f"trying the lab by hand {when}", str(error)) from error
                self.notes.append(f"{when}: {said}")

    def _addresses(self) -> tuple[Address, ...]:
        return tuple(node.address for node in of_kind(self.lab.nodes, "valkey"))

    def _nodes_changed(self) -> None:
        if self.relay:
            self.relay.set_upstreams(self._addresses())


def _sleep_until(from_ns: int, after_s: float) -> None:
    while (left_s := from_ns / 1e9 + after_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.2))
