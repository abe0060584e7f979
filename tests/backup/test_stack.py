"""A whole stack as one set: PostgreSQL, a Valkey cluster and the stand-in for Qdrant, side by side and back."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Typed
from stack import SUBJECTS, Subject, children
from support import eventually, started
from understudy.backup.archive import ArchiveWriter
from understudy.backup.check import check
from understudy.backup.component import Component, RestoreOptions, Taken
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import find, peek
from understudy.backup.restore import bring_back, keeper, opened
from understudy.backup.set import BackupSet, FileEntry
from understudy.backup.take import take
from understudy.backup.together import Cancelled
from understudy.errors import IncompleteError, IntegrityError, NotFoundError, RefusedError, UnreachableError
from understudy.progress import Progress, Silent


class Fake:
    """A component that writes one file, and fails or dawdles where it is told to."""

    title = "Fake"

    def __init__(self, name: str, *, seconds: float = 0.0, error: BaseException | None = None) -> None:
        self.name, self._seconds, self._error = name, seconds, error
        self.ended: list[str] = []
        self.begun = threading.Event()

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:
        self.begun.set()
        end = time.monotonic() + self._seconds
        try:
            while time.monotonic() < end:
                progress.advance(1)
                time.sleep(0.005)
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        if self._error:
            raise self._error
        (into / self.name).mkdir()
        (into / self.name / "data").write_bytes(b"data")
        return Taken((), (FileEntry(f"{self.name}/data", 4, _DATA),), {"summary": "1 file"})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


_DATA = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"


def take_fakes(folder: Path, *fakes: Fake, optional: Sequence[str] = ()) -> BackupSet:
    return take(fakes, LocalRepository(folder), None, "local", Silent(), optional=optional).backup  # type: ignore[arg-type]


@pytest.fixture
def subjects(request: pytest.FixtureRequest) -> list[Subject]:
    found = [request.getfixturevalue(f"{name}_subject") for name in SUBJECTS]
    for subject in found:
        subject.fill()
    return found


@pytest.fixture
def env(subjects: list[Subject], tmp_path: Path) -> dict[str, str]:
    named = {name: value for subject in subjects for name, value in subject.env.items()}
    return {**named, "BACKUP_DIR": str(tmp_path / "sets")}


@pytest.fixture
def components(subjects: list[Subject]) -> Iterator[list[Component]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(subject.component())) for subject in subjects]


def test_components_are_read_side_by_side_and_the_span_is_recorded(tmp_path: Path) -> None:
    begun = time.monotonic()
    backup = take_fakes(tmp_path, *(Fake(name, seconds=0.6) for name in ("a", "b", "c")))
    assert time.monotonic() - begun < 1.5
    assert 0.55 < (backup.metadata.span_s or 0) < 1.4
    assert list(backup.metadata.components) == ["a", "b", "c"]
    assert backup.metadata.id.name == "stack-backup"


def test_a_failed_component_fails_the_set_is_named_and_ends_the_others(tmp_path: Path) -> None:
    slow, failing = Fake("slow", seconds=30), Fake("bad", error=UnreachableError("dumping app", "connection refused"))
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match="taking bad: dumping app: connection refused") as raised:
        take_fakes(tmp_path, slow, failing)
    assert raised.value.exit_code == 10
    assert time.monotonic() - begun < 5
    assert slow.ended == [Cancelled.__name__]
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_an_optional_component_that_fails_is_named_as_missing(tmp_path: Path) -> None:
    bad = Fake("bad", error=UnreachableError("dumping app", "connection refused"))
    backup = take_fakes(tmp_path, Fake("good", seconds=0.2), bad, optional=["bad"])
    assert backup.metadata.missing == {"bad": "dumping app: connection refused"}
    assert list(backup.metadata.components) == ["good"]
    with pytest.raises(UnreachableError):  # a set of nothing is none
        take_fakes(tmp_path, bad, optional=["bad"])


def test_what_nobody_expected_of_an_optional_component_is_told_without_its_words(tmp_path: Path) -> None:
    bad = Fake("bad", error=ValueError("postgresql://user:planted-secret@host"))
    backup = take_fakes(tmp_path, Fake("good"), bad, optional=["bad"])
    assert backup.metadata.missing == {"bad": "a bug: ValueError"}


def test_a_file_that_is_dense_is_stored_and_one_that_is_not_is_squeezed(tmp_path: Path) -> None:
    dense, sparse = random.Random(1).randbytes(3 << 20), b"the same again. " * (200 << 10)
    sizes = {}
    for name, data in {"dense": dense, "sparse": sparse, "empty": b"", "tiny": b"x"}.items():
        (tmp_path / name).write_bytes(data)
        writer = ArchiveWriter(tmp_path / f"{name}.tar.gz", "x", 0)
        writer.add_file(name, tmp_path / name)
        writer.finish()
        sizes[name] = (tmp_path / f"{name}.tar.gz").stat().st_size
        out = subprocess.run(["tar", "xzOf", tmp_path / f"{name}.tar.gz"], capture_output=True, check=True).stdout
        assert out == data
    assert sizes["dense"] < len(dense) * 1.001 + 500
    assert sizes["sparse"] < len(sparse) / 50


def test_a_long_name_and_a_great_size_stand_in_an_archive(tmp_path: Path) -> None:
    import tarfile

    writer = ArchiveWriter(tmp_path / "x.tar.gz", "s" * 64, 0)
    for size in (5, 9 << 30):
        header = writer._header("postgres/" + "n" * 60 + ".dump.gz.age", size)
        found = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        assert (found.size, found.name) == (size, "s" * 64 + "/postgres/" + "n" * 60 + ".dump.gz.age")
    writer.close()


def test_the_whole_stack_is_destroyed_restored_and_equal(
    subjects: list[Subject], components: list[Component], tmp_path: Path
) -> None:
    local = LocalRepository(tmp_path)
    taken = take(components, local, None, "local", Silent(), tier="daily")
    backup = taken.backup
    assert check(backup, Silent()) == backup.metadata.keys
    assert peek(local, local.sets()[0]) == backup.metadata
    shutil.rmtree(backup.directory)  # from here on there is only the archive
    assert peek(local, local.sets()[0]) == backup.metadata
    assert (backup.metadata.tier, list(backup.metadata.components)) == ("daily", [*SUBJECTS])
    for subject in subjects:
        subject.destroy()
    with opened("latest", local, None, Silent(), "local", SUBJECTS) as again:
        outcome = bring_back(again, components, RestoreOptions(overwrite=True), Silent())
        outcome.raise_failure("it")
        assert [component.compare(again, Silent()).differences for component in components] == [(), (), ()]


def test_latest_is_never_a_safety_set_and_holds_what_was_asked_for(components: list[Component], tmp_path: Path) -> None:
    local = LocalRepository(tmp_path)
    whole = take(components, local, None, "local", Silent()).backup.metadata.id
    only = take(components[1:2], local, None, "local", Silent()).backup.metadata.id
    keeper(local, "local", None, Silent())(components)
    assert find(local, "latest", "local").id == only
    assert find(local, "latest", "local", ["redis"]).id == only
    assert find(local, "latest", "local", ["postgres"]).id == whole
    with pytest.raises(NotFoundError, match="holds nothing-like-it"):
        find(local, "latest", "local", ["nothing-like-it"])


def damaged(backup: BackupSet, other: BackupSet, folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the set in turn: missing, truncated, one bit flipped, replaced by another set's."""
    chance = random.Random(3)
    for path in ("metadata.json", *(entry.path for entry in backup.metadata.files)):
        for damage in ("missing", "truncated", "flipped", "another's"):
            copy = folder / f"{damage}-{path.replace('/', '-')}" / backup.directory.name
            shutil.copytree(backup.directory, copy)
            victim = copy / path
            data = bytearray(victim.read_bytes())
            if damage == "missing":
                victim.unlink()
            elif damage == "truncated":
                victim.write_bytes(data[: chance.randrange(len(data))] if data else b"x")
            elif damage == "flipped":
                data = data or bytearray(b"x")
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                victim.write_bytes(data)
            elif (theirs := (other.directory / path).read_bytes()) != data:
                victim.write_bytes(theirs)
            else:
                continue  # two sets may hold the same globals: then nothing is damaged
            yield f"{damage} {path}", copy


