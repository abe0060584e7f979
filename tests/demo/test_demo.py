"""What a user of `understudy demo` sees, on real servers."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Typed
from support import eventually
from understudy.backup.check import check
from understudy.backup.set import BackupSet
from understudy.demo import kill, story
from understudy.demo.failover import Failover
from understudy.demo.outcome import Outcome, Step
from understudy.demo.place import MARK
from understudy.demo.show import show
from understudy.demo.tell import Mute, Plain
from understudy.drill.findings import Budget
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Mode, Target

pytestmark = pytest.mark.long(90)
STEPS = ["start", "fill", "backup", "check", "record", "wipe", "restore", "verify", "compare"]
STEPS += ["break", "recount"]
KEYS = 2008  # 2,000, and eight with odd names


def listening(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports_in(text: str) -> list[int]:
    [(first, last)] = re.findall(r"ports (\d+)-(\d+)", text)
    return list(range(int(first), int(last) + 1))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "demo"


def test_the_whole_story_as_data(typed: Typed, place: Path) -> None:
    ran = typed("demo", "--keys", "2000", "--out-dir", str(place), "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    told: dict[str, Any] = json.loads(ran.stdout)

    assert told["verdict"] == "passed"
    assert [step["name"] for step in told["steps"]] == STEPS
    assert all(step["took_s"] > 0 and step["figure"] for step in told["steps"])
    assert told["keys"] == told["backup"]["keys"] == told["restored"]["restored"] == KEYS
    assert told["keys_after_wipe"] == 0
    assert set(told["types"]) == {"string", "list", "set", "zset", "hash", "stream"}
    assert sum(told["types"].values()) == sum(told["kinds"].values()) == KEYS
    assert told["expiring"] > 0
    assert told["functions"] == told["backup"]["functions"] == told["restored"]["functions"] == 1
    assert told["verified"]["clean"] is True
    assert told["verified"]["compared"] == KEYS
    assert told["digests"] == {
        "compared": KEYS, "equal": KEYS, "different": 0, "missing": 0, "extra": 0, "examples": [],
    }  # fmt: skip
    assert [len(shard["replicas"]) for shard in told["shards"]] == [1, 1, 1]
    assert sum(shard["slot_count"] for shard in told["shards"]) == 16384
    assert sum(shard["keys"] for shard in told["shards"]) == KEYS
    assert not any(listening(port) for port in ports_in(told["steps"][0]["figure"]))

    drill = told["failover"]["drill"]
    judged = drill["legs"][0]["runs"][0]["clients"][0]
    assert drill["verdict"]["word"] == "passed"
    assert drill["judged"] == [judged["name"]] == ["recommended"]
    assert judged["recovered"] and judged["consistency"]["checked"]
    assert 0.5 < judged["downtime_s"] < 10
    assert told["failover"]["survived"]["equal"] == KEYS
    assert told["failover"]["functions_same"] is True
    assert re.fullmatch(
        r"node-4 promoted after [\d.]+ s, the client .+; \d+ of \d+ acknowledged writes lost",
        told["steps"][STEPS.index("break")]["figure"],
    )

    backup = BackupSet.open(place / told["backup"]["directory"])
    assert check(backup, Silent()) == KEYS
    assert (place / told["backup"]["archive"]).stat().st_size == told["backup"]["archive_size"]
    assert Path(told["report"]) == place / "report.html"
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "<h2>Passed</h2>" in page
    assert told["backup"]["id"] in page
    assert "2,008" in page
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)', page) == ["drill.html"]
    assert "<script" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    assert page.count("promoted: node-4 is now primary") == page.count("killed node-1") > 0
    assert Path(told["drill_report"]) == place / "drill.html"
    assert "<h1>Drill: failover</h1>" in (place / "drill.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def with_a_straggler(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A demo that was seen, to which a late write of the load was added after its failover."""
    late = Saboteur("break", b"SET", b"drill:late", b"1")
    return show(tmp_path_factory.mktemp("failover") / "demo", 100, Silent(), late).outcome


@pytest.fixture
def failover(with_a_straggler: Outcome) -> Failover:
    """A failover that was seen: for tests that are about something else, since it takes its time."""
    return with_a_straggler.failover


@pytest.fixture
def without_failover(monkeypatch: pytest.MonkeyPatch, failover: Failover) -> None:
    monkeypatch.setattr(story, "kill_a_primary", lambda *_: failover)


