"""Many drills in one lab: what must hold in each of them, whatever the fault did."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy import lab
from understudy.drill.findings import LegFindings
from understudy.drill.measure import measure
from understudy.drill.run import run
from understudy.drill.scenario import FaultPlan, Leg, Workload
from understudy.lab import Lab
from understudy.progress import Silent

FAULTS = {
    "cluster": ("kill", "failover", "pause", "restart", "slow", "migrate", "kill-clients", "full-memory", "partition"),
    "sentinel": ("kill", "pause", "slow", "kill-clients", "full-memory"),
}
HELD = {"pause": 4.0, "slow": 2.0, "full-memory": 2.0, "partition": 4.0}
KEEPS_ALL = {"slow", "migrate", "kill-clients", "full-memory"}  # no server is given up, so nothing may be lost


def drilled(place: Lab, layout: str, kind: str, directory: Path, seed: int) -> LegFindings:
    leg = Leg(
        layout=layout,  # type: ignore[arg-type]
        clients=("recommended", "one-try"),
        workload=Workload(rate=80, before_s=1, after_s=9 if kind == "kill" else 3, idle_after_s=2),
        fault=FaultPlan(kind=kind, hold_s=HELD.get(kind)),
    )
    history = run(leg, directory, Silent(), seed, place)
    return measure(history, name=kind, layout=layout, fault=kind)


def holds(found: LegFindings, kind: str, place: Lab) -> None:
    assert found.applied
    for client in found.clients:
        told = f"{kind}, {client.name}: {client.consistency}, {client.errors}"
        assert client.consistency.checked, told
        assert client.consistency.unknown_values == 0, told
        assert client.consistency.refused_survived == 0, "a refused write had its effect: the outcome was misread"
        if client.name == "one-try":
            assert client.consistency.doubled == 0, told
        if kind in KEEPS_ALL:
            assert client.consistency.lost == 0, told
    assert found.clients[0].fresh
    assert found.clients[0].fresh.recovered, found.clients[0]
    assert all(node.state == "running" for node in place.nodes)


@pytest.mark.parametrize("kind", ["kill", "migrate"])
def test_a_drill_in_a_lab_leaves_it_whole(valkey_cluster: Lab, tmp_path: Path, kind: str) -> None:
    holds(drilled(valkey_cluster, "cluster", kind, tmp_path, 1), kind, valkey_cluster)
    assert sum(valkey_cluster.call(node, "DBSIZE") for node in valkey_cluster.nodes) == 0


@pytest.mark.soak
@pytest.mark.parametrize("layout", FAULTS)
def test_many_drills_in_one_lab(layout: str, tmp_path: Path) -> None:
    with getattr(lab, layout)() as place:
        for number in range({"cluster": 18, "sentinel": 10}[layout]):
            kind = FAULTS[layout][number % len(FAULTS[layout])]
            holds(drilled(place, layout, kind, tmp_path, number), kind, place)
