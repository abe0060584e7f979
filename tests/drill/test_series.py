"""A client over time: every operation is in one bucket, and all clients have the same axis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from histories import FAILED, INDETERMINATE, OK, correct_histories, history, operation
from understudy.drill.history import Event, History
from understudy.drill.measure import measure
from understudy.drill.operation import Kind, Outcome, Part
from understudy.drill.series import MOST_BUCKETS, Axis, series

MS = 1000
FAULT = Event(330 * MS, "fault", "n", 0, "")


def get(due_ms: int, took_ms: int, outcome: Outcome = OK, **more: object):
    return operation(Kind.GET, "k", None, due_ms * MS, (due_ms + took_ms) * MS, outcome, **more)


def test_throughput_is_by_end_and_latency_by_due_time() -> None:
    operations = [get(0, 10), get(20, 90), get(110, 5, FAILED, error="X"), get(120, 300, INDETERMINATE, error="Y")]
    judged = history(operations, {}, [FAULT])
    axis = Axis.of(judged)
    found = series(judged, axis, "client", operations)
    assert (found.from_s, found.bucket_s) == (-0.35, 0.05)
    assert found.ok == (1, 0, 1, 0, 0, 0, 0, 0, 0)
    assert found.failed == (0, 0, 1, 0, 0, 0, 0, 0, 0)
    assert found.indeterminate == (0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert (found.p50_ms, found.max_ms) == ((10.0, *[None] * 8), (90.0, *[None] * 8))
    assert found.errors == {"X": found.failed, "Y": found.indeterminate}


def test_the_fault_stands_on_a_border_of_buckets() -> None:
    for at_us in (0, 1, 12_345, 2_999_999):
        axis = Axis.of(history([get(0, 1), get(3_000, 1)], {}, [replace(FAULT, at_us=at_us)]))
        assert (at_us - axis.from_us) % axis.bucket_us == 0


@pytest.mark.parametrize("length_ms", [1, 11_900, 12_100, 60_000, 3_600_000, 100_000_000])
def test_there_are_never_too_many_buckets_nor_too_short_ones(length_ms: int) -> None:
    axis = Axis.of(history([get(0, 1), get(length_ms, 1)], {}))
    assert axis.count <= MOST_BUCKETS
    assert axis.bucket_us >= 50 * MS
    assert axis.bucket_us == 50 * MS or axis.count > MOST_BUCKETS / 3


def test_idle_and_fresh_operations_are_ticks_of_their_own() -> None:
    operations = [get(0, 1), get(0, 1, part=Part.FRESH), get(60, 1, FAILED, part=Part.IDLE, error="X")]
    judged = history(operations, {})
    found = series(judged, Axis.of(judged), "client", operations)
    assert (found.ok, found.failed, found.errors) == ((1, 0), (0, 0), {})
    assert (found.fresh.ok, found.idle.bad) == ((1, 0), (0, 1))


@settings(deadline=None)
@given(correct_histories())
def test_no_operation_is_left_out(judged: History) -> None:
    judged.operations = [replace(one, ended_us=one.ended_us * 99) for one in judged.operations]
    (found,) = measure(judged, name="", layout="", fault="").series
    lanes = (
        found.ok,
        found.failed,
        found.indeterminate,
        found.idle.ok,
        found.idle.bad,
        found.fresh.ok,
        found.fresh.bad,
    )
    assert sum(map(sum, lanes)) == len(judged.operations)
    assert len({len(lane) for lane in (*lanes, found.p50_ms, found.max_ms)}) == 1


def test_a_history_of_nothing_has_an_axis() -> None:
    assert Axis.of(history([], {})).count == 1