@pytest.mark.usefixtures("without_failover")
def test_the_whole_story_as_text_and_again_in_the_same_place(typed: Typed, place: Path) -> None:
    first = typed("demo", "--keys", "300", "--out-dir", str(place))
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.isascii()
    lines = first.stdout.splitlines()
    numbered = [line for line in lines if re.match(r"[ \d]\d\. .* ok +[\d.]+ m?s  \S", line)]
    assert [int(line[:2]) for line in numbered] == list(range(1, 12))
    assert "DBSIZE 308 -> 0" in first.stdout
    assert "308 of 308 equal" in first.stdout
    assert re.search(r"^PASSED in [\d.]+ m?s: All 308 keys", first.stdout, re.MULTILINE)
    assert re.search(r"recommended: at most [\d.]+ s without a success \(10 s are allowed\)", first.stdout)
    assert lines[-7:] == [
        f"Report: {place}/report.html",
        "",
        "Try next:",
        "  understudy up cluster",
        "  understudy backup",
        "  understudy restore latest --dry-run",
        "  understudy drill cluster --html drill.html",
    ]

    (place / "mine.txt").write_text("not the demo's")
    before = {path.name for path in place.iterdir()}
    show(place, 300, Silent(), Mute())
    after = {path.name for path in place.iterdir()}
    assert len(after) == len(before), "the older set is still there"
    assert len(after - before) == 2, "a new set and its archive"
    assert "mine.txt" in after


def test_a_directory_that_is_not_ours_is_refused_and_left_alone(typed: Typed, place: Path) -> None:
    place.mkdir()
    (place / "precious").write_text("data")
    ran = typed("demo", "--keys", "10", "--out-dir", str(place))
    assert ran.returncode == 14
    assert "no demo made it" in ran.stderr
    assert "--out-dir" in ran.stderr
    assert [path.name for path in place.iterdir()] == ["precious"]


def test_a_file_is_refused(typed: Typed, place: Path) -> None:
    place.write_text("a file")
    assert typed("demo", "--out-dir", str(place)).returncode == 14
    assert place.read_text() == "a file"


def test_a_second_demo_in_the_same_place_is_refused(typed: Typed, place: Path) -> None:
    place.mkdir()
    with (place / MARK).open("a") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        ran = typed("demo", "--out-dir", str(place), "--json")
    assert ran.returncode == 14
    assert json.loads(ran.stdout)["exit_code"] == 14


class Saboteur(Plain):
    """Tells the story, and spoils the cluster once a step has ended."""

    def __init__(self, after: str, *command: bytes) -> None:
        self.said = io.StringIO()
        super().__init__(self.said)
        self._after, self._command = after, command

    def done(self, number: int, step: Step) -> None:
        super().done(number, step)
        if step.name == "start":
            self.port = ports_in(step.figure)[0]
        if step.name == self._after:
            with Router(Target((Address("127.0.0.1", self.port),), Mode.OSS_CLUSTER)) as router:
                key = self._command[2 if self._command[0] == b"XGROUP" else 1]
                assert router.execute([(key_slot(key), self._command)]).values[0] in (1, [1], 11, b"OK")


