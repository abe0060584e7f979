"""What the probe concludes from what it saw: changes, risk, verdicts. Pure."""

from __future__ import annotations

import dataclasses

import pytest

from understudy.drill.operation import Kind, Operation, Outcome, Part
from understudy.probe.arrangement import changes
from understudy.probe.clock import next_due
from understudy.probe.connection import ClientKind
from understudy.probe.judgement import Judgement, judgement
from understudy.probe.plan import Plan
from understudy.probe.risk import risk_of
from understudy.probe.tries import CLIENT
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import SLOTS, Node, Role, Shard, Topology

HALF = SLOTS // 2
FIRST, SECOND = frozenset(range(HALF)), frozenset(range(HALF, SLOTS))


def node(port: int, role: Role = "primary", *, healthy: bool = True) -> Node:
    return Node(Address("10.0.0.1", port), role, healthy=healthy)


def cluster(*shards: Shard) -> Topology:
    return Topology(Mode.OSS_CLUSTER, shards)


WHOLE = cluster(Shard(node(1), (node(3, "replica"),), FIRST), Shard(node(2), (node(4, "replica"),), SECOND))


def kinds(after: Topology, before: Topology = WHOLE) -> list[str]:
    return [change.kind for change in changes(before, after)]


def test_what_stays_is_no_change() -> None:
    assert kinds(WHOLE) == []


def test_a_failure_and_then_a_promotion_are_told_step_by_step() -> None:
    failed = cluster(Shard(node(1, healthy=False), (node(3, "replica"),), FIRST), WHOLE.shards[1])
    assert kinds(failed) == ["failed", "uncovered"]
    taken_over = cluster(Shard(node(3), (), FIRST), WHOLE.shards[1])
    assert kinds(taken_over, failed) == ["left", "promoted", "slots", "covered"]
    back = cluster(Shard(node(3), (node(1, "replica"),), FIRST), WHOLE.shards[1])
    assert kinds(back, taken_over) == ["joined"]
    assert set(kinds(back)) == {"demoted", "promoted", "slots"}


def test_slots_that_move_are_counted_by_where_from_and_where_to() -> None:
    moved = cluster(
        Shard(node(1), WHOLE.shards[0].replicas, FIRST - {0, 1}),
        Shard(node(2), WHOLE.shards[1].replicas, SECOND | {0, 1}),
    )
    [change] = changes(WHOLE, moved)
    assert change.text == "2 slots went from 10.0.0.1:1 to 10.0.0.1:2"


@pytest.mark.parametrize(
    ("mode", "kind", "seeds", "risk"),
    [
        (Mode.STANDALONE, ClientKind.RECOMMENDED, 1, "high"),
        (Mode.SENTINEL, ClientKind.RECOMMENDED, 3, "low"),
        (Mode.SENTINEL, ClientKind.RECOMMENDED, 1, "medium"),
        (Mode.ENTERPRISE, ClientKind.DEFAULTS, 1, "low"),
        (Mode.OSS_CLUSTER, ClientKind.DEFAULTS, 6, "high"),
        (Mode.OSS_CLUSTER, ClientKind.RECOMMENDED, 6, "medium"),
        (Mode.AUTO, ClientKind.RECOMMENDED, 1, "unknown"),
    ],
)
def test_each_mode_has_its_risk_with_reasons(mode: Mode, kind: ClientKind, seeds: int, risk: str) -> None:
    target = Target(tuple(Address("10.0.0.1", 7000 + number) for number in range(seeds)), mode)
    found = risk_of(target, kind)
    assert found.risk == risk
    assert found.why and found.what_to_do


def operations(part: Part, outcomes: str) -> list[Operation]:
    """One write a second; `.` is ok, `x` is not."""
    return [
        Operation(
            CLIENT, part, Kind.SET, f"{part}", f"{part}-{second}", 0, second * 1_000_000, second * 1_000_000,
            second * 1_000_000 + 5_000, Outcome.OK if how == "." else Outcome.INDETERMINATE,
            "" if how == "." else "ConnectionError",
        )
        for second, how in enumerate(outcomes)
    ]  # fmt: skip


