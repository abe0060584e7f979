"""Two years of nights with a moved clock: exactly the right sets stand after every run, whatever went wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pytest

from nights import Nights, begun, live, quick_folder, settings_for
from s3 import BUCKET, S3Server
from understudy.backup.repositories.local import LocalRepository
from understudy.errors import IntegrityError
from understudy.operations.audit import Audit
from understudy.operations.deeds import Entry
from understudy.operations.tier import Tier

FIRST = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def summer_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A local time with summer time, which needs no time zone database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    # thousands of lines are read hundreds of times: each line is decoded once
    monkeypatch.setattr(Entry, "decode", lru_cache(None)(Entry.decode))
    yield
    monkeypatch.undo()
    time.tzset()


def test_four_months_of_nights(tmp_path: Path) -> None:
    with quick_folder(tmp_path) as folder:
        settings = settings_for(folder / "sets")
        counts = live(settings, FIRST, 120, random.Random(4), lambda: [begun(folder / "sets")])
    assert counts.deleted > 90
    assert min(counts.failed, counts.killed, len(counts.missed)) >= 2


def test_the_next_run_copies_the_set_of_a_killed_one_and_none_that_is_damaged(tmp_path: Path) -> None:
    sets, copies = tmp_path / "sets", tmp_path / "copies"
    copies.mkdir()
    nights = Nights(settings_for(sets, backup_offsite=(str(copies),)), FIRST)
    assert nights.run_killed(Tier.DAILY, "checking")
    assert (len(begun(sets)), len(begun(copies))) == (1, 0)
    nights.now += timedelta(days=1)
    nights.run(Tier.DAILY)
    assert begun(copies) == begun(sets)
    for archive in copies.iterdir():
        archive.unlink()
    first, second = (one.id for one in reversed(LocalRepository(sets).sets()))
    with pytest.raises(IntegrityError), Audit(sets, clock=lambda: nights.now).recorded("check", set=str(first)):
        raise IntegrityError("reading", "damaged")
    nights.now += timedelta(days=1)
    nights.run(Tier.WEEKLY)
    assert begun(copies) == {second.created, nights.now}


@pytest.mark.soak
def test_two_years_of_nights(tmp_path: Path) -> None:
    with quick_folder(tmp_path) as folder:
        settings = settings_for(folder / "sets")
        counts = live(settings, FIRST, 730, random.Random(5), lambda: [begun(folder / "sets")])
    assert counts.ok > 700
    assert counts.deleted > 650
    assert min(counts.failed, counts.killed, len(counts.missed)) > 10


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_two_years_of_nights_with_copies_in_another_directory(tmp_path: Path, seed: int) -> None:
    with quick_folder(tmp_path) as folder:
        (folder / "copies").mkdir()
        settings = settings_for(folder / "sets", backup_offsite=(str(folder / "copies"),))
        places = (folder / "sets", folder / "copies")
        counts = live(settings, FIRST, 730, random.Random(seed), lambda: [begun(place) for place in places])
    assert counts.deleted > 650


@pytest.mark.soak
def test_half_a_year_of_nights_with_copies_in_a_store(tmp_path: Path, s3_env: S3Server) -> None:
    uri = f"s3://{BUCKET}/nights"
    with quick_folder(tmp_path) as folder:
        settings = settings_for(folder / "sets", backup_s3_uri=uri)
        counts = live(settings, FIRST, 180, random.Random(11), lambda: [begun(folder / "sets"), begun(uri)])
    assert counts.deleted > 140
