"""The first and the third night: a sale in the waiting room, and the primary that has it is killed in the middle."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from understudy.demo.alone import alone
from understudy.demo.bystanders import Bystanders
from understudy.demo.census import Census, take_census
from understudy.demo.sold import Sold, in_brief, judged_in_brief
from understudy.demo.steps import Steps
from understudy.demo.verdict import LONGEST_S, Digests, judge_return
from understudy.lab import Lab
from understudy.progress import Progress
from understudy.sale.findings import Allowed, SaleReport
from understudy.sale.measure import measure
from understudy.sale.plan import SalePlan, plan_for
from understudy.sale.record import Remains, Sale
from understudy.sale.run import run
from understudy.sale.verdict import judge
from understudy.valkey.router import Router

ALLOWED = Allowed(max_lost=0)
BUYERS_A_SEAT = 3
TIMES_S: dict[str, Any] = {
    "before_s": 5.0, "hold_fault_s": 3.0, "settle_s": 1.0, "hold_ttl_s": 4.0, "finish_within_s": 120.0,
}  # fmt: skip


def plan(buyers: int) -> SalePlan:
    """Return the sale: a seat for every third buyer, and answers only when the replica has what they say."""
    seats = max(2, buyers // BUYERS_A_SEAT)
    return plan_for("cluster", ("kill",), buyers=buyers, seats=seats, **TIMES_S)


def command(buyers: int) -> str:
    """Return what does the same on a cluster of its own."""
    asked = plan(buyers)
    return (
        f"understudy drill sale --layout cluster --fault kill --buyers {asked.buyers} --seats {asked.seats} "
        f"--hold {asked.hold_fault_s:g}s --max-lost 0 --max-downtime {LONGEST_S:g}s"
    )


def sell_and_kill(
    step: Steps, cluster: Lab, buyers: int, filled: Census, progress: Progress
) -> tuple[Sold, Remains | None, Census]:
    """Sell, kill the primary of the sale, and look at every key that was there before it.

    Returns what was found, the event as the servers hold it now, and every key as it is now.

    Raises:
        UnderstudyError: of the kind that fits, where it could not be done at all.
    """
    with step("sell", "Sell, and kill") as says, alone(cluster.directory):
        with Bystanders(cluster, cluster.directory) as beside:
            sale = run(plan(buyers), progress, place=cluster)
            clients = beside.finish(sale)
        report = judged(sale, command(buyers))
        found = report.runs[0][0]
        says.figure = in_brief(found)
        says.good = judge_return(next(iter(found.outages), None), clients.verdict).word == "passed"

    with step("judge", "Judge the sale") as says:
        says.figure = judged_in_brief(found)
        says.good = report.verdict.word == "passed"

    with step("recount", "Look again") as says, Router(cluster.target()) as router:
        now = take_census(router, progress, len(filled.digests))
        # what was under way when the clients ended can have had its effect after they had tidied up
        there = {key: seen for key, seen in now.digests.items() if key in filled.digests}
        survived = Digests.compare(filled.digests, there, filled.expired(now))
        same = not Counter(filled.functions) - Counter(now.functions)
        says.figure = f"{survived.equal:,} of {len(filled.digests):,} keys from before the sale are equal"
        says.good = survived.all_equal and same
        says.amount, says.unit = survived.compared, "keys"
    return Sold(str(sale.header["event"]), report, clients, survived, same), sale.remains, now


def judged(sale: Sale, typed: str) -> SaleReport:
    """Return the report of a sale."""
    found = measure(sale)
    verdict = judge(found, ALLOWED)
    return SaleReport(
        about=f"A sale of {found.tally.seats:,} seats to {found.tally.buyers:,} buyers, whose primary is killed.",
        when=datetime.now(UTC).isoformat(timespec="seconds"), servers=str(sale.header["servers"]), command=typed,
        allowed=ALLOWED, verdict=verdict, runs=((found, verdict),),
    )  # fmt: skip
