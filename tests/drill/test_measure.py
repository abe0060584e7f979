"""Outages, recovery, latency and errors: exact numbers from histories made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from histories import CLIENT, FAILED, INDETERMINATE, OK, history, operation
from understudy.drill.findings import ClientFindings, ErrorCount, Latency, LegFindings
from understudy.drill.history import Event, History
from understudy.drill.latency import latency, percentile
from understudy.drill.measure import measure, measure_client
from understudy.drill.operation import Kind, Operation, Outcome, Part

MS = 1000
FAULT = Event(10_000 * MS, "fault", "node-1", 0, "kill -9")
APPLIED = Event(10_010 * MS, "applied", "node-1", 0, "")


def at(due_ms: float, outcome: Outcome = OK, took_ms: float = 2, **more: object) -> Operation:
    due_us = int(due_ms * MS)
    error = "" if outcome is OK else "TimeoutError"
    given = {"error": error, "due_us": due_us, **more}
    begun_us = due_us + int(given.pop("late_ms", 0) * MS)
    return operation(Kind.GET, "k", None, begun_us, due_us + int(took_ms * MS), outcome, **given)


def every(step_ms: int, from_ms: int, to_ms: int, outcome: Outcome = OK, **more: object) -> list[Operation]:
    return [at(due_ms, outcome, **more) for due_ms in range(from_ms, to_ms, step_ms)]


def failover(shard: int = 0) -> list[Operation]:
    """100 operations a second; nothing succeeds from 10 s to 12.5 s, and two more fail at 13 s."""
    return [
        *every(10, 0, 10_000, shard=shard),
        *every(10, 10_000, 12_500, FAILED, shard=shard),
        *every(10, 12_500, 13_000, shard=shard),
        *every(10, 13_000, 13_020, INDETERMINATE, shard=shard),
        *every(10, 13_020, 20_000, shard=shard),
    ]


def of(operations: list[Operation], *events: Event, ended_ms: int = 20_000) -> ClientFindings:
    return measure_client(history(operations, {}, events, ended_ms * MS), CLIENT, operations)


def leg(judged: History, fault: str = "kill") -> LegFindings:
    return measure(judged, name="cluster", layout="cluster", fault=fault)


# Outages


def test_an_outage_is_the_time_between_two_successes() -> None:
    (outage,) = of(failover(), FAULT, APPLIED).outages
    assert outage.gap_s == pytest.approx(2.51)  # from 9.992 s to 12.502 s
    assert outage.began_s == pytest.approx(-0.008)
    assert outage.ended_s == pytest.approx(2.502)
    assert outage.sustained_s == pytest.approx(3.022)
    assert outage.failed == 252
    assert (outage.promoted_s, outage.client_s) == (None, None)


def test_what_the_client_needed_is_counted_from_the_promotion() -> None:
    events = [
        Event(9_000 * MS, "promoted", "node-2", 0, "before the fault"),
        Event(12_000 * MS, "promoted", "node-4", 0, ""),
        Event(12_100 * MS, "promoted", "node-5", 1, "another shard"),
        Event(12_400 * MS, "promoted", "node-1", 0, "again"),
    ]
    (outage,) = of(failover(), FAULT, *events).outages
    assert outage.promoted_s == pytest.approx(2.0)
    assert outage.client_s == pytest.approx(0.502)


def test_under_sentinels_the_client_is_not_blamed_for_the_time_until_they_name_the_new_primary() -> None:
    events = [
        Event(9_000 * MS, "switched", "node-2", 0, "before the fault"),
        Event(12_000 * MS, "promoted", "node-3", 0, ""),
        Event(12_300 * MS, "switched", "node-3", 0, "the sentinels name node-3"),
    ]
    judged = history(failover(), {}, [FAULT, APPLIED, *events], 20_000 * MS)
    found = leg(judged)
    (outage,) = found.clients[0].outages
    assert (outage.promoted_s, outage.usable_s) == (2.0, 2.3)
    assert outage.client_s == pytest.approx(0.202)
    assert found.server_s == pytest.approx(2.3)
    assert (2.3, "switched") in [(mark.at_s, mark.kind) for mark in found.marks]


def test_sentinels_that_name_a_server_before_it_is_primary_make_nobody_faster() -> None:
    events = [Event(11_900 * MS, "switched", "node-3", 0, ""), Event(12_000 * MS, "promoted", "node-3", 0, "")]
    (outage,) = of(failover(), FAULT, APPLIED, *events).outages
    assert (outage.promoted_s, outage.usable_s) == (2.0, 2.0)
    assert outage.client_s == pytest.approx(0.502)


def test_a_promotion_outside_the_outage_tells_nothing_about_the_client() -> None:
    (outage,) = of(failover(), FAULT, Event(15_000 * MS, "promoted", "node-4", 0, "")).outages
    assert outage.promoted_s == pytest.approx(5.0)
    assert outage.client_s is None


def test_an_outage_that_never_ended_lasts_to_the_end_and_what_was_pending_then() -> None:
    operations = [*every(10, 0, 10_000), *every(10, 10_000, 20_000, FAILED), at(19_995, INDETERMINATE, took_ms=5_000)]
    found = of(operations, FAULT)
    (outage,) = found.outages
    assert outage.gap_s == pytest.approx(24.995 - 9.992)
    assert (outage.ended_s, outage.sustained_s) == (None, None)
    assert (found.recovered, found.busy.back_s) == (False, None)


def test_a_client_that_never_succeeded_was_down_from_its_first_operation() -> None:
    (outage,) = of(every(10, 1_000, 20_000, FAILED), FAULT).outages
    assert (outage.began_s, outage.ended_s, outage.gap_s) == (-9.0, None, 19.0)


def test_a_gap_before_the_fault_is_not_its_outage() -> None:
    operations = [*every(10, 0, 1_000), *every(10, 9_000, 20_000)]
    assert of(operations, FAULT).downtime_s == pytest.approx(0.010)


def test_silence_at_the_end_is_no_outage_where_nothing_was_tried() -> None:
    operations = every(10, 0, 15_000)
    assert of(operations, FAULT).downtime_s == pytest.approx(0.010)
    (outage,) = of([*operations, *every(10, 15_000, 15_100, FAILED)], FAULT).outages
    assert outage.gap_s == pytest.approx(20.0 - 14.992)
    assert outage.ended_s is None


def test_an_answer_that_came_late_ends_the_outage_when_it_came() -> None:
    stopped = [*every(10, 0, 10_000), at(10_000, took_ms=4_000), *every(10, 14_010, 20_000)]
    (outage,) = of(stopped, FAULT).outages
    assert outage.gap_s == pytest.approx(4.008)
    assert outage.ended_s == outage.sustained_s == pytest.approx(4.0)


def test_a_gap_by_chance_is_nothing_to_get_over() -> None:
    operations = [one for one in every(10, 0, 20_000) if not 17_000 * MS < one.due_us < 17_400 * MS]
    found = of(operations, FAULT)
    (outage,) = found.outages
    assert outage.gap_s == pytest.approx(0.4)
    assert outage.sustained_s == pytest.approx(0.002)
    assert found.latency["after"].operations == 960


def test_each_shard_has_its_own_outage_and_the_longest_is_the_clients_downtime() -> None:
    found = of([*failover(shard=2), *every(20, 0, 20_000, shard=0)], FAULT)
    assert [one.shard for one in found.outages] == [1, 3]
    assert [round(one.gap_s, 3) for one in found.outages] == [0.02, 2.51]
    assert found.downtime_s == pytest.approx(2.51)
    assert found.resolution_s == pytest.approx(0.02)


def test_a_run_without_a_fault_is_measured_from_its_start() -> None:
    found = of(every(10, 0, 20_000))
    assert found.downtime_s == pytest.approx(0.01)
    assert found.resolution_s == pytest.approx(0.01)
    assert found.busy.tried == 2_000
    assert (found.latency["before"].operations, found.latency["during"].operations) == (2_000, 0)


def test_a_client_that_did_nothing_has_no_downtime_and_has_not_recovered() -> None:
    found = of([], FAULT)
    assert (found.downtime_s, found.resolution_s, found.drift_p99_ms) == (None, None, None)
    assert found.outages == ()
    assert not found.recovered


# Recovery


def test_back_is_the_first_success_due_after_the_last_failure_and_with_the_fault_in_effect() -> None:
    assert of(failover(), FAULT, APPLIED).busy.back_s == pytest.approx(3.022)
    assert of(every(10, 0, 20_000), FAULT, APPLIED).busy.back_s == pytest.approx(0.012)


def test_a_client_is_back_when_its_last_shard_is() -> None:
    good = every(10, 0, 20_000, shard=1)
    first = [*every(10, 0, 10_000), *every(10, 10_000, 12_500, FAILED), *every(10, 12_500, 20_000)]
    later = [replace(one, shard=2) for one in first if not 12_500 * MS <= one.due_us < 14_000 * MS]
    found = of([*good, *first, *later], FAULT, APPLIED)
    assert found.busy.back_s == pytest.approx(4.002)
    fresh = [replace(one, part=Part.FRESH) for one in (*good, *first, *later)]
    assert of(fresh, FAULT, APPLIED).fresh.back_s == pytest.approx(4.002)


def test_a_client_is_not_back_while_operations_wait_inside_it() -> None:
    """Calls that are answered in the end are no failures, and yet nothing worked meanwhile."""
    held = [at(due_ms, took_ms=13_559 - due_ms) for due_ms in range(10_000, 13_559, 10)]
    waiting = [*every(10, 0, 10_000), *held, *every(10, 13_560, 20_000)]
    other = [replace(one, shard=1) for one in failover()]
    found = of([*waiting, *other], FAULT, APPLIED)
    ended_s = max(one.ended_s for one in found.outages)
    assert ended_s == pytest.approx(3.559)
    assert found.busy.back_s == ended_s
    idle = [replace(one, part=Part.IDLE) for one in waiting if one.due_us < 1_000 * MS or one.due_us > 13_000 * MS]
    assert of([*every(10, 0, 20_000), *idle], FAULT, APPLIED).idle.back_s == ended_s


def test_a_shard_that_is_seldom_asked_and_always_works_does_not_hold_a_client_back() -> None:
    seldom = [at(500, shard=1), at(18_000, shard=1)]
    assert of([*failover(), *seldom], FAULT, APPLIED).fresh is None
    fresh = [replace(one, part=Part.FRESH) for one in (*failover(), *seldom)]
    assert of(fresh, FAULT, APPLIED).fresh.back_s == pytest.approx(3.022)


def test_a_few_errors_to_the_end_are_no_outage() -> None:
    operations = [at(due_ms, FAILED if due_ms % 1000 == 990 else OK) for due_ms in range(0, 20_000, 10)]
    found = of(operations, FAULT)
    assert found.recovered
    assert found.busy.back_s is None  # it failed last


def test_a_client_with_one_shard_that_fails_at_the_end_has_not_recovered() -> None:
    good, bad = every(10, 0, 20_000, shard=0), every(100, 10_000, 20_000, FAILED, shard=1)
    assert not of([*good, *every(100, 0, 10_000, shard=1), *bad], FAULT).recovered


def test_a_shard_that_was_rarely_asked_is_judged_by_its_last_operation() -> None:
    rare = [at(500, shard=1), at(11_000, FAILED, shard=1), at(18_000, shard=1)]
    assert of([*every(10, 0, 20_000), *rare], FAULT).recovered
    assert not of([*every(10, 0, 20_000), *rare[:2]], FAULT).recovered


def test_a_shard_that_was_not_asked_since_its_new_primary_says_nothing_about_the_client() -> None:
    promoted = Event(12_000 * MS, "promoted", "node-4", 1, "")
    fresh = every(500, 0, 20_000, part=Part.FRESH)
    before, after = (at(due_ms, FAILED, part=Part.FRESH, shard=1) for due_ms in (11_000, 13_000))
    assert of([*fresh, before], FAULT, promoted).recovered
    assert not of([*fresh, after], FAULT, promoted).recovered
    assert not of([*fresh, before], FAULT).recovered, "without a new primary it is all that is known"


def test_an_idle_connection_that_never_works_again_while_a_fresh_one_does_is_stuck() -> None:
    busy, fresh = every(10, 0, 20_000), every(500, 0, 20_000, part=Part.FRESH)
    idle = [at(100, part=Part.IDLE), *every(100, 15_000, 20_000, FAILED, part=Part.IDLE)]
    found = of([*busy, *fresh, *idle], FAULT)
    assert found.stuck
    assert not found.recovered
    assert (found.idle.tried, found.idle.succeeded, found.idle.back_s) == (50, 0, None)
    assert (found.busy.recovered, found.fresh.recovered) == (True, True)
    broken = [replace(one, outcome=FAILED) if one.due_us > FAULT.at_us else one for one in fresh]
    assert not of([*busy, *broken, *idle], FAULT).stuck


def test_lives_that_a_client_does_not_have_are_none() -> None:
    found = of(every(10, 0, 20_000), FAULT)
    assert (found.idle, found.fresh, found.stuck) == (None, None, False)


# Latency, errors, the rest


def test_percentiles_are_nearest_rank() -> None:
    values = list(range(1, 1001))
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert percentile([7], 0.5) == 7
    assert latency([at(0, took_ms=1), at(0, took_ms=3), at(0, FAILED, took_ms=9)]) == Latency(2, 1.0, 3.0, 3.0, 3.0)
    assert latency([]) == Latency(0)


def test_latency_is_told_before_during_and_after_by_when_operations_were_due() -> None:
    operations = [
        *every(10, 0, 10_000, took_ms=1), at(10_000, took_ms=3_000), *every(10, 10_010, 12_000, FAILED),
        *every(10, 12_000, 20_000, took_ms=2),
    ]  # fmt: skip
    found = of(operations, FAULT).latency
    assert found["before"] == Latency(1000, 1.0, 1.0, 1.0, 1.0)
    assert found["during"] == Latency(2, 2.0, 3000.0, 3000.0, 3000.0)  # until 12.002 s
    assert found["after"] == Latency(799, 2.0, 2.0, 2.0, 2.0)


def test_what_was_under_way_when_the_fault_began_does_not_tell_how_it_was_before() -> None:
    found = of([*every(10, 0, 9_990), at(9_990, took_ms=4_000), *every(10, 14_000, 20_000)], FAULT).latency
    assert found["before"].max_ms == 2.0
    assert found["during"].max_ms == 4_000.0


def test_only_busy_operations_count_for_latency_and_outages() -> None:
    slow = every(1_000, 0, 20_000, took_ms=700, part=Part.FRESH)
    found = of([*every(10, 0, 20_000), *slow], FAULT)
    assert found.latency["before"].max_ms == 2.0
    assert found.operations == 2_020


def test_errors_are_counted_by_class_and_outcome() -> None:
    found = of([*failover(), at(11_000, FAILED, error="MOVED", moved=5, asked=1)], FAULT)
    assert found.errors == (
        ErrorCount("TimeoutError", "failed", 250, 0.002, 2.492),
        ErrorCount("TimeoutError", "indeterminate", 2, 3.002, 3.012),
        ErrorCount("MOVED", "failed", 1, 1.002, 1.002),
    )
    assert (found.ok, found.failed, found.indeterminate) == (1748, 251, 2)
    assert (found.moved, found.asked) == (5, 1)


def test_drift_is_how_late_operations_began_before_the_fault() -> None:
    before = [at(n, late_ms=n / 10, took_ms=100) for n in range(1, 101)]
    found = of([*before, *every(10, 10_000, 20_000, late_ms=1.5)], FAULT)
    assert found.drift_p99_ms == pytest.approx(9.9)


def test_how_late_the_tool_was_after_the_fault_is_told_apart_from_the_servers_latency() -> None:
    late = every(10, 10_000, 20_000, late_ms=700, took_ms=702)
    found = of([*every(10, 0, 10_000), *late], FAULT)
    assert found.latency["after"].p99_ms == pytest.approx(702)
    assert (found.drift_p99_ms, found.drift_after_p99_ms) == (0.0, 700.0)
    assert of(every(10, 0, 20_000)).drift_after_p99_ms is None
    closed_loop = history(late, {}, [FAULT])
    closed_loop.header["rate"] = 0
    assert measure_client(closed_loop, CLIENT, closed_loop.operations).drift_after_p99_ms is None


def test_the_servers_took_until_the_last_shard_had_a_new_primary() -> None:
    events = [FAULT, APPLIED, *(Event(at_ms * MS, "promoted", "n", shard, "") for at_ms, shard in
                                ((12_000, 0), (13_500, 1), (19_000, 0)))]  # fmt: skip
    operations = [*failover(0), *failover(1), *every(10, 0, 20_000, shard=2)]
    found = leg(history(operations, {}, events))
    assert found.server_s == pytest.approx(3.5)
    assert found.applied
    assert [(mark.at_s, mark.kind) for mark in found.marks[:2]] == [(0.0, "fault"), (0.01, "applied")]


def test_a_fault_that_was_not_seen_to_take_effect_was_not_applied() -> None:
    operations = every(10, 0, 20_000)
    assert not leg(history(operations, {}, [FAULT])).applied
    assert not leg(history(operations, {})).applied
    assert leg(history(operations, {}), fault="").applied
    assert leg(history(operations, {}), fault="").server_s is None


def test_clients_come_in_the_order_of_the_header() -> None:
    operations = [replace(one, client=name) for name in ("b", "a", "c") for one in every(10, 0, 1_000)]
    found = leg(history(operations, {}, clients=("a", "b", "quiet")))
    assert [one.name for one in found.clients] == ["a", "b", "quiet", "c"]
    assert [one.client for one in found.series] == ["a", "b", "quiet", "c"]
    assert found.clients[0].what == "what a is"
