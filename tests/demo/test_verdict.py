"""What is called passed, failed and unknown."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.backup.component import RestoreReport
from understudy.backup.verify_report import VerifyReport
from understudy.demo import answers
from understudy.demo.census import Census
from understudy.demo.seats import Seats
from understudy.demo.verdict import Digests, Verdict, judge, judge_return, judge_sale, overall
from understudy.drill.findings import Verdict as Drilled
from understudy.sale.findings import Outage, Tally

ALL = {b"a": b"1", b"b": b"2"}
SOLD = {"S1": "ticket-1", "S2": "ticket-2"}
PASSED = Drilled("passed", ("recommended: at most 2.43 s without a success",))


def seats(after: dict[str, str], before: dict[str, str] = SOLD) -> Seats:
    return Seats(("S1", "S2", "S3"), before, after, {"ticket-1": "ann", "ticket-2": "ben"})


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
        "seats": seats(SOLD),
        "rehearsal": Drilled("passed", ()),
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
        {"seats": seats({"S1": "ticket-1"})},
        {"seats": seats({"S1": "ticket-2", "S2": "ticket-1"})},
        {"seats": seats(SOLD | {"S3": "ticket-1"})},
        {"rehearsal": Drilled("failed", ("1 key differs",))},
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
        {"digests": Digests.compare(ALL, {b"a": b"1"}, frozenset({b"b"}))},
        {"restored": RestoreReport(restored=1, expired=1)},
        {"seats": seats({}, {})},
        {"rehearsal": Drilled("unknown", ("no server could be started for it",))},
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


def test_a_key_whose_time_was_over_is_not_missed_and_not_called_compared() -> None:
    before = Census(digests={b"a": b"1", b"b": b"2", b"c": b"3"}, ends={b"b": 10.0, b"c": 99.0})
    after = Census(digests={b"a": b"1"}, taken_s=50.0)
    assert before.expired(after) == {b"b"}
    found = Digests.compare(before.digests, after.digests, before.expired(after))
    assert (found.equal, found.expired, found.missing, found.examples) == (1, 1, 1, ("c",))
    slow = judged(digests=Digests.compare(ALL, {b"a": b"1"}, frozenset({b"b"})))
    assert "this machine was too slow" in " ".join(slow.reasons)


def test_seats_are_compared_one_by_one_and_the_odd_ones_named() -> None:
    found = seats({"S1": "ticket-1", "S3": "ticket-2"})
    assert (found.sold, found.same, found.others) == (2, 1, ("S2", "S3"))
    assert found.differences == "0 of another buyer, 1 not sold any more, 1 sold only now"
    assert found.examples == ["S2 of ben is now of nobody", "S3 of nobody is now of ben"]
    assert seats({"S1": "ticket-2", "S2": "ticket-9"}).examples == [
        "S1 of ann is now of ben",
        "S2 of ben is now of ticket-9",
    ]


def outage(gap_s: float) -> Outage:
    return Outage("kill node-1", 5.0, gap_s, 5.0, 10)


@pytest.mark.parametrize(
    ("gap", "clients", "word"),
    [
        (outage(6.0), PASSED, "passed"),
        (outage(31.0), PASSED, "failed"),
        (outage(6.0), Drilled("failed", ("too long",)), "failed"),
        (outage(6.0), Drilled("unknown", ("this machine was too slow to measure by",)), "unknown"),
        (outage(31.0), Drilled("unknown", ("too slow",)), "failed"),
        (None, PASSED, "unknown"),
    ],
)
def test_the_application_came_back_only_where_buyers_and_the_client_did(
    gap: Outage | None, clients: Drilled, word: str
) -> None:
    verdict = judge_return(gap, clients)
    assert verdict.word == word
    assert verdict.reasons


TALLY = Tally(9, 9, 9, 3, 3, 3, 100, 5, 0, 20.0)


@pytest.mark.parametrize(
    ("sold", "after", "functions_same", "word"),
    [
        (PASSED, ALL, True, "passed"),
        (PASSED, {b"a": b"1"}, True, "failed"),
        (PASSED, ALL | {b"a": b"9"}, True, "failed"),
        (PASSED, ALL, False, "failed"),
        (Drilled("failed", ("Seats whose sale to two was acknowledged: 1 of 3.",)), ALL, True, "failed"),
        (Drilled("unknown", ("a buyer had not finished",)), {b"a": b"1"}, True, "failed"),
        (Drilled("unknown", ("a buyer had not finished",)), ALL, True, "unknown"),
    ],
)
def test_a_sale_is_passed_only_where_every_promise_was_kept_and_every_older_key_is_there(
    sold: Drilled, after: dict[bytes, bytes], functions_same: bool, word: str
) -> None:
    verdict = judge_sale(sold, TALLY, Digests.compare(ALL, after), functions_same=functions_same)
    assert verdict.word == word
    assert verdict.reasons


def test_where_no_older_key_could_outlive_the_kill_is_unknown() -> None:
    assert judge_sale(PASSED, TALLY, Digests.compare({}, {}), functions_same=True).word == "unknown"


def test_an_answer_is_yes_or_no_only_where_it_is_known() -> None:
    said = [answers.in_a_word(Verdict(word, ""), "Yes", "No") for word in ("passed", "failed", "unknown")]
    assert said == ["Yes", "No", "Not known"]


def test_the_whole_story_is_as_good_as_its_worst_night_and_tells_all() -> None:
    good, bad, unclear = (Verdict(word, f"It {word}.", (word,)) for word in ("passed", "failed", "unknown"))
    assert overall(good, good, good).word == "passed"
    assert overall(good, unclear) == Verdict("unknown", "It passed. It unknown.", ("unknown",))
    assert overall(good, bad, unclear).word == "failed"
    assert overall(unclear, bad).reasons == ("failed",)
