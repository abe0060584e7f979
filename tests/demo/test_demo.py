"""What a user of `understudy demo` sees, on real servers."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Typed
from support import eventually
from understudy.backup.check import check
from understudy.backup.set import BackupSet
from understudy.demo import sell, story
from understudy.demo import show as showing
from understudy.demo.alone import alone
from understudy.demo.census import Census, take_census
from understudy.demo.outcome import NEXT, Step
from understudy.demo.place import DETAILS, MARK
from understudy.demo.report import report_page
from understudy.demo.show import Shown, show
from understudy.demo.sold import Sold
from understudy.demo.tell import Mute, Plain
from understudy.installed import as_typed
from understudy.lab import Lab
from understudy.progress import Silent
from understudy.sale.record import Remains
from understudy.settings import load
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Mode, Target

pytestmark = pytest.mark.long(60)
KEYS, BUYERS = 400, 30
OF_THE_USER = {
    "REDIS_PASSWORD": "secret",
    "REDIS_TLS": "true",
    "WAITINGROOM_REPLICAS": "7",
    "UNDERSTUDY_CONFIG": "/none",
}
SHORT = {"before_s": 2.0, "hold_fault_s": 2.0, "settle_s": 0.5, "hold_ttl_s": 2.0, "finish_within_s": 120.0}
STEPS = ["start", "fill", "record", "sell", "judge", "recount", "backup", "check"]
STEPS += ["wipe", "restore", "verify", "compare", "seats", "rehearse"]
FILLED = KEYS + 8  # with odd names
SEATS = BUYERS // 3


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


@dataclass(frozen=True)
class Seen:
    """A demo that was shown: what it found and printed, where it is, the event as it was before the loss."""

    shown: Shown
    text: str
    place: Path
    remains: Remains


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    place = tmp_path_factory.mktemp("seen") / "demo"
    kept: list[Remains] = []

    def sell_and_keep(*how: object) -> object:
        found = sold(*how)  # type: ignore[arg-type]
        assert found[1]
        kept.append(found[1])
        return found

    with pytest.MonkeyPatch.context() as patch:
        sold = sell.sell_and_kill
        patch.setattr(story, "sell_and_kill", sell_and_keep)
        patch.setattr(sell, "TIMES_S", SHORT)
        for name, value in OF_THE_USER.items():  # none of it is the demo's business
            patch.setenv(name, value)
        shown = show(place, KEYS, BUYERS, Silent(), Plain(said := io.StringIO()))
    yield Seen(shown, said.getvalue(), place, kept[0])


def test_the_whole_story_as_data(seen: Seen) -> None:
    told: dict[str, Any] = json.loads(json.dumps(seen.shown.as_data()))
    assert told["verdict"] == "passed", told["reasons"]
    assert [step["name"] for step in told["steps"]] == STEPS
    assert all(step["good"] and step["figure"] for step in told["steps"])
    assert [(one["question"], one["word"], one["verdict"]) for one in told["answers"]] == [
        ("Did the application come back?", "Yes", "passed"),
        ("Does the backup restore?", "Yes", "passed"),
        ("Was a seat sold twice?", "No", "passed"),
    ]

    assert told["filled"] == FILLED
    keys = told["keys"]
    assert keys > FILLED + BUYERS, "the sale's own keys are backed up, too"
    assert keys == told["backup"]["keys"] == told["restored"]["restored"] == told["digests"]["equal"]
    assert told["keys_after_wipe"] == 0
    assert sum(told["types"].values()) == sum(told["kinds"].values()) == keys
    assert told["kinds"]["the sale"] == keys - FILLED
    assert told["kinds"]["odd names"] == 8
    assert told["verified"]["clean"] is True
    assert told["verified"]["compared"] == keys
    functions = [told["functions"], told["backup"]["functions"], told["restored"]["functions"]]
    assert functions == [2, 2, 2], "the demo's, and the waiting room's"
    assert not any(listening(port) for port in ports_in(told["steps"][0]["figure"]))


def test_the_sale_outlived_its_primary_and_the_seats_the_restore(seen: Seen) -> None:
    told = seen.shown.as_data()
    [sale] = told["sale"]["report"]["runs"]
    assert sale["verdict"]["word"] == "passed"
    assert (sale["layout"], sale["faults"], sale["replicas"]) == ("cluster", ["kill"], 1)
    assert sale["tally"]["joined"] == sale["tally"]["buyers"] == BUYERS
    assert 0 < sale["tally"]["sold"] <= sale["tally"]["seats"] == SEATS
    assert [one["broken"] for one in sale["findings"] if one["name"] in {"sold_twice", "lost", "forgotten"}] == [0] * 3
    assert sum(mark["kind"] == "promoted" for mark in sale["marks"]) == 1
    assert 0.5 < sale["outages"][0]["gap_s"] < 30

    clients = told["sale"]["clients"]
    assert clients["verdict"]["word"] == "passed"
    assert clients["judged"] == ["recommended"]
    assert {one["name"] for one in clients["legs"][0]["runs"][0]["clients"]} == {"recommended", "defaults"}
    judged = clients["legs"][0]["runs"][0]["clients"][0]
    assert judged["recovered"]
    assert judged["consistency"]["checked"]
    assert 0.5 < judged["downtime_s"] < 20
    assert told["sale"]["survived"]["equal"] == FILLED

    seats = told["seats"]
    assert seats["sold"] == seats["same"] == sale["tally"]["sold"]
    assert seats["before"] == seats["after"]
    assert all(seats["users"][ticket].startswith("buyer-") for ticket in seats["before"].values())
    rehearsal = told["rehearsal"]
    assert rehearsal["verdict"] == "passed"
    assert rehearsal["checks"][0]["text"] == f"{seats['sold']} ({seats['sold']} expected)"


def test_the_whole_story_as_text(seen: Seen) -> None:
    text = seen.text
    assert text.isascii()
    numbered = [line for line in text.splitlines() if re.match(r"[ \d]\d\. .* ok +[\d.]+ m?s  \S", line)]
    assert [int(line[:2]) for line in numbered] == list(range(1, len(STEPS) + 1))
    keys = f"{seen.shown.outcome.keys:,}"
    assert f"DBSIZE {keys} -> 0" in text
    assert f"{keys} of {keys} equal" in text
    assert re.search(
        r"seats sold, 30 buyers; kill (node-\d), node-\d promoted after [\d.]+ s; [\d.]+ s without service for", text
    )
    assert re.search(r"^PASSED in [\d.]+ (m?s|min( \d+ s)?): A primary was killed", text, re.MULTILINE)
    assert re.search(r"recommended: at most [\d.]+ s without a success \(20 s are allowed\)", text)
    assert re.search(r"^  Was a seat sold twice\? +No: 0 of \d+ sold seats; ", text, re.MULTILINE)
    lines = text.splitlines()
    assert lines[-7] == f"Report: {seen.place}/report.html"
    assert re.fullmatch(rf"Left behind: {seen.place}, [\d.]+ MiB: pages, the set and its archive\. .*", lines[-6])
    assert lines[-5:-3] == ["", "Try next:"]
    assert [line.split("#")[0].strip() for line in lines[-3:]] == [as_typed(typed) for typed, _ in NEXT]


def test_the_page_needs_nothing_else_and_the_set_beside_it_is_whole(seen: Seen) -> None:
    outcome, place = seen.shown.outcome, seen.place
    backup = BackupSet.open(place / outcome.backup.directory)
    assert check(backup, Silent()) == outcome.keys
    assert (place / outcome.backup.archive).stat().st_size == outcome.backup.archive_size
    page = seen.shown.report.read_text(encoding="utf-8")
    assert "<h2>Passed</h2>" in page
    assert outcome.backup.id in page
    assert sorted(re.findall(r'(?:src|href)="(?!data:)([^"]*)', page)) == ["drill.html", "rehearsal.html", "sale.html"]
    assert "<script" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    for answer in outcome.answers:
        assert answer.question in page
    assert page.count('<figure class="map">') == 3
    assert page.count("<title>S1: not sold</title>") in {1, 3}, "sold before and after, or never"
    assert "the server of the sale is killed" in page
    for name, title in zip(DETAILS, ("Drill: sale", "Drill: beside the sale", "Rehearsal of a restore"), strict=True):
        assert f"<h1>{title}</h1>" in (place / f"{name}.html").read_text(encoding="utf-8")


def test_another_demo_in_the_same_place_replaces_the_set_and_leaves_what_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch, seen: Seen, tmp_path: Path
) -> None:
    place = tmp_path / "demo"
    shutil.copytree(seen.place, place)
    backup = seen.shown.outcome.backup
    older = re.sub(r"\d{8}T\d{6}Z", "20200101T000000Z", backup.directory)
    shutil.copytree(place / backup.directory, place / older)
    (place / "mine.txt").write_text("not the demo's")
    monkeypatch.setattr(showing, "run", lambda *_: seen.shown.outcome)
    show(place, KEYS, BUYERS, Silent(), Mute())
    assert {path.name for path in place.iterdir()} >= {"mine.txt", "report.html", backup.directory, backup.archive}
    assert not (place / older).exists()


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
    """Tells the story, and does something else to the cluster once a step has ended."""

    def __init__(self, after: str, act: Callable[[Router], None]) -> None:
        self.said = io.StringIO()
        super().__init__(self.said)
        self._after, self._act = after, act

    def done(self, number: int, step: Step) -> None:
        super().done(number, step)
        if step.name == "start":
            self.port = ports_in(step.figure)[0]
        if step.name == self._after:
            with Router(Target((Address("127.0.0.1", self.port),), Mode.OSS_CLUSTER)) as router:
                self._act(router)


@pytest.fixture
def sold_elsewhere(monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    """The sale of the demo that was seen, for tests of what comes after one: its seats, brought into the cluster."""

    def bring(
        step: object, cluster: Lab, buyers: int, filled: Census, progress: object
    ) -> tuple[Sold, Remains, Census]:
        sold, remains = seen.shown.outcome.sold, seen.remains
        tag = f"{{{sold.event}}}"
        commands: list[tuple[Any, ...]] = [
            ("HSET", f"event:{tag}", *(cell for row in remains.event.items() for cell in row)),
            ("HSET", f"seat:status:{tag}", *(cell for row in remains.status.items() for cell in row)),
            ("HSET", f"seat:holder:{tag}", *(cell for row in remains.holder.items() for cell in row)),
        ]
        with Router(cluster.target()) as router:
            router.execute([(key_slot(tag.encode()), command) for command in commands])
            return sold, remains, take_census(router, Silent(), len(filled.digests))

    monkeypatch.setattr(story, "sell_and_kill", bring)


@pytest.mark.usefixtures("sold_elsewhere")
def test_whatever_differs_after_the_restore_is_found_and_fails(seen: Seen, place: Path) -> None:
    event, seat = seen.shown.outcome.sold.event, next(iter(seen.shown.outcome.seats.before))
    commands: list[tuple[Any, ...]] = [
        ("DEL", "{tag}:a"),
        ("APPEND", "{tag}:b", "!"),
        ("PEXPIRE", "sample:int:0", "999999999"),
        ("SET", "uninvited", "guest"),
        ("XGROUP", "SETID", "sample:stream-groups:22", "workers", "5-1"),  # these two no digest covers
        ("HPERSIST", "sample:hash-field-ttl:20", "FIELDS", "1", "goes"),
        ("HSET", f"seat:holder:{{{event}}}", seat, "somebody"),
    ]

    def spoil(router: Router) -> None:
        for command in commands:
            key = command[2 if command[0] == "XGROUP" else 1]
            assert router.execute([(key_slot(key.encode()), command)]).values[0] in (0, 1, [1], 11, b"OK"), command

    teller = Saboteur("restore", spoil)
    shown = show(place, 100, BUYERS, Silent(), teller)
    outcome, verified = shown.outcome, shown.outcome.verified
    assert outcome.verdict.word == "failed"
    assert (verified.missing, verified.ttl_mismatch, verified.extra, verified.value_mismatch) == (1, 1, 1, 4)
    assert (outcome.digests.missing, outcome.digests.extra) == (1, 1)
    assert outcome.seats.others == (seat,)
    assert [answer.word for answer in outcome.answers] == ["Yes", "No", "No"]
    said = teller.said.getvalue()
    assert "FAILED" in said
    for title in ("Verify in full", "Compare digests", "Compare seats"):
        assert re.search(rf"^ *\d+\. {title} +NO ", said, re.MULTILINE)
    page = shown.report.read_text(encoding="utf-8")
    assert "<h2>Failed</h2>" in page
    assert "{tag}:a" in page
    assert "Not as it should be: missing=1" in page
    assert page.count('class="odd"') == 1
    assert '<strong class="state failed">1</strong>' in page


@pytest.mark.usefixtures("sold_elsewhere")
def test_stopped_after_the_backup_it_leaves_no_set(place: Path) -> None:
    def stop(router: Router) -> None:
        raise KeyboardInterrupt

    teller = Saboteur("check", stop)
    with pytest.raises(KeyboardInterrupt):
        show(place, 50, BUYERS, Silent(), teller)
    assert {path.name for path in place.iterdir()} <= {MARK, ".lock"}
    assert not listening(teller.port)


def test_the_exit_code_of_a_demo_that_did_not_pass_is_15(monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    from typer.testing import CliRunner

    from understudy.cli.main import app
    from understudy.errors import VerdictError

    bad = dataclasses.replace(seen.shown.outcome.verdict, word="unknown")
    shown = Shown(dataclasses.replace(seen.shown.outcome, verdict=bad), seen.shown.report, seen.shown.details)
    monkeypatch.setattr(showing, "show", lambda *_: shown)
    result = CliRunner().invoke(app, ["demo"])
    assert isinstance(result.exception, VerdictError)
    assert result.exception.exit_code == 15
    result = CliRunner().invoke(app, ["demo", "--json"])
    assert result.exit_code == 15
    told = json.loads(result.stdout)
    assert told["verdict"] == "unknown"
    assert told["report"] == str(seen.shown.report)
    monkeypatch.setattr(showing, "show", lambda *_: seen.shown)
    assert CliRunner().invoke(app, ["demo", "--json"]).exit_code == 0


def test_settings_of_the_user_are_put_aside_and_put_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in OF_THE_USER.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyboardInterrupt), alone(tmp_path):
        assert load().redis_password is None
        assert "REDIS_TLS" not in os.environ
        raise KeyboardInterrupt
    assert {name: os.environ[name] for name in OF_THE_USER} == OF_THE_USER


def test_a_page_is_made_of_a_demo_in_which_nothing_was_sold_or_killed(seen: Seen) -> None:
    outcome = seen.shown.outcome
    [(found, verdict)] = outcome.sold.sale.runs
    nothing = dataclasses.replace(found, outages=(), marks=(), tally=dataclasses.replace(found.tally, sold=0))
    sale = dataclasses.replace(outcome.sold.sale, runs=((nothing, verdict),))
    sold = dataclasses.replace(outcome.sold, sale=sale)
    assert sold.came_back.word == "unknown"
    seats = dataclasses.replace(outcome.seats, names=(), before={}, after={})
    assert "Three bad nights" in report_page(dataclasses.replace(outcome, sold=sold, seats=seats))


def descendants(of: int) -> set[int]:
    """Return the processes that a process started, and theirs."""
    found: set[int] = set()
    for children in Path(f"/proc/{of}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | descendants(child)
    return found


@pytest.mark.parametrize(
    ("until", "number", "code"),
    [
        ("killed node-", signal.SIGINT, 130),
        ("Understudy demo", signal.SIGTERM, 143),
        pytest.param("killed node-", signal.SIGTERM, 143, marks=pytest.mark.soak),
        pytest.param(" 3. ", signal.SIGINT, 130, marks=pytest.mark.soak),  # clients and gateways start
        pytest.param("all servers agree", signal.SIGINT, 130, marks=pytest.mark.soak),
        pytest.param(" 6. ", signal.SIGINT, 130, marks=pytest.mark.soak),
        pytest.param(" 9. ", signal.SIGTERM, 143, marks=pytest.mark.soak),
        pytest.param("13. ", signal.SIGINT, 130, marks=pytest.mark.soak),
    ],
    ids=lambda value: getattr(value, "name", str(value)).strip(),
)
def test_interrupted_it_leaves_neither_processes_nor_files(
    understudy_home: Path, place: Path, until: str, number: signal.Signals, code: int
) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "understudy", "demo", "--keys", "500", "--buyers", "30", "--out-dir", str(place)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env={**os.environ},
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(running.kill)
        assert running.stdout
        seen = ""
        while not seen.startswith(until):
            seen = running.stdout.readline()
            assert seen, running.communicate()
        processes = descendants(running.pid)
        commands = [Path(f"/proc/{one}/cmdline").read_bytes() for one in processes]
        if until == "killed node-":
            assert sum(b"drill.workload" in one for one in commands) == 4
            assert sum(b"waitingroom" in one for one in commands) >= 2
        directories = {Path(f"/proc/{one}/cwd").readlink() for one in processes} - {Path.cwd()}
        if number == signal.SIGINT:
            os.killpg(running.pid, number)  # as a terminal does it: everyone in the group hears it
        else:
            running.send_signal(number)
        complaints, _ = running.communicate(timeout=60)
    assert running.returncode == code, complaints
    assert "Traceback" not in complaints
    eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in processes))
    assert {path.name for path in place.iterdir()} <= {MARK, ".lock"}
    assert not any(directory.exists() for directory in directories)