def judged(long_lived: str, fresh: str, *, lost: bool = False, late_us: int = 0, **allowed: float) -> Judgement:
    both = operations(Part.BUSY, long_lived) + operations(Part.FRESH, fresh)
    both = [dataclasses.replace(one, due_us=one.due_us - late_us) for one in both]
    last = {one.key: one.value for one in both if one.outcome is Outcome.OK}
    final = {key: "busy-0" if lost and key == "busy" else value for key, value in last.items()}
    return judgement(
        both, {"busy": None, "fresh": None, **final}, zero="2026-11-21T00:00:00Z", ended_us=len(fresh) * 1_000_000,
        shards=1, what="test", mode="oss-cluster", **allowed,
    )  # fmt: skip


WELL = "." * 25


def test_a_client_that_fails_to_the_end_while_fresh_ones_work_is_stuck() -> None:
    found = judged(WELL + "xxxxxx", WELL + "xx....")
    assert (found.word, found.stuck) == ("failed", True)
    assert found.sentence.startswith("The client is stuck, a fresh one works")
    assert not found.long_lived.works and found.fresh.works


def test_a_client_that_comes_back_passes_with_its_outage() -> None:
    found = judged(WELL + "xxx...", WELL + "xx....")
    assert (found.word, found.stuck, found.lost) == ("passed", False, 0)
    assert found.outage_s == pytest.approx(4, abs=0.1)
    assert found.resolution_s == pytest.approx(1, abs=0.01)
    assert found.errors == {"ConnectionError": 5}


def test_tries_of_ours_that_began_late_leave_it_open_unless_that_is_allowed() -> None:
    late = judged(WELL + "xxx...", WELL + "xx....", late_us=900_000)
    assert late.word == "unknown"
    assert "900 ms late (p99), with 250 ms allowed" in " ".join(late.reasons)
    assert judged(WELL + "xxx...", WELL + "xx....", late_us=900_000, max_drift_s=1).word == "passed"


def test_servers_that_stay_away_are_not_the_clients_fault() -> None:
    found = judged(WELL + "xxx", WELL + "xxx")
    assert (found.word, found.stuck) == ("failed", False)
    assert "servers are not back" in found.sentence


def test_where_nothing_failed_nothing_is_proven() -> None:
    found = judged(WELL, WELL)
    assert (found.word, found.outage_s) == ("unknown", None)


@pytest.mark.parametrize(("before", "said"), [("", "Nothing worked"), ("...", "Only 3 operations worked")])
def test_what_hardly_worked_before_is_no_failure_to_come_back(before: str, said: str) -> None:
    found = judged(before + "xxxx", before + "xxxx")
    assert (found.word, found.stuck) == ("unknown", False)
    assert found.sentence.startswith(said)


def test_a_client_that_never_worked_is_stuck_where_a_fresh_one_works() -> None:
    found = judged("xxxx", "....")
    assert (found.word, found.stuck) == ("failed", True)


def test_acknowledged_writes_that_are_gone_are_counted() -> None:
    found = judged(WELL + "xx....", WELL + "xx....", lost=True)
    assert found.lost
    assert "acknowledged write" in found.sentence


def test_a_plan_has_a_key_on_every_shard() -> None:
    plan = Plan.of(WHOLE, Mode.OSS_CLUSTER, 30)
    slots = [key_slot(plan.key(lane, Part.BUSY).encode()) for lane in plan.lanes]
    assert slots[0] in FIRST and slots[1] in SECOND
    assert len(set(plan.keys)) == 4
    assert len(Plan.of(None, Mode.ENTERPRISE, 30).lanes) == 3
    assert len(Plan.of(None, Mode.SENTINEL, 30).lanes) == 1


def test_what_took_longer_than_an_interval_is_not_made_up_for() -> None:
    assert next_due(100.0, 2.0, 100.1) == 102.0
    assert next_due(100.0, 2.0, 102.0) == 104.0
    assert next_due(100.0, 2.0, 109.0) == 110.0