@pytest.mark.usefixtures("without_failover")
@pytest.mark.parametrize(
    ("command", "found"),
    [
        ((b"DEL", b"{tag}:a"), {"missing": 1}),
        ((b"APPEND", b"{tag}:a", b"!"), {"value_mismatch": 1}),
        ((b"PEXPIRE", b"{tag}:a", b"999999999"), {"ttl_mismatch": 1}),
        ((b"SET", b"uninvited", b"guest"), {"extra": 1}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_whatever_differs_after_the_restore_is_found_and_fails(
    place: Path, command: tuple[bytes, ...], found: dict[str, int]
) -> None:
    teller = Saboteur("restore", *command)
    shown = show(place, 100, Silent(), teller)
    outcome = shown.outcome
    assert outcome.verdict.word == "failed"
    assert {name: getattr(outcome.verified, name) for name in found} == found
    assert not outcome.digests.all_equal
    assert re.search(r"^ 8\. .* NO ", teller.said.getvalue(), re.MULTILINE)
    assert "FAILED" in teller.said.getvalue()
    page = shown.report.read_text(encoding="utf-8")
    assert "<h2>Failed</h2>" in page
    assert command[1].decode() in page
    assert "Not as it should be: missing=" in page
    assert '<strong class="state failed">1</strong>' in page


@pytest.mark.usefixtures("without_failover")
@pytest.mark.parametrize(
    "command",
    [
        (b"XGROUP", b"SETID", b"sample:stream-groups:22", b"workers", b"5-1"),
        (b"HPERSIST", b"sample:hash-field-ttl:20", b"FIELDS", b"1", b"goes"),
    ],
)
def test_what_digests_do_not_cover_is_found_by_verify_as_the_report_says(
    place: Path, command: tuple[bytes, ...]
) -> None:
    outcome = show(place, 100, Silent(), Saboteur("restore", *command)).outcome
    assert outcome.verdict.word == "failed"
    assert outcome.verified.value_mismatch == 1
    assert outcome.digests.all_equal


def test_what_a_failover_took_away_is_found_and_fails(place: Path) -> None:
    teller = Saboteur("break", b"DEL", b"{tag}:a")
    outcome = show(place, 100, Silent(), teller).outcome
    assert outcome.verdict.word == "failed"
    assert outcome.digests.all_equal
    assert outcome.failover.survived.missing == 1
    assert "{tag}:a" in " ".join(outcome.verdict.reasons)
    assert re.search(r"^11\. .* NO ", teller.said.getvalue(), re.MULTILINE)


def test_a_straggler_of_the_load_is_not_taken_for_a_key_that_changed(with_a_straggler: Outcome) -> None:
    assert with_a_straggler.verdict.word == "passed"
    assert with_a_straggler.failover.survived.extra == 0


def test_a_failover_that_costs_more_than_is_allowed_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    strict = kill.SCENARIO.model_copy(update={"budget": Budget(max_downtime_s=0.1)})
    monkeypatch.setattr(kill, "SCENARIO", strict)
    teller = Plain(said := io.StringIO())
    shown = show(place, 100, Silent(), teller)
    verdict = shown.outcome.verdict
    assert verdict.word == "failed"
    assert "came back with the same value" in verdict.sentence
    assert re.search(
        r"recommended: shard 1 was without a success for [\d.]+ s; 0.1 s are allowed", str(verdict.reasons)
    )
    assert re.search(r"^10\. .* NO ", said.getvalue(), re.MULTILINE)
    page = shown.report.read_text(encoding="utf-8")
    assert "<h2>Failed</h2>" in page
    assert 'A primary dies: <span class="state failed">failed</span>' in page


def descendants(of: int) -> set[int]:
    """Return the processes that a process started, and theirs."""
    found: set[int] = set()
    for children in Path(f"/proc/{of}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | descendants(child)
    return found


@pytest.mark.parametrize(
    ("during", "number", "code"),
    [
        ("backup", signal.SIGTERM, 143),
        ("failover", signal.SIGINT, 130),
        pytest.param("backup", signal.SIGINT, 130, marks=pytest.mark.soak),
        pytest.param("failover", signal.SIGTERM, 143, marks=pytest.mark.soak),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_interrupted_it_leaves_neither_processes_nor_files(
    understudy_home: Path, place: Path, during: str, number: signal.Signals, code: int
) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "understudy", "demo", "--keys", "3000", "--out-dir", str(place)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ},
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(running.kill)
        assert running.stdout
        assert running.stderr
        seen = ""
        while not seen.startswith(" 3. " if during == "backup" else " 9. "):
            seen = running.stdout.readline()
            assert seen, running.communicate()
        while during == "failover" and seen != "killed node-1\n":
            seen = running.stderr.readline()
            assert seen, running.communicate()
        processes = descendants(running.pid)
        commands = [Path(f"/proc/{one}/cmdline").read_bytes() for one in processes]
        assert sum(b"drill.workload" in one for one in commands) == (4 if during == "failover" else 0)
        directories = {Path(f"/proc/{one}/cwd").readlink() for one in processes} - {Path.cwd()}
        assert directories, "servers run in the directory of the lab"
        if number == signal.SIGINT:
            os.killpg(running.pid, number)  # as a terminal does it: everyone in the group hears it
        else:
            running.send_signal(number)
        _, complaints = running.communicate(timeout=30)
    assert running.returncode == code, complaints
    assert "Traceback" not in complaints
    eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in processes))
    assert {path.name for path in place.iterdir()} <= {MARK, ".lock"}
    assert not any(directory.exists() for directory in directories)


@pytest.mark.usefixtures("without_failover")
def test_the_exit_code_of_a_demo_that_failed_is_15(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """The command itself, with a teller that spoils the cluster instead of the one for the terminal."""
    from typer.testing import CliRunner

    from understudy.cli.main import app
    from understudy.demo import tell
    from understudy.errors import VerdictError

    monkeypatch.setattr(tell, "for_output", lambda *_, **__: Saboteur("restore", b"DEL", b"{tag}:a"))
    result = CliRunner().invoke(app, ["demo", "--keys", "50", "--out-dir", str(place)])
    assert isinstance(result.exception, VerdictError)
    assert result.exception.exit_code == 15
    monkeypatch.setattr(tell, "Mute", lambda: Saboteur("restore", b"DEL", b"{tag}:a"))
    result = CliRunner().invoke(app, ["demo", "--keys", "50", "--out-dir", str(place), "--json"])
    assert result.exit_code == 15
    assert json.loads(result.stdout)["verdict"] == "failed"
