"""What is known of failovers comes out of the tool: each claim as a drill against real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from understudy.drill import scenario
from understudy.drill.findings import ClientFindings, LegFindings
from understudy.drill.history import History
from understudy.drill.measure import measure
from understudy.drill.operation import Outcome, Part
from understudy.drill.run import run
from understudy.drill.scenario import Leg
from understudy.progress import Silent


def ran(leg: Leg, directory: Path) -> History:
    return run(leg, directory, Silent(), seed=1)


def found(leg: Leg, directory: Path) -> LegFindings:
    return measure(ran(leg, directory), name=leg.name, layout=leg.layout, fault=leg.fault.kind if leg.fault else "")


def legs(name: str, **changed: Any) -> dict[str, Leg]:
    return {leg.name: leg for leg in scenario.load(name, changed).legs}


def by_name(leg: LegFindings) -> dict[str, ClientFindings]:
    return {client.name: client for client in leg.clients}


def test_after_every_node_was_replaced_an_idle_default_client_is_stuck_and_the_recommended_one_works_at_once(
    tmp_path: Path,
) -> None:
    (leg,) = legs("maintenance", workload={"after_s": 6.0, "before_s": 2.0}).values()
    history = ran(leg, tmp_path)
    clients = by_name(measure(history, name="", layout=leg.layout, fault="replace"))
    default = clients["oss-cluster, defaults"]
    assert default.idle
    assert default.idle.tried > 20
    assert default.idle.succeeded == 0
    assert default.fresh
    assert default.fresh.recovered, "the servers are well: a restart would have helped"
    assert default.stuck

    recommended = "oss-cluster, recommended"
    woken = [
        one for one in history.operations
        if one.client == recommended and one.part is Part.IDLE and one.due_us > (history.fault_us or 0)
    ]  # fmt: skip
    first = min(one.ended_us for one in woken if one.outcome is Outcome.OK)
    assert first - min(one.due_us for one in woken) < 1_000_000, "it worked within a second"
    assert not clients[recommended].stuck

    endpoint = clients["enterprise, defaults"]
    assert endpoint.recovered
    assert not endpoint.stuck
    for client in clients.values():
        assert client.consistency.checked
        assert client.consistency.lost == 0


@pytest.mark.parametrize("how", ["plain", "coordinated"])
def test_a_plain_sentinel_failover_loses_acknowledged_writes_and_a_coordinated_one_none(
    tmp_path: Path, how: str
) -> None:
    leg = legs("sentinel-failover", workload={"after_s": 4.0, "before_s": 2.0, "rate": 100.0})[how]
    (client,) = found(leg, tmp_path).clients
    assert client.consistency.checked
    if how == "plain":
        assert client.consistency.lost > 50, "the old primary went on acknowledging"
        assert client.failed == 0, "and nobody was told"
    else:
        assert client.consistency.lost == 0
        assert client.recovered


def test_a_killed_primary_of_a_cluster_with_a_node_timeout_of_2000_ms_is_replaced_within_4_s(tmp_path: Path) -> None:
    (leg,) = legs("cluster", workload={"after_s": 6.0, "before_s": 2.0}).values()
    assert leg.lab.node_timeout_ms in (None, 2000)
    leg_found = found(leg, tmp_path)
    assert leg_found.server_s is not None
    assert 1.0 < leg_found.server_s < 4.0
    for client in leg_found.clients:
        assert client.recovered
        (hit,) = [outage for outage in client.outages if outage.promoted_s is not None]
        assert hit.gap_s >= leg_found.server_s - 0.3, "no success on that shard while nobody served it"
