"""How long until the turn, by what is set and by what was seen."""

from __future__ import annotations

from understudy.waitingroom.estimate import Pace, seconds_until_called


def test_the_estimate_is_the_place_by_the_rate() -> None:
    assert seconds_until_called(30, "open", 10.0) == 3.0
    assert seconds_until_called(0, "open", 10.0) == 0.0


def test_nobody_can_say_when_nobody_is_called() -> None:
    for state, rate in (("paused", 10.0), ("closed", 10.0), ("created", 10.0), ("open", 0.0)):
        assert seconds_until_called(5, state, rate) is None
    assert seconds_until_called(5, "open", 10.0, 0.0) is None


def test_what_is_seen_counts_where_it_is_slower_than_what_is_set() -> None:
    assert seconds_until_called(30, "open", 10.0, 2.0) == 15.0
    assert seconds_until_called(30, "open", 10.0, 50.0) == 3.0  # a burst


def test_the_pace_is_that_of_the_last_minute() -> None:
    pace = Pace()
    for second in range(201):
        called = 10 * min(second, 100) + 2 * max(0, second - 100)
        pace.saw(second, "open", 10.0, called, 500)
    assert pace.seen_per_s() == 2.0


def test_too_little_was_seen_at_first_after_a_change_and_where_nobody_waited() -> None:
    pace = Pace()
    assert pace.seen_per_s() is None
    for second in range(10):
        pace.saw(second, "open", 10.0, second, 500)
    assert pace.seen_per_s() == 1.0
    pace.saw(10, "open", 20.0, 10, 500)
    assert pace.seen_per_s() is None
    for second in range(11, 30):
        pace.saw(second, "open", 20.0, second, second % 2)
    assert pace.seen_per_s() is None
