"""A name for `--into-database` that PostgreSQL would cut, or that is none, is refused before anything is done."""

from __future__ import annotations

import pytest

from understudy import settings
from understudy.backup.postgres.target import check_name
from understudy.errors import UsageError


@pytest.mark.parametrize("name", ["", "x" * 64, "가" * 22, "a\0b"])
def test_a_name_that_no_database_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="1 to 63 bytes"):
        check_name(name)


@pytest.mark.parametrize("name", ["x" * 63, "가" * 21, 'a "b" --help'])
def test_any_other_name_is_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["BACKUP_DAILY_RETENTION", "BACKUP_SAFETY_RETENTION", "REHEARSE_MAX_AGE_DAYS"])
def test_more_days_than_a_calendar_has_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "999999999")
    with pytest.raises(UsageError, match=name):
        settings.load()
