"""The second night: a primary of the restored cluster is killed under load, and every key is looked at again."""

from __future__ import annotations

from understudy.demo.census import Census, take_census
from understudy.demo.failover import JUDGED, Failover, in_brief
from understudy.demo.steps import Steps
from understudy.demo.verdict import Digests
from understudy.drill.conduct import conduct
from understudy.drill.findings import Budget
from understudy.drill.scenario import FaultPlan, Leg, Scenario, Workload
from understudy.lab import Lab
from understudy.progress import Progress
from understudy.valkey.router import Router

LEG = Leg(
    name="A primary is killed", layout="cluster", clients=(JUDGED, "defaults"), judge=(JUDGED,),
    workload=Workload(rate=80, before_s=1.5, after_s=6, idle_after_s=4.5), fault=FaultPlan(kind="kill"),
)  # fmt: skip
BUDGET = Budget(max_downtime_s=10, max_lost=20, max_drift_ms=2000)
"""Replication is asynchronous: a few lost writes are what a crash may cost. The machine may be busy with other work."""
SCENARIO = Scenario(
    name="failover", about="A primary of the restored cluster is killed under load.", legs=(LEG,), budget=BUDGET
)
OF_THE_DRILL = b"drill:"
COMMAND = "understudy drill cluster --rate 80 --after 6s --max-downtime 10s --max-lost 20 --max-drift 2s"
"""The same on a cluster of its own."""


def kill_a_primary(step: Steps, cluster: Lab, restored: Census, progress: Progress) -> Failover:
    """Kill a primary under load, wait until the cluster is whole, and look at every key again.

    Raises:
        UnderstudyError: of the kind that fits, where it could not be done at all.
    """
    with step("break", "Kill a primary") as says:
        # the histories are the lab's, and go with it, whatever happens
        report = conduct(SCENARIO, cluster.directory / "drill", progress, place=cluster, command=COMMAND)
        says.figure = in_brief(report.legs[0].worst)
        says.good = report.verdict.word == "passed"

    with step("recount", "Look again") as says, Router(cluster.target()) as router:
        now = take_census(router, progress, len(restored.digests))
        # what was under way when the load ended can have had its effect after the drill had tidied up
        survived = Digests.compare(
            restored.digests, {key: seen for key, seen in now.digests.items() if not key.startswith(OF_THE_DRILL)}
        )
        functions_same = restored.functions == now.functions
        says.figure = f"{survived.equal:,} of {len(restored.digests):,} equal after the failover"
        says.good = survived.all_equal and functions_same
        says.amount, says.unit = survived.compared, "keys"
    return Failover(report, survived, functions_same)
