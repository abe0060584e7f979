"""Addresses, URLs and what they never show."""

from __future__ import annotations

import pytest

from understudy.errors import UsageError
from understudy.valkey.target import Address, Mode, Target


@pytest.mark.parametrize(
    ("url", "seeds", "user", "password", "tls", "db"),
    [
        ("redis://localhost", [("localhost", 6379)], None, None, False, 0),
        ("rediss://me:p%40ss@cache.example:6380/3", [("cache.example", 6380)], "me", "p@ss", True, 3),
        (
            "valkey://:only@10.0.0.1:7001,10.0.0.2:7002",
            [("10.0.0.1", 7001), ("10.0.0.2", 7002)],
            None,
            "only",
            False,
            0,
        ),
        ("valkeys://[::1]:7001", [("::1", 7001)], None, None, True, 0),
    ],
)
def test_a_url_says_where_and_who(
    url: str, seeds: list[tuple[str, int]], user: str | None, password: str | None, tls: bool, db: int
) -> None:
    target = Target.from_url(url)
    assert [(seed.host, seed.port) for seed in target.seeds] == seeds
    assert (target.username, target.password, target.tls is not None, target.db) == (user, password, tls, db)


def test_a_sentinel_service_stands_in_the_query() -> None:
    assert Target.from_url("redis://h:26379/0?service=orders").service == "orders"


@pytest.mark.parametrize("url", ["http://h", "redis://", "redis://h/x", "redis://h:port", "h:6379"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Target.from_url(url)
    assert refusal.value.exit_code == 2


def test_a_refused_url_does_not_repeat_its_password() -> None:
    with pytest.raises(UsageError) as refusal:
        Target.from_url("redis://u:s3cret@h:99999999")
    assert "s3cret" not in str(refusal.value.as_data())


def test_a_password_is_in_no_representation() -> None:
    target = Target((Address("h", 1),), Mode.SENTINEL, "u", "s3cret", sentinel_password="s3cret")
    assert "s3cret" not in f"{target!r} {target}"


def test_a_target_survives_the_pipe_to_a_worker() -> None:
    target = Target.from_url("rediss://u:p@a:1,b:2/4").with_mode(Mode.OSS_CLUSTER)
    assert Target.from_data(target.as_data()) == target
