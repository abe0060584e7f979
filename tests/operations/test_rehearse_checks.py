"""Checks of the user's own: what makes sense, what an answer must be, and what a program of theirs sees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.operations.rehearsal.ask import environment
from understudy.operations.rehearsal.checks import Check, read_checks


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"sql": "SELECT 1"}, "needs a name"),
        ({"name": "x"}, "one of sql, command and run"),
        ({"name": "x", "sql": "SELECT 1", "run": ["true"]}, "only one"),
        ({"name": "x", "sql": "SELECT 1", "component": "redis"}, "does not go with"),
        ({"name": "x", "command": "DBSIZE"}, "must be a list"),
        ({"name": "x", "run": ["true"], "at_lest": 1}, "no field 'at_lest'"),
        ({"name": "x", "run": ["true"], "expect": 1, "at_least": 1}, "does not go with"),
        ({"name": "x", "run": ["true"], "at_least": 3, "at_most": 1}, "more than at_most"),
        ({"name": "x", "run": ["true"], "at_least": "3"}, "must be a number"),
        ({"name": "x", "run": ["true"], "timeout_s": 0}, "timeout_s"),
        ({"name": "x", "command": ["DBSIZE"], "database": "app"}, "must be a number"),
    ],
)
def test_a_check_that_makes_no_sense_is_named(row: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_checks([row])
    assert why in raised.value.why
    assert repr(row.get("name", 1)) in raised.value.doing


def test_two_checks_of_one_name_are_refused() -> None:
    row = {"name": "twice", "run": ["true"]}
    with pytest.raises(UsageError, match="twice"):
        read_checks([row, row])


def check(**limits: Any) -> Check:
    (found,) = read_checks([{"name": "x", "sql": "SELECT", **limits}])
    return found


@pytest.mark.parametrize(
    ("limits", "answer", "holds"),
    [
        ({}, None, True),
        ({"expect": 3}, 3, True),
        ({"expect": 3}, "3", True),
        ({"expect": 3}, 4, False),
        ({"expect": 3}, True, False),
        ({"expect": "abc"}, "abc", True),
        ({"expect": "3"}, 3, True),
        ({"expect": True}, True, True),
        ({"expect": True}, "true", True),
        ({"expect": True}, 1, False),
        ({"expect": ""}, None, False),
        ({"at_least": 1}, None, False),
        ({"at_least": 1}, "many", False),
        ({"at_least": 2}, ["a", "b"], True),
        ({"at_most": 1}, ["a", "b"], False),
        ({"at_least": 1, "at_most": 2}, 2, True),
        ({"at_least": 1, "at_most": 2}, 2.5, False),
        ({"at_least": 0}, float("nan"), False),
    ],
)
def test_an_answer_is_held_against_what_it_must_be(limits: dict[str, Any], answer: Any, holds: bool) -> None:
    assert check(**limits).holds(answer) is holds


_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "name",
                "sql",
                "command",
                "run",
                "component",
                "database",
                "expect",
                "at_least",
                "at_most",
                "timeout_s",
                "other",
            ]
        ),
        _values,
    ),
    _values,
)
def test_any_table_is_a_check_or_a_clear_error(row: dict[str, Any], answer: Any) -> None:
    try:
        (found,) = read_checks([row])
    except UsageError:
        return
    assert found.holds(answer) in {True, False}


def test_a_program_sees_nothing_of_production() -> None:
    base = {
        "PATH": "/bin", "ENV_PROFILE": "prd", "DATABASE_URL": "postgresql://prod", "POSTGRES_URL": "postgresql://prod",
        "REDIS_ACCESS_KEY": "x", "REDIS_NODES": "prod:1", "BACKUP_PASSPHRASE": "x", "PGPASSWORD": "x",
        "QDRANT_API_KEY": "x", "REHEARSE_POSTGRES_URL": "x", "PGPASSFILE": "x", "PGSERVICE": "prod",
    }  # fmt: skip
    assert environment(base, ()) == {"PATH": "/bin", "ENV_PROFILE": "prd"}
