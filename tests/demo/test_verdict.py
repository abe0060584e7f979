"""What is called passed, failed and unknown."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.backup.component import RestoreReport
from understudy.backup.verify_report import VerifyReport
from understudy.demo.verdict import Digests, Verdict, judge, judge_failover, overall
from understudy.drill.findings import Verdict as Drilled

ALL = {b"a": b"1", b"b": b"2"}


def judged(**changes: Any) -> Verdict:
    good: dict[str, Any] = {
        "keys": 2,
        "in_set": 2,
        "keys_after_wipe": 0,
        "functions_after_wipe": 0,
        "restored": RestoreReport(restored=2),
        "verified": VerifyReport(compared=2),
        "digests": Digests.compare(ALL, ALL),
        "functions_same": True,
    }
    return judge(**(good | changes))


def test_everything_equal_and_everything_compared_is_passed() -> None:
    assert judged().word == "passed"
    assert judged().reasons == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"in_set": 1},
        {"keys_after_wipe": 1},
        {"functions_after_wipe": 1},
        {"restored": RestoreReport(restored=1, failed=1, failures=["a: broken"])},
        {"verified": VerifyReport(compared=2, missing=1)},
        {"verified": VerifyReport(compared=2, ttl_mismatch=1)},
        {"verified": VerifyReport(compared=2, value_mismatch=1)},
        {"verified": VerifyReport(compared=2, extra=1)},
        {"digests": Digests.compare(ALL, {b"a": b"1", b"b": b"3"})},
        {"digests": Digests.compare(ALL, {b"a": b"1"})},
        {"digests": Digests.compare(ALL, ALL | {b"c": b"3"})},
        {"functions_same": False},
    ],
)
def test_each_difference_alone_is_failed_and_says_why(changes: dict[str, Any]) -> None:
    verdict = judged(**changes)
    assert verdict.word == "failed"
    assert len(verdict.reasons) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"verified": VerifyReport(compared=1, expired=1)},
        {"verified": VerifyReport()},
        {"digests": Digests.compare({b"a": b"1"}, {b"a": b"1"})},
        {"digests": Digests.compare({}, {})},
    ],
)
def test_what_was_not_compared_is_unknown_and_never_passed(changes: dict[str, Any]) -> None:
    assert judged(**changes).word == "unknown"


def test_digests_are_compared_key_by_key_and_the_odd_ones_named() -> None:
    before = {b"same": b"1", b"changed": b"2", b"lost": b"3"}
    after = {b"same": b"1", b"changed": b"9", b"\xffnew": b"4"}
    found = Digests.compare(before, after)
    assert (found.compared, found.equal, found.different, found.missing, found.extra) == (2, 1, 1, 1, 1)
    assert found.examples == ("changed", "lost", "\\xffnew")
    assert not found.all_equal


PASSED = Drilled("passed", ("recommended: at most 2.43 s without a success",))


def test_a_failover_that_everything_survived_is_passed_and_says_what_it_cost() -> None:
    verdict = judge_failover(PASSED, Digests.compare(ALL, ALL), functions_same=True)
    assert verdict.word == "passed"
    assert "2 keys of 2 survived" in verdict.sentence
    assert verdict.reasons == PASSED.reasons


@pytest.mark.parametrize(
    ("drilled", "after", "functions_same", "word"),
    [
        (PASSED, {b"a": b"1"}, True, "failed"),
        (PASSED, ALL | {b"c": b"3"}, True, "failed"),
        (PASSED, ALL, False, "failed"),
        (Drilled("failed", ("too long",)), ALL, True, "failed"),
        (Drilled("unknown", ("too slow",)), {b"a": b"1"}, True, "failed"),
        (Drilled("unknown", ("too slow",)), ALL, True, "unknown"),
    ],
)
def test_a_failover_is_passed_only_where_the_drill_is_and_everything_is_there(
    drilled: Drilled, after: dict[bytes, bytes], functions_same: bool, word: str
) -> None:
    verdict = judge_failover(drilled, Digests.compare(ALL, after), functions_same=functions_same)
    assert verdict.word == word
    assert verdict.reasons


def test_where_nothing_could_survive_a_failover_is_unknown() -> None:
    assert judge_failover(PASSED, Digests.compare({}, {}), functions_same=True).word == "unknown"


def test_the_whole_story_is_as_good_as_its_worst_night_and_tells_both() -> None:
    good, bad, unclear = (Verdict(word, f"It {word}.", (word,)) for word in ("passed", "failed", "unknown"))
    assert overall(good, good).word == "passed"
    assert overall(good, unclear) == Verdict("unknown", "It passed. It unknown.", ("unknown",))
    assert overall(bad, unclear).word == "failed"
    assert overall(unclear, bad).reasons == ("failed",)
