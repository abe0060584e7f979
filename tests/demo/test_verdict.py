"""What is called passed, failed and unknown."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.backup.component import RestoreReport
from understudy.backup.verify_report import VerifyReport
from understudy.demo.verdict import Digests, Verdict, judge

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
