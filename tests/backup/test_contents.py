"""A store that has lost everything is backed up with success: only the sets before it know better."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from planted import planted
from understudy.backup.contents import amount, change, changes
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet, Metadata, SetId

NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
POSTGRES = {
    "databases": [
        {
            "tables": {"public.a": 5, "public.a_2026": 5, "public.b": 2},
            "partitions": ["public.a_2026"],
            "large_objects": {"count": 1},
        }
    ]
}
EMPTIED = {"databases": [{"tables": {"public.a": 0}, "partitions": [], "large_objects": {"count": 0}}]}


def of(days: int, **components: Any) -> Metadata:
    at = NOW - timedelta(days=days)
    return Metadata(SetId.new("stack", "prd", at), "prd", at, "test", components)


def keys(days: int, number: int, match: str | None = None) -> Metadata:
    return of(days, redis={"keys": number, "match": match})


@pytest.mark.parametrize(
    ("name", "said", "held"),
    [
        ("redis", {"keys": 316}, 316),
        ("redis", {"keys": 0, "functions": 2}, 0),
        ("postgres", POSTGRES, 8),
        ("postgres", EMPTIED, 0),
        ("postgres", {"databases": []}, 0),
        ("qdrant", {"collections": [{"points": 7}, {"points": [1, 3]}]}, 10),
        ("qdrant", {"collections": []}, 0),
        ("redis", {}, None),
        ("redis", {"keys": "many"}, None),
        ("postgres", {"databases": [{"tables": {"a": None}}]}, None),
        ("another", {"keys": 1}, None),
    ],
)
def test_what_a_component_recorded_is_counted_and_what_it_did_not_is_not_guessed(
    name: str, said: dict[str, Any], held: int | None
) -> None:
    assert amount(of(0, **{name: said}), name) == held
    assert amount(of(0, **{name: said}), "lacking") is None


def test_a_store_that_never_held_anything_lost_nothing() -> None:
    told = change("redis", [keys(0, 0), keys(1, 0)])
    assert told is not None
    assert (told.lost, told.before, str(told)) == (False, None, "the set holds no keys")


def test_nothing_left_is_told_every_night_with_the_last_set_that_held_something() -> None:
    for nights in (1, 2, 30):
        sets = [*(keys(day, 0) for day in range(nights)), keys(50, 316), keys(51, 400)]
        told = change("redis", sets)
        assert told is not None
        assert (told.lost, told.set, told.before, told.had) == (True, sets[0].id, sets[-2].id, 316)
        assert str(told) == f"the set holds no keys, and {sets[-2].id} before it held 316 keys"


@pytest.mark.parametrize(
    ("held", "had", "told"), [(31, 316, True), (32, 316, False), (1, 10, False), (400, 316, False)]
)
def test_less_than_a_tenth_is_told(held: int, had: int, told: bool) -> None:
    found = change("redis", [keys(0, held), keys(1, 0), keys(2, had)])
    assert (found is not None) is told
    assert found is None or not found.lost


def test_a_part_of_the_keys_is_compared_with_the_same_part_and_nothing_with_anything() -> None:
    assert change("redis", [keys(0, 3, "user:*"), keys(1, 900)]) is None
    assert change("redis", [keys(0, 3, "user:*"), keys(1, 900), keys(2, 100, "user:*")]) is not None
    told = change("redis", [keys(0, 0, "usr:*"), keys(1, 900)])
    assert told is not None
    assert "none matches 'usr:*', and " in str(told)


def test_sets_of_another_name_or_profile_and_damaged_ones_are_not_asked(tmp_path: Path) -> None:
    def held(days: int, number: int, name: str = "stack-backup") -> SetId:
        said = {"redis": {"keys": number}}
        made: SetId = planted(tmp_path, NOW - timedelta(days=days), "daily", name=name, components=said)
        return made

    old, damaged, failed = held(9, 100), held(3, 200), held(2, 300)
    held(1, 400, "another")
    (tmp_path / str(damaged) / "metadata.json").write_text("{")
    newest = BackupSet.open(tmp_path / str(held(0, 0))).metadata
    local = LocalRepository(tmp_path)
    [told] = changes(newest, local, damaged=[str(failed)])
    assert (told.before, told.command) == (old, f"understudy restore --component redis {old}")
    assert changes(newest, local, ["redis"]) == []
