"""A verdict follows from the numbers and names them; what is not known is never passed."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest

from histories import CLIENT, FAILED, history, operation
from understudy.drill.findings import Budget, ClientFindings, LegFindings, Spread, Verdict
from understudy.drill.history import Event
from understudy.drill.measure import measure
from understudy.drill.operation import Kind
from understudy.drill.verdict import judge, overall, spreads

MS = 1000
EVENTS = (Event(2_000 * MS, "fault", "n", 0, ""), Event(2_001 * MS, "applied", "n", 0, ""))
STRICT = Budget(max_downtime_s=5, max_lost=0, max_stale=0, max_doubled=0)


@functools.cache
def good_leg() -> LegFindings:
    """A client that worked all the time, with an operation each 10 ms."""
    operations = [operation(Kind.SET, f"k{n}", f"v{n}", n, n + MS) for n in range(0, 6_000 * MS, 10 * MS)]
    judged = history(operations, {one.key: one.value for one in operations}, EVENTS)
    return measure(judged, name="cluster", layout="cluster", fault="kill")


def with_client(**changes: Any) -> LegFindings:
    leg = good_leg()
    consistency = {name: changes.pop(name) for name in list(changes) if hasattr(leg.clients[0].consistency, name)}
    one: ClientFindings = replace(leg.clients[0], **changes)
    return replace(leg, clients=(replace(one, consistency=replace(one.consistency, **consistency)),))


def with_outage(gap_s: float, ended_s: float | None = 1.0) -> LegFindings:
    (outage,) = good_leg().clients[0].outages
    return with_client(downtime_s=gap_s, outages=(replace(outage, shard=2, gap_s=gap_s, ended_s=ended_s),))


def verdict(leg: LegFindings, budget: Budget = STRICT) -> Verdict:
    return judge(leg, budget, [CLIENT])


def test_a_client_within_its_budget_has_passed_with_its_numbers() -> None:
    assert verdict(good_leg()) == Verdict(
        "passed",
        (
            (
                "client: at most 0.01 s without a success (5 s are allowed), 0 of 600 acknowledged writes lost, "
                "0 stale reads, 0 appends there more than once."
            ),
        ),
    )


@pytest.mark.parametrize(
    ("leg", "reason"),
    [
        (with_outage(6.314), "client: shard 2 was without a success for 6.31 s; 5 s are allowed."),
        (
            with_outage(9, None),
            "client: shard 2 was without a success for 9.00 s, and still at the end; 5 s are allowed.",
        ),
        (with_client(recovered=False), "client: it had not recovered at the end."),
        (
            with_client(recovered=False, stuck=True),
            "client: it had not recovered at the end, while a fresh client worked.",
        ),
        (with_client(lost=3), "client: 3 of 600 acknowledged writes lost; 0 are allowed."),
        (with_client(lost=3, checked=False), "client: 3 of 600 acknowledged writes lost; 0 are allowed."),
        (with_client(stale=1_234), "client: 1,234 stale reads; 0 are allowed."),
        (with_client(doubled=1), "client: 1 append there more than once; 0 are allowed."),
        (with_client(refused_survived=1), "client: 1 write had an effect though the servers had refused it."),
        (with_client(unknown_values=2), "client: 2 values that nobody had written."),
    ],
)  # fmt: skip
def test_what_exceeds_its_budget_has_failed_and_says_by_how_much(leg: LegFindings, reason: str) -> None:
    found = verdict(leg)
    assert found.word == "failed"
    assert found.reasons[0] == reason


@pytest.mark.parametrize(
    ("leg", "budget", "reason"),
    [
        (with_client(checked=False), STRICT, "could not be read at the end"),
        (replace(good_leg(), applied=False), STRICT, "not seen to take effect"),
        (with_client(drift_p99_ms=440.2), STRICT, "up to 440 ms late"),
        (with_client(drift_after_p99_ms=1_140.2), STRICT, "after the fault its operations began up to 1,140 ms late"),
        (with_client(drift_after_p99_ms=1_140.2), Budget(), "include this tool's own waiting"),
        (with_client(downtime_s=None, outages=()), STRICT, "no outage could be seen"),
        (with_client(busy=replace(good_leg().clients[0].busy, tried=0)), STRICT, "nothing was tried after the fault"),
        (replace(good_leg(), clients=()), STRICT, "client: this client did not take part"),
    ],
)
def test_what_is_not_known_is_not_passed(leg: LegFindings, budget: Budget, reason: str) -> None:
    found = verdict(leg, budget)
    assert found.word == "unknown"
    assert reason in " ".join(found.reasons)


def test_too_few_operations_before_the_fault_prove_nothing() -> None:
    leg = good_leg()
    few = replace(leg.clients[0].latency["before"], operations=19)
    found = verdict(with_client(latency={**leg.clients[0].latency, "before": few}))
    assert found.word == "unknown"
    assert "19 operations succeeded before the fault; 20 are needed" in found.reasons[0]


def test_a_failure_is_proven_whatever_else_is_not_known() -> None:
    found = verdict(replace(with_client(lost=1), applied=False))
    assert found.word == "failed"
    assert found.reasons[1] == "The fault was not seen to take effect."
    late = verdict(with_client(lost=1, drift_after_p99_ms=1_140.2))
    assert late.word == "failed"
    assert "own waiting" in late.reasons[1]


def test_nobody_judged_is_unknown() -> None:
    assert judge(good_leg(), STRICT, []).word == "unknown"


def test_a_client_that_is_not_judged_changes_nothing() -> None:
    bad = replace(with_client(lost=9, recovered=False).clients[0], name="naive")
    leg = good_leg()
    assert verdict(replace(leg, clients=(*leg.clients, bad))) == verdict(leg)


def test_without_a_budget_only_recovery_is_judged_and_that_is_said() -> None:
    found = verdict(with_client(lost=9, stale=9, checked=False), Budget())
    assert found.word == "passed"
    assert found.reasons[0].startswith("No budget is set")
    assert verdict(with_client(recovered=False), Budget()).word == "failed"


@pytest.mark.parametrize("budget", [Budget(), Budget(max_lost=0), Budget(max_doubled=3), Budget(max_downtime_s=60)])
def test_a_client_that_never_comes_back_has_failed_whatever_is_allowed(budget: Budget) -> None:
    found = verdict(with_client(recovered=False), budget)
    assert found == Verdict("failed", ("client: it had not recovered at the end.",))


def test_a_client_that_tried_nothing_after_the_fault_is_not_known_to_have_stayed_away() -> None:
    silent = replace(good_leg().clients[0].busy, tried=0, succeeded=0, recovered=False)
    found = verdict(with_client(recovered=False, busy=silent))
    assert found == Verdict("unknown", ("client: nothing was tried after the fault.",))


def test_a_run_without_a_fault_can_pass() -> None:
    operations = [operation(Kind.SET, f"k{n}", f"v{n}", n, n + MS) for n in range(0, 6_000 * MS, 10 * MS)]
    judged = history(operations, {one.key: one.value for one in operations})
    assert verdict(measure(judged, name="control", layout="cluster", fault="")).word == "passed"
    broken = [replace(one, outcome=FAILED) for one in operations]
    assert verdict(measure(history(broken, {}), name="control", layout="cluster", fault="")).word == "failed"


def test_the_worst_verdict_wins_with_its_own_reasons() -> None:
    passed, unknown, failed = (Verdict(word, (f"it {word}",)) for word in ("passed", "unknown", "failed"))
    assert overall([("a", passed), ("b", failed), ("c", unknown)]) == Verdict("failed", ("b: it failed",))
    assert overall([("a", passed), ("c", unknown)]) == Verdict("unknown", ("c: it unknown",))
    assert overall([("", passed), ("", passed)]) == Verdict("passed", ("it passed",))
    assert overall([]).word == "unknown"


def test_runs_are_summed_up_by_their_least_middle_and_greatest() -> None:
    runs = [with_client(downtime_s=down_s, lost=lost) for down_s, lost in ((2.0, 0), (9.0, 4), (3.0, 1))]
    runs.append(with_client(downtime_s=None, recovered=False, checked=False, lost=0))
    (found,) = spreads(runs)
    assert (found.downtime_s, found.lost) == (Spread(2.0, 3.0, 9.0), Spread(0, 1, 4))
    assert (found.runs, found.recovered) == (4, 3)
    assert spreads([runs[-1]])[0].downtime_s is None
