"""One sale, from an empty lab to the record of everything that happened."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

from understudy.drill.aftermath import await_agreement
from understudy.drill.shards import Shards
from understudy.drill.watch import Watch
from understudy.errors import UnderstudyError
from understudy.http.many import raise_file_limit
from understudy.lab import temporary
from understudy.lab.layouts import options_for
from understudy.lab.live import Lab
from understudy.lab.servers.valkey import find_binary
from understudy.progress import Progress, stage
from understudy.sale.buyer import Buyer
from understudy.sale.desk import Desk
from understudy.sale.gate import Gate
from understudy.sale.gateways import Gateways
from understudy.sale.operator import Operator
from understudy.sale.plan import SalePlan
from understudy.sale.record import Remains, Sale
from understudy.sale.remains import read_remains
from understudy.sale.trouble import Trouble

EVENT = "sale"
_RUSH_SHARE, _RUSH_S = 0.4, 3.0
_FREE_AFTER_S = 10.0  # after the last hold could have ended, none may be left
_LOOK_EVERY_S = 1.0


def run(plan: SalePlan, progress: Progress, place: Lab | None = None) -> Sale:
    """Run a sale, in a lab of its own unless `place` is given; whatever happens, nothing of it is left.

    Raises:
        UnderstudyError: the lab or a gateway did not start, or the event could not be made.
    """
    raise_file_limit()
    with ExitStack() as stack:
        lab = place or stack.enter_context(temporary.run(options_for(plan.layout)))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-sale-")))
        secret = secrets.token_urlsafe(24)
        key = str(directory / "key.pem")
        words = ["--signing-key", key, "--replicas", str(plan.replicas), "--rate-per-address", "0"]
        environment = lab.env() | {"WAITINGROOM_SECRET": secret}
        gateways = stack.enter_context(Gateways(plan.gateways, environment, words, directory))
        event = f"{EVENT}-{secrets.token_hex(3)}"
        return _Run(plan, lab, gateways, event, secret, progress).run()


class _Run:
    def __init__(
        self, plan: SalePlan, lab: Lab, gateways: Gateways, event: str, secret: str, progress: Progress
    ) -> None:
        self.plan, self.lab, self.gateways, self.event = plan, lab, gateways, event
        self.secret, self.progress = secret, progress
        self.notes: list[str] = []
        self.unfinished = 0
        self.lag_s = 0.0

    def run(self) -> Sale:
        plan = self.plan
        zero_ns, zero_ms = time.monotonic_ns(), time.time() * 1000
        watch = Watch(self.lab, Shards.of_lab(self.lab), zero_ns)
        trouble = Trouble(self.lab, plan, self.gateways, watch, self.event, self.progress)
        with watch, stage(self.progress, f"sale on {self.lab.layout}", None, "requests"):
            desk, operator = asyncio.run(self._sell(zero_ns / 1e9, trouble))
        ended_s = desk.now_s()
        self.gateways.__exit__()
        remains = self._remains()
        self.notes += trouble.failures
        header = {
            "event": self.event, "zero_ms": zero_ms, "ended_s": ended_s,
            "seats": [f"S{1 + one}" for one in range(plan.seats)],
            "settings": plan.settings, "rates": operator.rates, "replicas": plan.replicas, "layout": plan.layout,
            "faults": list(plan.faults), "loses": plan.loses, "buyers": plan.buyers, "unfinished": self.unfinished,
            "troubles": trouble.failures, "lag_s": self.lag_s, "seed": plan.seed,
            "servers": str(find_binary(self.lab.options.server)), "notes": self.notes,
        }  # fmt: skip
        return Sale(header, desk.requests, sorted(watch.events, key=lambda one: one.at_us), remains)

    async def _sell(self, zero_s: float, trouble: Trouble) -> tuple[Desk, Operator]:
        plan = self.plan
        gates = [Gate(address) for address in self.gateways.addresses]
        desk = Desk(gates, self.event, zero_s)
        operator = Operator(desk, plan, self.secret)
        await operator.begin()
        thread = threading.Thread(target=trouble.run, daemon=True)
        async with asyncio.TaskGroup() as group:
            looking = [group.create_task(operator.watch()), group.create_task(self._tell(desk, operator))]
            try:
                thread.start()
                crowd = [group.create_task(self._arrive(one, desk)) for one in range(plan.buyers)]
                await asyncio.to_thread(thread.join)
                await operator.let_in(plan.rush_rate_per_s)
                _, late = await asyncio.wait(crowd, timeout=plan.finish_within_s)
                self.unfinished = len(late)
                desk.over = True
                if late:
                    await asyncio.wait(late, timeout=20)
                for one in late:
                    one.cancel()
                await self._all_free(operator)
            finally:
                desk.over = True
                trouble.over.set()
                for task in looking:
                    task.cancel()
                await asyncio.to_thread(thread.join)
        for gate in gates:
            gate.close()
        return desk, operator

    async def _arrive(self, number: int, desk: Desk) -> None:
        """Come when one comes: many at the start, the others as long as things go wrong."""
        randomness = Random(f"{self.plan.seed}:arrival:{number}")  # noqa: S311 - to be drawn again
        rush = randomness.random() < _RUSH_SHARE
        await asyncio.sleep(randomness.uniform(0, _RUSH_S if rush else self.plan.about_s * 0.8))
        await Buyer(number, desk, self.plan).live()

    async def _all_free(self, operator: Operator) -> None:
        """Wait until every hold is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.plan.hold_ttl_s + _FREE_AFTER_S):
                while operator.counts.get("held", 1):
                    await asyncio.sleep(_LOOK_EVERY_S / 4)
        await asyncio.sleep(_LOOK_EVERY_S)  # so that it is seen once more

    async def _tell(self, desk: Desk, operator: Operator) -> None:
        before, next_s = 0, asyncio.get_running_loop().time()
        for number in _forever():
            next_s += _LOOK_EVERY_S
            await asyncio.sleep(max(0.0, next_s - asyncio.get_running_loop().time()))
            self.lag_s = max(self.lag_s, asyncio.get_running_loop().time() - next_s)
            next_s = max(next_s, asyncio.get_running_loop().time() - _LOOK_EVERY_S)
            self.progress.advance(len(desk.requests) - before)
            before = len(desk.requests)
            if number % 5 == 0:
                counts = operator.counts
                self.progress.say(
                    f"{desk.now_s():5.1f} s: {desk.done['join']:,} joined, {counts.get('waiting', 0):,} wait, "
                    f"{counts.get('inside', 0):,} inside, {counts.get('held', 0):,} held, "
                    f"{counts.get('sold', 0):,} sold"
                )

    def _remains(self) -> Remains | None:
        try:
            self.lab.heal()
            await_agreement(self.lab)
            return read_remains(self.lab, self.event)
        except UnderstudyError as error:
            self.notes.append(f"what is there could not be read: {error}")
            return None


def _forever() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number