def test_each_damage_to_each_file_is_found_and_no_server_is_touched(
    subjects: list[Subject], components: list[Component], tmp_path: Path
) -> None:
    local = LocalRepository(tmp_path / "sets")
    backup = take(components, local, None, "local", Silent()).backup
    for subject in subjects:
        subject.fill(2)
    for component in components:
        component.close()  # PostgreSQL ended its connection with the database
    other = take(components, local, None, "local", Silent()).backup
    for subject in subjects:
        subject.destroy()
    tried = 0
    for what, place in damaged(backup, other, tmp_path / "damaged"):
        with pytest.raises(IntegrityError) as found, opened(str(place), local, None, Silent()) as bad:
            if "another's metadata" in what:  # a whole set's metadata, of other files
                assert bad.metadata.id == other.metadata.id
            check(bad, Silent())
        assert found.value.exit_code == 12, what
        with pytest.raises(IntegrityError), opened(str(place), local, None, Silent()) as bad:
            bring_back(bad, components, RestoreOptions(overwrite=True), Silent())
        shutil.rmtree(place)
        tried += 1
    assert tried > 4 * 5
    for component in components:
        assert component.overwrites(backup, RestoreOptions(overwrite=True)) == [], "a server was touched"


def test_when_one_store_fails_the_others_are_restored_and_named(
    subjects: list[Subject], components: list[Component], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = take(components, LocalRepository(tmp_path), None, "local", Silent()).backup
    for subject in subjects:
        subject.destroy()

    def fail(*_: object) -> None:
        raise UnreachableError("uploading", "it went away", "Start it.")

    monkeypatch.setattr(components[0], "restore", fail)
    outcome = bring_back(backup, components, RestoreOptions(overwrite=True), Silent())
    assert set(outcome.reports) == {"redis", "qdrant"}
    with pytest.raises(IncompleteError, match="postgres failed") as raised:
        outcome.raise_failure("it")
    assert "postgres was not restored: uploading: it went away" in raised.value.items
    assert {"redis is restored", "qdrant is restored"} <= set(raised.value.items)
    alone = bring_back(backup, components[:1], RestoreOptions(), Silent())
    with pytest.raises(UnreachableError):  # nothing was restored: its own error, its own exit code
        alone.raise_failure("it")


def test_what_a_restore_would_replace_is_agreed_to_and_kept_first(
    subjects: list[Subject], components: list[Component], tmp_path: Path
) -> None:
    local = LocalRepository(tmp_path)
    backup = take(components, local, None, "local", Silent()).backup
    subjects[2].destroy()
    asked: list[str] = []
    keep = keeper(local, "local", None, Silent())
    outcome = bring_back(backup, components, RestoreOptions(), Silent(), agree=asked.extend, keep=keep)
    assert len(asked) == 1
    assert asked[0].startswith("PostgreSQL ")
    assert outcome.safety
    kept = outcome.safety.backup.metadata
    assert (kept.id.name, kept.tier, list(kept.components)) == ("safety", "safety", ["postgres"])

    def no(_: object) -> None:
        raise RefusedError("restoring", "no")

    before = len(local.sets())
    with pytest.raises(RefusedError):
        bring_back(backup, components, RestoreOptions(), Silent(), agree=no, keep=keep)
    assert len(local.sets()) == before


def test_the_command_backs_up_says_what_it_would_do_asks_and_restores(
    typed: Typed, subjects: list[Subject], env: dict[str, str]
) -> None:
    done = typed("backup", env={**env, "BACKUP_OPTIONAL": "qdrant"})
    assert done.returncode == 0, done.stderr
    for line in (r"PostgreSQL: stack_app: 2 tables, 3,100 rows", r"Redis: 208 keys", r"Qdrant: 300 vectors", "Span: "):
        assert re.search(line, done.stdout), done.stdout
    listed = json.loads(typed("list", "--json", env=env).stdout)
    assert listed[0]["components"] == [*SUBJECTS]
    assert listed[0]["tier"] is None
    dry = typed("restore", "--dry-run", "latest", env=env)
    assert dry.returncode == 0, dry.stderr
    assert re.search(
        r"^\[DRY RUN\] Would restore PostgreSQL from: postgres/stack_app.dump \(database stack_app, 2 tables\)$",
        dry.stdout, re.MULTILINE,
    )  # fmt: skip
    assert re.search(r"^\[DRY RUN\] Would restore Redis from: keys/", dry.stdout, re.MULTILINE)
    assert re.search(r"^\[DRY RUN\] Would restore Qdrant from: qdrant/", dry.stdout, re.MULTILINE)
    refused = typed("restore", "latest", env=env)
    assert (refused.returncode, refused.stdout) == (14, "")
    assert "stack_app" in refused.stderr
    assert "scholaria_documents" in refused.stderr
    subjects[1].destroy()
    alone = typed("restore", "--component", "redis", "latest", env={"BACKUP_DIR": env["BACKUP_DIR"], **subjects[1].env})
    assert alone.returncode == 0, alone.stderr
    assert "restored=208" in alone.stdout
    unset = typed("restore", "latest", env={"BACKUP_DIR": env["BACKUP_DIR"], **subjects[1].env})
    assert unset.returncode == 2
    assert "POSTGRES_URL" in unset.stderr
    guessed = typed("restore", "latest", env={"BACKUP_DIR": env["BACKUP_DIR"], **subjects[0].env, **subjects[2].env})
    assert guessed.returncode == 2
    assert "REDIS_URL" in guessed.stderr
    subjects[0].destroy()
    forced = typed("restore", "--force", "latest", env=env)
    assert forced.returncode == 0, forced.stdout + forced.stderr
    assert "understudy restore safety-local-" in forced.stderr
    told = json.loads(typed("restore", "--force", "--no-safety-set", "--json", "latest", env=env).stdout)
    assert told["safety_set"] is None
    assert set(told["components"]) == {*SUBJECTS}
    assert typed("check", "latest", env=env).returncode == 0
    part = typed("restore", "--table", "public.topics", "--into-database", "stack_rescue", "latest", env=env)
    assert part.returncode == 0, part.stderr
    assert "tables=1" in part.stdout
    assert "redis" not in part.stdout  # who names a table means no other store
    assert typed("restore", "--component", "redis", "--table", "public.topics", "latest", env=env).returncode == 2


def test_a_missing_optional_store_is_told_by_backup_check_and_restore(
    typed: Typed, subjects: list[Subject], env: dict[str, str]
) -> None:
    env["QDRANT_URL"] = "http://127.0.0.1:9"
    failed = typed("backup", env=env)
    assert failed.returncode == 10
    assert "taking qdrant: " in failed.stderr
    assert not json.loads(typed("list", "--json", env=env).stdout)
    done = typed("backup", "--json", env={**env, "BACKUP_OPTIONAL": "qdrant"})
    assert done.returncode == 0
    assert list(json.loads(done.stdout)["missing"]) == ["qdrant"]
    assert list(json.loads(typed("check", "--json", env=env).stdout)["missing"]) == ["qdrant"]
    asked = typed("restore", "--component", "qdrant", listed(env)[0], env=env)
    assert asked.returncode == 11
    assert "missing when the set was taken" in asked.stderr


def listed(env: dict[str, str]) -> list[str]:
    return [str(stored.id) for stored in LocalRepository(Path(env["BACKUP_DIR"])).sets()]


def test_ctrl_c_ends_a_backup_of_a_stack_promptly_and_leaves_nothing(
    subjects: list[Subject], env: dict[str, str], tmp_path: Path
) -> None:
    subjects[0].grow()
    before = children()
    process = started("backup", "--max-rate", "100", env=env)  # redis would take seconds
    eventually(lambda: list((tmp_path / "sets").glob(".partial-*/set-postgres/postgres/*")))
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, said = process.communicate(timeout=10)
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not [path.name for path in (tmp_path / "sets").iterdir() if path.is_dir() or path.suffix == ".gz"]
    eventually(lambda: children() <= before)


_MEASURE = """
import resource, sys
from pathlib import Path
from understudy.backup.component import Taken
from understudy.backup.set import FileEntry
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.take import take
from understudy.progress import Silent
import hashlib, os
class Big:
    name = title = "redis"
    def connect(self): pass
    def take(self, work, into, progress):
        (into / "redis").mkdir()
        digest = hashlib.sha256()
        with (into / "redis" / "data").open("wb") as file:
            for _ in range(int(sys.argv[2])):
                data = os.urandom(1 << 20)
                digest.update(data)
                file.write(data)
        return Taken((), (FileEntry("redis/data", int(sys.argv[2]) << 20, digest.hexdigest()),), {})
take([Big()], LocalRepository(Path(sys.argv[1])), None, "local", Silent())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_is_flat_in_the_size_of_a_file(tmp_path: Path) -> None:
    def peak_kib(name: str, mebibytes: int) -> int:
        words = [sys.executable, "-c", _MEASURE, str(tmp_path / name), str(mebibytes)]
        return int(subprocess.run(words, capture_output=True, check=True, text=True, env=os.environ).stdout)

    assert peak_kib("large", 40) < peak_kib("small", 4) + (16 << 10)
