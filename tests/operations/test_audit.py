"""The audit log: every deed stands in it, and whatever is done to its lines shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.errors import IntegrityError, UnreachableError
from understudy.operations import audit as module
from understudy.operations.audit import Audit
from understudy.operations.deeds import Entry, deeds

MOMENT = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def filled(directory: Path, count: int = 4) -> Audit:
    """A log of twice so many lines."""
    audit = Audit(directory, clock=lambda: MOMENT)
    for number in range(count):
        with audit.recorded("backup", tier="daily", components=("redis",)) as record:
            record.set = f"redis-backup-local-20261121T02000{number}Z-1f3a"
    return audit


def child(code: str, directory: Path) -> subprocess.Popen[bytes]:
    prologue = "import os, sys\nfrom pathlib import Path\nfrom understudy.operations import audit as module\n"
    prologue += "from understudy.operations.audit import Audit\naudit = Audit(Path(sys.argv[1]))\n"
    return subprocess.Popen([sys.executable, "-c", prologue + code, str(directory)])


def test_a_deed_stands_in_two_lines_that_only_the_owner_can_read(tmp_path: Path) -> None:
    audit = filled(tmp_path / "sets", 1)
    began, ended = (json.loads(line) for line in audit.path.read_text().splitlines())
    assert (began["action"], began["phase"], began["tier"], began["outcome"]) == ("backup", "began", "daily", None)
    assert (ended["phase"], ended["outcome"], ended["set"]) == (
        "ended", "ok", "redis-backup-local-20261121T020000Z-1f3a",
    )  # fmt: skip
    assert began["run"] == ended["run"]
    assert ended["seconds"] >= 0
    assert began["at"] == "2026-11-21T02:00:00.000+00:00"
    assert "@" in began["actor"]
    for path in (audit.path, tmp_path / "sets" / "audit.head"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert audit.broken() is None
    assert [deed.outcome for deed in deeds(audit.entries())] == ["ok"]


def test_an_error_is_recorded_without_the_credentials_of_its_urls_and_goes_on_its_way(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    why = "no answer from redis://backup:hunter2@db.example.com:6379"
    with pytest.raises(UnreachableError), audit.recorded("backup"):
        raise UnreachableError("reading", why)
    with pytest.raises(KeyboardInterrupt), audit.recorded("restore"):
        raise KeyboardInterrupt
    with pytest.raises(SystemExit), audit.recorded("check"):
        raise SystemExit(0)
    assert [(deed.outcome, deed.detail) for deed in deeds(audit.entries())] == [
        ("failed", "reading: no answer from redis://***@db.example.com:6379"),
        ("failed", "interrupted"),
        ("ok", None),
    ]


def test_a_check_that_could_not_be_done_says_nothing_about_the_set(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    for error in (KeyboardInterrupt(), UnreachableError("reading", "no answer"), IntegrityError("reading", "damaged")):
        with pytest.raises(type(error)), audit.recorded("check", set="a-set"):
            raise error
    assert [(deed.set, deed.outcome) for deed in deeds(audit.entries())] == [
        (None, "failed"), (None, "failed"), ("a-set", "failed"),
    ]  # fmt: skip


OLD = (
    '{"number":1,"at":"2026-11-21T02:00:00.000+00:00","actor":"ops@host","action":"backup","phase":"began",'
    '"run":"0123456789abcdef","set":null,"tier":"daily","components":[],"outcome":null,"seconds":null,"detail":null,'
    f'"found":[],"previous":"{"0" * 64}","hash":"f028a70e8e03f74d94cb45a568b0dec7b6874cd3372f8b85cb93362faecbecb6"}}'
)


def test_a_line_from_before_profiles_is_whole_and_goes_on(tmp_path: Path) -> None:
    audit = Audit(tmp_path, profile="prd")
    audit.path.write_text(OLD + "\n")
    (tmp_path / "audit.head").write_text(f'{{"number":1,"hash":"{json.loads(OLD)["hash"]}"}}\n')
    with audit.recorded("backup"):
        pass
    assert audit.broken() is None
    assert [entry.profile for entry in audit.entries()] == [None, "prd", "prd"]
    audit.path.write_text(audit.path.read_text().replace('"profile":"prd"', '"profile":"dev"', 1))
    assert audit.broken()


def test_what_fails_before_there_is_a_directory_makes_none(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "sets")
    with pytest.raises(ZeroDivisionError), audit.recorded("backup", make=False):
        raise ZeroDivisionError
    assert not audit.directory.exists()
    with audit.recorded("backup", make=False):
        audit.directory.mkdir()
    assert [(entry.phase, entry.outcome) for entry in audit.entries()] == [("began", None), ("ended", "ok")]


def test_what_began_and_never_ended_is_known(tmp_path: Path) -> None:
    process = child("with audit.recorded('backup', tier='daily'): os.kill(os.getpid(), 9)", tmp_path)
    assert process.wait(30) == -signal.SIGKILL
    audit = filled(tmp_path, 1)
    assert [deed.outcome for deed in deeds(audit.entries())] == [None, "ok"]
    assert audit.broken() is None


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_that_is_changed_is_found(tmp_path: Path, data: st.DataObject) -> None:
    audit = filled(tmp_path / "one") if not (tmp_path / "one").exists() else Audit(tmp_path / "one")
    path = data.draw(st.sampled_from([audit.path, tmp_path / "one" / "audit.head"]))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    try:
        path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        assert audit.broken()
    finally:
        path.write_bytes(whole)
    assert audit.broken() is None


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "after-more-was-written"])
@pytest.mark.parametrize("what", ["remove", "swap", "repeat", "forge", "cut", "cut-all", "gone", "headless-cut"])
def test_a_line_that_is_removed_moved_inserted_or_cut_off_is_found(tmp_path: Path, what: str, later: bool) -> None:
    audit = filled(tmp_path)
    lines = audit.path.read_bytes().splitlines(keepends=True)
    fourth = Entry.decode(lines[3].rstrip())
    assert fourth
    forged = Entry(**{**vars(fourth), "outcome": "failed"}).sealed().encode() + b"\n"
    changed = {
        "remove": lines[:3] + lines[4:],
        "swap": [*lines[:3], lines[4], lines[3], *lines[5:]],
        "repeat": [*lines[:4], lines[3], *lines[4:]],
        "forge": [*lines[:3], forged, *lines[4:]],
        "cut": lines[:-1],
        "cut-all": [],
        "gone": [],
        "headless-cut": lines[:-2],
    }[what]
    audit.path.write_bytes(b"".join(changed))
    if what == "gone":
        audit.path.unlink()
    if what == "headless-cut":
        (tmp_path / "audit.head").unlink()
    if later:
        with audit.recorded("backup"):
            pass
    assert audit.broken()


def test_the_last_line_rewritten_with_a_hash_that_fits_is_found(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    *before, last = audit.path.read_bytes().splitlines(keepends=True)
    entry = Entry.decode(last.rstrip())
    assert entry
    audit.path.write_bytes(b"".join(before) + Entry(**{**vars(entry), "outcome": "failed"}).sealed().encode() + b"\n")
    assert "not the one that was written" in (audit.broken() or "")
    filled(tmp_path, 1)
    assert audit.broken()


@pytest.mark.parametrize("torn", [b'{"number":9,"at":"20', b"\0" * 300, b"\0" * 30 + b"\n", b"{"])
def test_a_torn_last_line_is_tolerated_and_told_in_the_next(tmp_path: Path, torn: bytes) -> None:
    audit = filled(tmp_path)
    with audit.path.open("ab") as file:
        file.write(torn)
    assert audit.broken() is None
    assert len(audit.entries()) == 8
    filled(tmp_path, 1)
    assert audit.broken() is None
    entries = audit.entries()
    assert len(entries) == 10
    assert [bool(entry.found) for entry in entries] == [False] * 8 + [True, False]
    audit.path.write_bytes(audit.path.read_bytes().replace(torn.rstrip(b"\n"), b"{{"))
    assert audit.broken()


def test_a_last_line_without_its_end_is_a_line(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    audit.path.write_bytes(audit.path.read_bytes()[:-1])
    assert audit.broken() is None
    filled(tmp_path, 1)
    assert audit.broken() is None
    assert len(audit.entries()) == 10


@pytest.mark.parametrize(
    "moment",
    [
        "module.write_file = lambda *_: os.kill(os.getpid(), 9)",  # the line is there, the head is not
        "module._add = lambda file, data: (os.write(file.fileno(), data[:40]), os.kill(os.getpid(), 9))",
    ],
    ids=["before-the-head", "in-the-line"],
)
def test_a_kill_between_two_writes_is_no_damage(tmp_path: Path, moment: str) -> None:
    for times in range(3):  # also again and again, and in an empty directory
        assert child(f"{moment}\nwith audit.recorded('backup'): pass", tmp_path).wait(30) == -signal.SIGKILL
        assert Audit(tmp_path).broken() is None
        if times == 1:
            filled(tmp_path, 1)
            assert Audit(tmp_path).broken() is None


def test_writers_of_several_processes_make_one_chain(tmp_path: Path) -> None:
    writers = [
        child("for _ in range(25):\n    with audit.recorded('check'): pass", tmp_path) for _ in range(4)
    ]  # fmt: skip
    while any(writer.poll() is None for writer in writers):
        assert Audit(tmp_path).broken() is None, "a reader saw the log between two writes"
    assert [writer.returncode for writer in writers] == [0] * 4
    audit = Audit(tmp_path)
    assert audit.broken() is None
    assert [entry.number for entry in audit.entries()] == list(range(1, 201))


def test_a_line_costs_the_same_behind_a_long_log(tmp_path: Path) -> None:
    audit = filled(tmp_path, 1)
    line = audit.path.read_bytes().splitlines(keepends=True)[-1]
    with audit.path.open("r+b") as file:  # a hundred megabytes before the last line, which nobody has to read
        file.truncate(100 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + line)
    with audit.path.open("rb") as file:
        reads: list[int] = []
        file_read = file.read

        class Counting:
            seek = staticmethod(file.seek)

            @staticmethod
            def read(size: int) -> bytes:
                reads.append(size)
                return file_read(size)

        assert module._tail(Counting())[0][0] == 2  # type: ignore[arg-type]
    assert sum(reads) <= 64 << 10
    begun = time.monotonic()
    filled(tmp_path, 1)
    assert time.monotonic() - begun < 2


def test_a_log_that_cannot_be_written_is_one_warning_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told: list[str] = []
    audit = Audit(tmp_path / "file" / "sets", warn=told.append)
    with audit.recorded("backup"):
        done = True
    assert done
    assert len(told) == 1
    assert "backup is not in the audit log" in told[0]
    with pytest.raises(ZeroDivisionError), audit.recorded("backup"):
        raise ZeroDivisionError


@pytest.mark.parametrize("where", ["line", "head"])
def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    audit = filled(tmp_path)
    before = audit.path.read_bytes()

    def half(file: object, data: bytes) -> None:
        os.write(file.fileno(), data[:20])  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_add" if where == "line" else "write_file", half if where == "line" else full)
    told: list[str] = []
    with Audit(tmp_path, warn=told.append).recorded("backup"):
        pass
    assert "No space left" in told[0]
    monkeypatch.undo()
    assert audit.path.read_bytes() == before
    assert audit.broken() is None
