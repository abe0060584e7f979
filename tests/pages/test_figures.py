"""Numbers as people read them."""

from __future__ import annotations

import pytest

from understudy.pages.figures import count, rate, seconds, size


@pytest.mark.parametrize(("number", "said"), [(0, "0 keys"), (1, "1 key"), (40008, "40,008 keys")])
def test_counts(number: int, said: str) -> None:
    assert count(number, "key") == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (109_261_619, "104.2 MiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes(number: int, said: str) -> None:
    assert size(number) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0.08, "80 ms"),
        (0.9999, "1.0 s"),
        (3.21, "3.2 s"),
        (99.99, "1 min 40 s"),
        (125, "2 min 5 s"),
        (1800, "30 min"),
        (93_600, "1 d 2 h"),
        (18_120, "5 h 2 min"),
    ],
)
def test_durations(number: float, said: str) -> None:
    assert seconds(number) == said


@pytest.mark.parametrize(
    ("number", "over_s", "said"),
    [(30_967, 1, "31,000 keys/s"), (5, 2, "2 keys/s"), (1234, 10, "123 keys/s"), (0, 0, "0 keys/s")],
)
def test_rates_have_three_digits(number: float, over_s: float, said: str) -> None:
    assert rate(number, over_s, "keys") == said
