"""`schedule serve`: every run is begun when it is due, once, whatever the clock, the machine or the run itself does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import Typed
from nights import Nights, settings_for
from support import eventually
from understudy.errors import RefusedError, UnreachableError, UsageError
from understudy.operations import install, past, serve, served
from understudy.operations.audit import Audit
from understudy.operations.deeds import deeds
from understudy.operations.health import look
from understudy.operations.health_items import missed_runs, program, schedule
from understudy.operations.tier import Tier, times

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """UTC, unless a test wants another; no crontab and no units of this machine."""

    def change(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    change("UTC0")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{tmp_path / 'bin'}")
    yield change
    monkeypatch.undo()
    time.tzset()


class Over(KeyboardInterrupt):
    """The end of a test's time."""


@dataclass
class World:
    """A machine with a clock that only waiting moves; `jumps` sets it when it has come so far."""

    nights: Nights
    until: datetime
    jumps: dict[datetime, timedelta] = field(default_factory=dict)
    takes: timedelta = timedelta(seconds=5)  # the first run; later ones take five seconds
    began: list[tuple[Tier, datetime]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    looks: int = 0

    def wait(self, seconds: float) -> None:
        assert 0 <= seconds <= serve.LOOK_EVERY_S
        self.looks += 1
        self.nights.now += timedelta(seconds=max(seconds, 0.01))
        for at in [one for one in self.jumps if one <= self.nights.now]:
            self.nights.now += self.jumps.pop(at)
        if not self.jumps and self.nights.now >= self.until:
            raise Over

    def run(self, tier: Tier) -> int:
        """Run the tier as `schedule run` does; it takes its time."""
        self.began.append((tier, self.nights.now))
        code = 0
        try:
            self.nights.run(tier)
        except UnreachableError as error:
            code = error.exit_code
        self.nights.now += self.takes
        self.takes = timedelta(seconds=5)
        return code

    def live(self) -> None:
        """Serve until the time is over, as the command does."""
        settings, now = self.nights.settings, self.nights.now
        when = times(settings)
        done = noted(self)
        serve.serve(
            serve.Agenda(when, now), serve.owed(when, done, settings.profile, now), self.run, self.said.append,
            lambda: self.nights.now, self.wait,
        )  # fmt: skip

    def begun(self, tier: Tier) -> list[datetime]:
        return [at for one, at in self.began if one is tier]


def noted(world: World) -> list[past.Deed]:
    """What `install.noted` does, by the moved clock."""
    settings = world.nights.settings
    audit = Audit(settings.backup_dir, lambda: world.nights.now, profile=settings.profile)
    detail = install._detail(served.NAME, times(settings))
    if past.installed_as(deeds(audit.entries()), settings.profile) != detail:
        with audit.recorded("schedule") as record:
            record.detail = detail
    return deeds(audit.entries())


def world(directory: Path, begin: datetime, days: float, **others: object) -> World:
    return World(Nights(settings_for(directory, **others), begin), begin + days * DAY)


NOON = datetime(2026, 10, 26, 12, tzinfo=UTC)  # a Monday


def test_every_run_is_begun_once_at_its_time_and_none_is_missed(tmp_path: Path) -> None:
    here = world(tmp_path, NOON, 8)
    here.live()
    wanted = sorted((at, tier) for tier, one in times(here.nights.settings).items() for at in one.due(NOON, here.until))
    assert [tier for _, tier in wanted] == [tier for tier, _ in here.began]
    assert all(timedelta(0) <= began - at < timedelta(minutes=1) for (at, _), (_, began) in zip(wanted, here.began, strict=True))  # fmt: skip  # noqa: E501
    assert (len(here.begun(Tier.DAILY)), len(here.begun(Tier.WEEKLY)), len(here.begun(Tier.MONTHLY))) == (8, 1, 1)
    assert here.looks < 8 * 86400 / serve.LOOK_EVERY_S + 200, "it waits, and does not spin"
    done = deeds(Audit(tmp_path).entries())
    assert not any(past.missing_runs(done, "prd", times(here.nights.settings), here.nights.now).values())
    assert here.said[0] == "Next: daily, 2026-10-27 02:00."
    assert here.said[-1] == "Ended. No run was at work."


def test_a_run_that_fails_is_told_and_the_next_one_comes(tmp_path: Path) -> None:
    here = world(tmp_path, NOON, 3)
    here.nights.dead = True
    here.live()
    assert len(here.begun(Tier.DAILY)) == 3
    assert sum("ended with 10; the schedule goes on" in line for line in here.said) == 3
    assert [event.kind for event in here.nights.told] == ["failure"] * 3


def test_two_that_are_due_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    here = world(tmp_path, NOON, 1, schedule_weekly="0 2 * * *", schedule_monthly="0 2 27 * *")
    here.live()
    assert [tier for tier, _ in here.began] == [Tier.DAILY, Tier.WEEKLY, Tier.MONTHLY]


def test_what_becomes_due_again_and_again_during_a_long_run_is_one_run(tmp_path: Path) -> None:
    here = world(tmp_path, NOON, 0.05, schedule_daily="*/10 * * * *", schedule_weekly="off", schedule_monthly="off")
    here.takes = timedelta(minutes=35)
    here.live()
    assert [round((at - NOON).total_seconds() / 60) for at in here.begun(Tier.DAILY)] == [10, 45, 50, 60, 70]
    assert any("and 2 before it: it is made up for now, once" in line for line in here.said)


@pytest.mark.parametrize(
    ("jump", "daily"),
    [
        (timedelta(days=5), 1),  # the machine slept, or the clock was set ahead: one for all of them
        (timedelta(days=800), 1),
        (timedelta(minutes=-20), 0),  # NTP, or somebody sets it right: not twice
        (timedelta(hours=-2, minutes=-59), 0),
    ],
)
def test_a_jump_of_the_clock_is_made_up_for_once_and_repeats_nothing(
    tmp_path: Path, jump: timedelta, daily: int
) -> None:
    here = world(tmp_path, NOON, 900)
    at = datetime(2026, 10, 27, 2, 30, tzinfo=UTC)  # the daily run was half an hour ago
    here.jumps[at] = jump
    here.until = max(at, at + jump) + timedelta(hours=3)
    here.live()
    dailies = here.begun(Tier.DAILY)
    assert len(dailies) == 1 + daily
    assert len(here.begun(Tier.WEEKLY)) <= 1 and len(here.begun(Tier.MONTHLY)) <= 1


def test_a_clock_that_is_set_back_by_days_is_believed(tmp_path: Path) -> None:
    here = world(tmp_path, NOON, 2)
    here.jumps[datetime(2026, 10, 27, 2, 30, tzinfo=UTC)] = -10 * DAY
    here.until = datetime(2026, 10, 18, 12, tzinfo=UTC)
    here.live()
    assert here.begun(Tier.DAILY)[1:] == [datetime(2026, 10, 18, 2, tzinfo=UTC)]


def test_summer_time_comes_and_goes_and_every_night_has_one_run(tmp_path: Path, zone: Callable[[str], None]) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    for number, begin in enumerate((datetime(2027, 3, 26, 12, tzinfo=UTC), datetime(2026, 10, 23, 12, tzinfo=UTC))):
        here = world(tmp_path / str(number), begin, 4, schedule_daily="30 2 * * *", schedule_weekly="off")
        here.live()
        nights = [at.astimezone().date() for at in here.begun(Tier.DAILY)]
        assert len(nights) == len(set(nights)) == 4


def test_a_server_that_was_away_makes_up_for_one_run_and_not_for_what_failed(tmp_path: Path) -> None:
    here = world(tmp_path, NOON, 1.5)
    here.live()
    away = World(here.nights, NOON + 10 * DAY)
    here.nights.now = NOON + 6 * DAY
    assert [due.tier for due in serve.owed(times(here.nights.settings), [], "prd", here.nights.now)] == []
    away.live()
    assert [tier for tier, _ in away.began[:3]] == [Tier.DAILY, Tier.WEEKLY, Tier.MONTHLY]
    assert len([at for at in away.begun(Tier.DAILY) if at < NOON + 6.1 * DAY]) == 1
    done = deeds(Audit(tmp_path).entries())
    missing = past.missing_runs(done, "prd", times(here.nights.settings), here.nights.now)
    assert len(missing[Tier.DAILY]) == 4, "the nights for which nobody can make up any more are known"
    assert not missing[Tier.WEEKLY]
    # a run that failed was begun: a container that restarts does not try it over and over
    here.nights.dead, here.nights.now = True, NOON + 10 * DAY + 15 * HOUR
    first = World(here.nights, here.nights.now + HOUR)
    first.live()
    again = World(here.nights, here.nights.now + HOUR)
    again.live()
    assert (len(first.began), len(again.began)) == (1, 0)


def test_a_zone_that_the_system_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KST-9", "UTC", "CET-1CEST,M3.5.0,M10.5.0/3", ""):
        assert serve.zone({"TZ": name}, NOON)
    for name in ("Asia/Seul", "Seoul"):
        with pytest.raises(UsageError, match="no such time zone"):
            serve.zone({"TZ": name}, NOON)
    monkeypatch.setattr("zoneinfo.TZPATH", ())
    assert serve.zone({"TZ": "UTC"}, NOON)
    with pytest.raises(UsageError) as told:
        serve.zone({"TZ": "Asia/Seoul"}, NOON)
    assert "tzdata" in told.value.hint


def test_a_pid_of_a_container_is_no_pid_of_ours_to_kill() -> None:
    mine = served.Served(7, socket.gethostname(), "now", {}, alive=True)
    assert mine.end == "kill 7"
    boxed = dataclasses.replace(mine, host="3f2a9c")
    assert "docker stop 3f2a9c" in boxed.end and "kill" not in boxed.end


def test_status_and_health_know_who_serves_and_whether_he_died(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "sets")
    when, now = times(settings), datetime.now(UTC)
    assert schedule(look(settings))[0].state == "bad"
    with served.serving(settings, when, now):
        install.noted(settings, when)
        rows, problems = install.status(settings)
        assert [row.installed for row in rows] == [{"serve": one.text} for one in when.values()]
        assert all(row.current for row in rows) and not problems
        at = look(settings)
        assert (schedule(at)[0].state, schedule(at)[0].text) == ("ok", "installed by serve: daily, weekly, monthly")
        assert program(at)[0].state == "ok"
        other = settings_for(tmp_path / "sets", schedule_daily="0 5 * * *")
        assert "other times" in schedule(look(other))[0].text
        with pytest.raises(RefusedError, match=f"process {os.getpid()}"), served.serving(settings, when, now):
            pass
        with pytest.raises(RefusedError, match="is at work"):
            install.remove(settings, None)
        elsewhere = settings_for(tmp_path / "others")
        with served.serving(elsewhere, when, now):
            pass
    item = schedule(look(settings))[0]
    assert item.state == "bad" and "was ended at" in item.text and "begins runs" in item.text
    assert past.since(deeds(Audit(settings.backup_dir).entries()), "prd"), "what is due meanwhile is missed"
    assert missed_runs(look(settings, now + 2 * DAY))[0].state == "bad"
    if (child := os.fork()) == 0:
        with served.serving(settings, when, now):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    item = schedule(look(settings))[0]
    assert item.state == "bad" and f"process {child}" in item.text and "died" in item.text
    assert any("died" in line for line in install.status(settings)[1])
    assert "serve" in install.remove(settings, None)
    assert "none is installed" in schedule(look(settings))[0].text


@contextlib.contextmanager
def serving(directory: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process of its own, with what it says in `said`."""
    given = {
        "PATH": os.environ["PATH"], "TZ": "UTC0", "BACKUP_DIR": str(directory / "sets"), "HOME": str(directory),
        "UNDERSTUDY_HOME": str(directory / "home"), "SCHEDULE_WEEKLY": "off", "SCHEDULE_MONTHLY": "off", **env,
    }  # fmt: skip
    with (directory / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "understudy", "schedule", "serve"], stdout=said, stderr=said, text=True, env=given,
            cwd=directory,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def owing(directory: Path, when: datetime) -> None:
    """A schedule that stands since a day, so that a server that begins now owes a run."""
    with Audit(directory / "sets", lambda: when - DAY, profile="local").recorded("schedule") as record:
        record.detail = "installed by serve: daily 0 2 * * *"


def test_the_command_waits_and_ends_cleanly(tmp_path: Path, typed: Typed) -> None:
    with serving(tmp_path, REDIS_NODES="127.0.0.1:1") as process:
        eventually(lambda: "Next: daily" in (tmp_path / "said").read_text(), 20)
        cpu = Path(f"/proc/{process.pid}/stat")
        before = cpu.read_text().split()[13:15] if cpu.exists() else []
        status = typed("schedule", "status", "--json", env={"BACKUP_DIR": str(tmp_path / "sets"), "TZ": "UTC0"})
        assert json.loads(status.stdout)["tiers"][0]["installed"] == {"serve": "0 2 * * *"}
        assert not before or cpu.read_text().split()[13:15] == before, "it does not spin"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "Ended. No run was at work." in (tmp_path / "said").read_text()
    blind = typed("schedule", "serve", env={"BACKUP_DIR": str(tmp_path / "other"), "REDIS_NODES": ""})
    assert blind.returncode == 2 and "understudy.toml" in blind.stderr
    for words in (("serve",), ("run", "daily")):
        assert typed("schedule", *words, "--dry-run", env={"BACKUP_DIR": str(tmp_path / "other")}).returncode == 2
    assert not (tmp_path / "other").exists(), "who asks what would be done has nothing done"


def test_a_run_at_work_ends_as_one_that_was_interrupted(tmp_path: Path) -> None:
    owing(tmp_path, datetime.now(UTC))
    # a server that takes connections and says nothing: the run is at work for as long as we like
    audit = Audit(tmp_path / "sets")
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        serving(tmp_path, REDIS_NODES=f"127.0.0.1:{mute.getsockname()[1]}") as process,
    ):
        mute.settimeout(30)
        connection, _ = mute.accept()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        connection.close()
    last = deeds(audit.entries())[-1]
    assert (last.action, last.tier, last.outcome) == ("backup", "daily", "failed")
    said = (tmp_path / "said").read_text()
    assert "it is made up for now, once" in said
    assert "The daily run failed." in said
    assert not list((tmp_path / "sets").glob(".partial*")) and not list((tmp_path / "sets").glob("redis-backup*"))
