"""What every component promises (`backup/component.py`), tried on each: `tests/stack.py` has their stores."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import SUBJECTS, Subject, children
from support import eventually
from understudy.backup.check import check
from understudy.backup.component import Component, RestoreOptions
from understudy.backup.components import NAMES, kind
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.restore import restore
from understudy.backup.set import BackupSet
from understudy.backup.take import take
from understudy.errors import IntegrityError, UnreachableError
from understudy.progress import Silent


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.getfixturevalue(f"{request.param}_subject")
    found.fill()
    return found


@pytest.fixture
def component(subject: Subject) -> Iterator[Component]:
    with contextlib.closing(subject.component()) as found:
        yield found


class Ended(BaseException):
    """What a progress raises to end the work."""


class Ending(Silent):
    """Ends the work once it has been told of something so many times."""

    def __init__(self, after: int) -> None:
        self._left = after

    def advance(self, amount: int) -> None:
        self._left -= 1
        if self._left <= 0:
            raise Ended


def options(subject: Subject) -> RestoreOptions:
    return RestoreOptions(overwrite=subject.overwrite)


def taken(component: Component, folder: Path) -> BackupSet:
    return take([component], LocalRepository(folder), None, "local", Silent()).backup


def test_every_component_is_tried_here() -> None:
    assert set(SUBJECTS) == set(NAMES)


def test_what_was_taken_is_there_again_after_everything_was_destroyed(
    subject: Subject, component: Component, tmp_path: Path
) -> None:
    backup = taken(component, tmp_path)
    check(backup, Silent())
    assert component.name == subject.name
    assert kind(subject.name).title == component.title
    recorded = backup.metadata.components[subject.name]
    assert recorded["began_at"] <= recorded["ended_at"]
    assert recorded.get("summary")
    found = component.compare(backup, Silent())
    assert found.differences == ()
    assert component.sources(backup)
    for source in component.sources(backup):  # each begins with a file or a folder of the set
        assert (backup.directory / source.partition(" ")[0]).exists(), source
    assert component.overwrites(backup, options(subject)), "it holds what a restore would replace"
    subject.destroy()
    assert component.compare(backup, Silent()).differences
    assert component.overwrites(backup, options(subject)) == []
    report = restore(backup, [component], options(subject), Silent())[subject.name]
    assert (report.failed, report.failures) == (0, [])
    after = component.compare(backup, Silent())
    assert after.differences == ()
    assert after.counted == found.counted
    # and once more, over what is there
    restore(backup, [component], options(subject), Silent())
    assert component.compare(backup, Silent()).differences == ()


def test_a_dry_run_writes_nothing(subject: Subject, component: Component, tmp_path: Path) -> None:
    backup = taken(component, tmp_path)
    subject.destroy()
    restore(backup, [component], RestoreOptions(dry_run=True), Silent())
    assert component.overwrites(backup, options(subject)) == []


@pytest.mark.parametrize("after", [1, 3])
def test_a_backup_that_is_ended_leaves_nothing(
    subject: Subject, component: Component, tmp_path: Path, after: int
) -> None:
    subject.grow()
    component.connect()
    before = children()
    begun = time.monotonic()
    with contextlib.suppress(Ended):
        take([component], LocalRepository(tmp_path), None, "local", Ending(after))
        pytest.fail("it was never told of progress")
    assert time.monotonic() - begun < 10
    eventually(lambda: children() <= before)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    taken(component, tmp_path)  # the store is as usable as before


def test_a_restore_that_is_ended_leaves_no_process_and_can_be_run_again(
    subject: Subject, component: Component, tmp_path: Path
) -> None:
    backup = taken(component, tmp_path)
    subject.destroy()
    before = children()
    with contextlib.suppress(Ended):
        component.restore(backup, options(subject), Ending(2))
    eventually(lambda: children() <= before)
    restore(backup, [component], options(subject), Silent())
    assert component.compare(backup, Silent()).differences == ()


def test_a_file_that_ends_too_early_cannot_be_read(subject: Subject, component: Component, tmp_path: Path) -> None:
    backup = taken(component, tmp_path / "sets")
    biggest = max(backup.metadata.files, key=lambda entry: entry.size)
    shutil.copytree(backup.directory, tmp_path / "cut")
    path = tmp_path / "cut" / biggest.path
    path.write_bytes(path.read_bytes()[: biggest.size // 2])
    with pytest.raises(IntegrityError):
        kind(subject.name).read_through(BackupSet(tmp_path / "cut", backup.metadata), Silent())


def test_a_store_that_does_not_answer_is_told_as_such(subject: Subject) -> None:
    with contextlib.closing(subject.nowhere()) as nowhere, pytest.raises(UnreachableError):
        nowhere.connect()


def test_closing_twice_and_unused_is_harmless(subject: Subject) -> None:
    component = subject.component()
    component.close()
    component.connect()
    component.close()
    component.close()
