"""Two clients at work on the cluster beside the sale: one as its library comes, one with the settings we recommend."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from understudy.drill import aftermath, history
from understudy.drill.clients import find_preset
from understudy.drill.findings import Budget, DrillReport, LegReport
from understudy.drill.history import Final, History
from understudy.drill.measure import measure
from understudy.drill.operation import Operation, Part
from understudy.drill.scenario import Workload as Mix
from understudy.drill.shards import Shards
from understudy.drill.verdict import judge
from understudy.drill.workload import Plan, Workload
from understudy.errors import UnderstudyError
from understudy.lab import Lab
from understudy.lab.servers.valkey import find_binary
from understudy.sale.record import Sale

JUDGED = "recommended"
"""The client that the verdict is about."""
CLIENTS = (JUDGED, "defaults")
RATE = 60.0
BUDGET = Budget(max_downtime_s=20, max_lost=20, max_drift_ms=2000)
"""Replication is asynchronous: a few lost writes are what a crash may cost. The machine may be busy with other work."""
COMMAND = f"understudy drill cluster --rate {RATE:g} --max-downtime 20s --max-lost 20 --max-drift 2s"
"""The same on a cluster of its own, without a sale."""
PREFIX = b"drill:"
_BEGINS_IN_S = 0.3
_AWAKE_S = 2.0


class Bystanders:
    """A context manager: inside, the clients work; `finish` ends them. After it none is left, nor a key of theirs."""

    def __init__(self, cluster: Lab, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory
        self._tag = secrets.token_hex(3)
        self._shards = Shards.of_lab(cluster)
        self._presets = [find_preset(name, {}) for name in CLIENTS]
        self._works: list[Workload] = []
        self._stack = ExitStack()

    def __enter__(self) -> Bystanders:
        with ExitStack() as stack:
            for number, preset in enumerate(self._presets):
                # what works all the time has a process of its own: nothing else may make it late
                for name, parts in (("busy", (Part.BUSY,)), ("quiet", (Part.IDLE, Part.FRESH))):
                    plan = Plan(
                        self._cluster.target(), preset, RATE, f"{self._tag}.{number}.{name}", self._shards.of_slot,
                        self._directory / f"{number}-{name}.gz", number,
                        {"sets": Mix().sets, "appends": Mix().appends}, parts=parts,
                    )  # fmt: skip
                    self._works.append(Workload(plan, lambda _: None))
                    stack.callback(self._works[-1].close)
            for work in self._works:
                work.await_ready()
            zero_ns = time.monotonic_ns() + int(_BEGINS_IN_S * 1e9)
            self._zero_s = time.time() + _BEGINS_IN_S
            for number, work in enumerate(self._works):
                work.go(zero_ns, zero_ns + int(number * 1e9 / RATE / len(self._works)))
            self._zero_ns = zero_ns
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is None:
            aftermath.remove(self._cluster, f"{PREFIX.decode()}{self._tag}")

    def finish(self, sale: Sale) -> DrillReport:
        """Wake what slept all the time, end all, read what they wrote, and judge them by what the sale saw happen."""
        for work in self._works:
            work.wake()
        time.sleep(_AWAKE_S)
        ended_us = (time.monotonic_ns() - self._zero_ns) // 1000
        for work in self._works:
            work.stop()
        operations = [one for work in self._works for one in history.read_operations(work.finish())]
        said: dict[str, dict[str, str]] = {}
        for work in self._works:
            said.setdefault(work.plan.preset.name, {}).update(work.said)
        later_us = round(sale.header["zero_ms"] * 1000 - self._zero_s * 1e6)
        header = {
            "zero": datetime.fromtimestamp(self._zero_s, UTC).isoformat(), "ended_us": ended_us,
            "shards": self._shards.count, "clients": {one.name: str(one) for one in self._presets}, "said": said,
        }  # fmt: skip
        events = [replace(one, at_us=one.at_us + later_us) for one in sale.events]
        return report(History(header, operations, events, self._read(operations)))

    def _read(self, operations: list[Operation]) -> Final | None:
        try:
            return aftermath.read_all(self._cluster, operations)
        except UnderstudyError:
            return None  # the verdict says so


def report(found: History) -> DrillReport:
    """Return what a history of the clients shows, judged."""
    leg = measure(found, name="beside the sale", layout="cluster", fault="kill")
    verdict = judge(leg, BUDGET, (JUDGED,))
    return DrillReport(
        scenario="beside the sale", about="Two clients on the cluster of the sale, when its primary is killed.",
        when=str(found.header["zero"]), servers=str(find_binary()), command=COMMAND, budget=BUDGET,
        judged=(JUDGED,), verdict=verdict, legs=(LegReport((leg,), verdict, ()),),
    )  # fmt: skip
