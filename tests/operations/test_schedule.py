"""`understudy schedule`: what it writes into a crontab or units, and what it leaves as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

import crontabs
from understudy.cli.main import app
from understudy.errors import NotFoundError, RefusedError, UnderstudyError, UsageError
from understudy.operations import env_file
from understudy.operations.crontime import CronTime
from understudy.operations.missed import missed
from understudy.operations.schedule import plan
from understudy.operations.schedules.cron import Cron
from understudy.operations.schedules.systemd import on_calendar
from understudy.settings import load

Typed = Callable[..., subprocess.CompletedProcess[str]]
OTHERS = (
    b"",
    b"# a comment\n",
    "MAILTO=ops@example.com\n\n# 이름 é\n5 4 * * * echo 100\\% >/dev/null   \n\n".encode(),
    b"\xff\xfe latin\n* * * * * true\n",
    b"0 1 * * * true",  # no line end: written by hand into the spool
    b"# understudy begins and ends here\n",
)


@pytest.fixture
def cron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A crontab of this test's own, and a directory with an odd name to stand in; returns the table's file."""
    for name, value in crontabs.standin(tmp_path).items():
        monkeypatch.setenv(name, value)
    place = tmp_path / 'it\'s 100% "here" $HOME'
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("BACKUP_DIR", "sets")
    monkeypatch.setenv("REDIS_NODES", "127.0.0.1:1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("REDIS_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE", "ENV_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "spool"


def listed(spool: Path) -> bytes:
    return spool.read_bytes() if spool.exists() else b""


def here(*words: str) -> None:
    """The command in this process: it starts fifty times here."""
    app(list(words), prog_name="understudy", standalone_mode=False)


@pytest.mark.parametrize("before", OTHERS)
def test_install_twice_and_remove_leave_every_other_byte(
    cron: Path, capsys: pytest.CaptureFixture[str], before: bytes
) -> None:
    if before:
        cron.write_bytes(before)
    here("schedule", "install", "--dry-run")
    assert listed(cron) == before
    here("schedule", "install", "--cron")
    once = listed(cron)
    assert once.startswith(before)
    assert once.count(b"schedule run") == 3
    written = cron.stat().st_mtime_ns
    capsys.readouterr()
    here("schedule", "install")
    assert (listed(cron), cron.stat().st_mtime_ns) == (once, written)
    assert "already" in capsys.readouterr().out
    here("schedule", "remove", "--dry-run")
    assert listed(cron) == once
    here("schedule", "remove")
    # Debian's crontab takes no table without a line end at its end, so that one comes back with it
    assert listed(cron) == (before if before.endswith(b"\n") or not before else before + b"\n")
    assert cron.exists() is bool(before)


def test_two_installations_stand_beside_each_other(typed: Typed, cron: Path) -> None:
    cron.write_bytes(b"0 1 * * * true")
    assert typed("schedule", "install").returncode == 0
    one = listed(cron)
    assert typed("schedule", "install", env={"ENV_PROFILE": "prd", "REDIS_NODES": "127.0.0.1:1"}).returncode == 0
    assert listed(cron).startswith(one)
    assert listed(cron).count(b"schedule run") == 6
    assert typed("schedule", "remove").returncode == 0
    assert listed(cron).count(b"schedule run") == 3
    left = listed(cron)
    assert typed("schedule", "install", env={"ENV_PROFILE": "prd", "REDIS_NODES": "127.0.0.1:1"}).returncode == 0
    assert listed(cron) == left
    assert typed("schedule", "remove", env={"ENV_PROFILE": "prd", "REDIS_NODES": "127.0.0.1:1"}).returncode == 0
    assert listed(cron) == b"0 1 * * * true\n"


def test_installations_of_one_moment_all_stand(cron: Path) -> None:
    others = b"5 4 * * * true\n"
    cron.write_bytes(others)
    plans = [plan(load(backup_dir=cron.parent / f"sets-{number}"), {}) for number in range(6)]
    with ThreadPoolExecutor(len(plans)) as pool:
        list(pool.map(Cron().install, plans))
        for one in plans:
            assert len(Cron().installed(one.key)) == 3
        list(pool.map(Cron().remove, [one.key for one in plans]))
    assert cron.read_bytes() == others


def test_an_entry_starts_the_program_where_install_was_typed(
    typed: Typed, cron: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = "a\\%b 'c' \"d\" `id` $(id) 50%"
    env = {"BACKUP_NAME": odd, "SCHEDULE_DAILY": "30 1 * * *"}
    assert typed("schedule", "install", env=env).returncode == 0
    line = next(line for line in listed(cron).decode().splitlines() if "run daily" in line)
    assert line.startswith("30 1 * * * ")
    command = crontabs.executed(line)
    program = command.partition(" schedule run")[0].rpartition("/")[2]
    seen = tmp_path / "seen"
    fake = tmp_path / "fake"
    fake.write_text('#!/bin/sh\n{ pwd; printf "%s\\n" "$BACKUP_NAME" "$*"; echo said; } | tee "$SEEN"; echo ouch >&2\n')
    fake.chmod(0o700)
    path = next(word for word in command.split() if word.endswith(f"/{program}"))
    command = command.replace(path, str(fake))
    subprocess.run(["/bin/sh", "-c", command], check=True, env={"PATH": "/usr/bin:/bin", "SEEN": str(seen)}, cwd="/")
    assert seen.read_text().splitlines() == [str(Path.cwd()), odd, "schedule run daily --wait 2h", "said"]
    log = Path("sets/logs/backup-daily.log")
    assert log.read_text().endswith("said\nouch\n")
    assert log.stat().st_mode & 0o077 == 0
    trial = json.loads(typed("schedule", "install", "--json", env=env).stdout)["trial"].replace(path, str(fake))
    fake.write_text('#!/bin/sh\npwd; printf "%s\\n" "$BACKUP_NAME" "$*" "${REDIS_PASSWORD-none}"\n')
    tried = subprocess.run(
        ["/bin/sh", "-c", trial], check=True, capture_output=True, text=True, cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/", "REDIS_PASSWORD": "planted"},
    )  # fmt: skip
    assert tried.stdout.splitlines() == [str(Path.cwd()), odd, "schedule run daily --wait 2h", "none"]


def test_no_secret_is_written_and_those_missing_at_night_are_named(typed: Typed, cron: Path, tmp_path: Path) -> None:
    secrets = {
        "REDIS_PASSWORD": "planted-1", "REHEARSE_POSTGRES_URL": "postgresql://u:planted-2@h/d",
        "AWS_SECRET_ACCESS_KEY": "planted-3",
        "BACKUP_NOTIFY_WEBHOOK": "https://h/planted-4",
        "S3_URI": "s3://u:planted-5@h", "PGPASSWORD": "planted-6",
    }  # fmt: skip
    for words in (("--cron",), ("--systemd",)):
        done = typed("schedule", "install", *words, env=secrets)
        assert done.returncode == 0
        for name in secrets:
            assert name in done.stderr
        assert "--env-file" in done.stderr
        everything = [done.stdout, done.stderr, listed(cron).decode()]
        everything += [path.read_text() for path in (tmp_path / "config").rglob("*") if path.is_file()]
        everything += [path.read_text() for path in Path("sets").rglob("*") if path.is_file()]
        assert "planted" not in "".join(everything)
        assert typed("schedule", "remove").returncode == 0
    file = tmp_path / "night.env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in secrets.items()))
    file.chmod(0o600)
    done = typed("schedule", "install", "--env-file", str(file), env=secrets)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"--env-file {file}" in listed(cron).decode()
    file.chmod(0o640)
    assert typed("schedule", "install", "--env-file", str(file)).returncode == 14


def test_a_store_that_would_be_missing_at_night_is_not_left_out_in_silence(
    typed: Typed, cron: Path, tmp_path: Path
) -> None:
    for name, value in (
        ("POSTGRES_URL", "postgresql://u:planted@h/d"), ("DATABASE_URL", "postgresql://h/d?password=planted"),
        ("REDIS_URL", "redis://:planted@h"), ("QDRANT_URL", "http://u:planted@h"),
    ):  # fmt: skip
        done = typed("schedule", "install", env={name: value})
        assert done.returncode == 14, done.stdout
        assert name in done.stderr
        assert "--env-file" in done.stderr
        assert "planted" not in done.stderr
        assert listed(cron) == b""
    file = tmp_path / "night.env"
    file.write_text("POSTGRES_URL='postgresql://u@h/d'\nPOSTGRES_PASSWORD=planted\n")
    file.chmod(0o600)
    app = {"DATABASE_URL": "postgresql://u:planted@h/d", "PGPASSWORD": "planted"}  # of whoever types it
    done = typed("schedule", "install", "--env-file", str(file), env=app)
    assert (done.returncode, done.stderr) == (0, "")
    # what is no secret comes along, and a run that is told of no store guesses none
    plain = {"POSTGRES_URL": "postgresql://backup@db.example:5432/app", "REDIS_URL": "redis://cache.example:6379/0"}
    assert typed("schedule", "install", env=plain).returncode == 0
    assert all(f"{name}={value}" in listed(cron).decode() for name, value in plain.items())
    night = tmp_path / "blind"
    for words in (("run", "daily"), ("install",)):
        blind = typed("schedule", *words, env={"BACKUP_DIR": str(night), "REDIS_NODES": ""})
        assert blind.returncode == 2
        assert "understudy.toml" in blind.stderr
    assert str(night) not in listed(cron).decode()
    last = json.loads(typed("schedule", "status", "--json", env={"BACKUP_DIR": str(tmp_path / "blind")}).stdout)
    assert last["tiers"][0]["outcome"] == "failed"


@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        ({"CRONTAB_DENIED": "1"}, 10, "not allowed"),
        ({"CRONTAB_BROKEN": "1"}, 10, "No space left"),
        ({"SCHEDULE_DAILY": "0 2 * *"}, 2, "SCHEDULE_DAILY"),
        ({"SCHEDULE_DAILY": "off", "SCHEDULE_WEEKLY": "off", "SCHEDULE_MONTHLY": "off"}, 2, "every tier"),
        ({"BACKUP_NAME": "x" * 900}, 2, "--env-file"),
        ({"BACKUP_NAME": "a\nb"}, 2, "line end"),
        ({"BACKUP_LOG_DIR": "/dev/null/logs"}, 10, "BACKUP_LOG_DIR"),
    ],
)
def test_what_cannot_be_installed_changes_nothing(
    typed: Typed, cron: Path, env: dict[str, str], code: int, says: str
) -> None:
    cron.write_bytes(b"# mine\n")
    done = typed("schedule", "install", env=env)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert listed(cron) == b"# mine\n"


def test_a_block_that_somebody_cut_into_is_left_alone(typed: Typed, cron: Path) -> None:
    assert typed("schedule", "install").returncode == 0
    lines = listed(cron).splitlines(keepends=True)
    cron.write_bytes(b"".join(lines[:-1]))
    for verb in ("install", "remove"):
        done = typed("schedule", verb)
        assert done.returncode == 14
        assert "crontab -e" in done.stderr
        assert listed(cron) == b"".join(lines[:-1])


def test_units_are_written_once_and_removed(typed: Typed, cron: Path, tmp_path: Path) -> None:
    units = tmp_path / "config" / "systemd" / "user"
    done = typed("schedule", "install", "--systemd", env={"SCHEDULE_MONTHLY": "0 4 1 * mon"})
    assert done.returncode == 0
    assert len(list(units.glob("understudy-*.*"))) == 6
    text = next(units.glob("*-monthly.timer")).read_text()
    assert "OnCalendar=*-*-01 04:00:00\nOnCalendar=Mon *-*-* 04:00:00\nPersistent=true" in text
    service = next(units.glob("*-daily.service")).read_text()
    assert '100%% \\"here\\" $$HOME' in service
    before = {path: path.stat().st_mtime_ns for path in units.glob("understudy-*.*")}
    assert "already" in typed("schedule", "install", "--systemd", env={"SCHEDULE_MONTHLY": "0 4 1 * mon"}).stdout
    assert {path: path.stat().st_mtime_ns for path in units.glob("understudy-*.*")} == before
    assert typed("schedule", "install", "--cron").returncode == 14  # it would run everything twice
    status = json.loads(typed("schedule", "status", "--json", env={"SCHEDULE_MONTHLY": "0 4 1 * mon"}).stdout)
    assert [row["installed"] for row in status["tiers"]] == [
        {"systemd": "0 2 * * *"}, {"systemd": "0 3 * * 0"}, {"systemd": "0 4 1 * mon"}
    ]  # fmt: skip
    if shutil.which("systemd-analyze"):
        runtime = tmp_path / "run"
        runtime.mkdir()
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--user", *map(str, units.glob("understudy-*.*"))],
            capture_output=True, text=True, check=False, env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        )  # fmt: skip
        assert "understudy" not in checked.stderr
    assert typed("schedule", "remove").returncode == 0
    assert not list(units.rglob("understudy-*"))


def test_status_tells_what_is_installed_and_what_differs(typed: Typed, cron: Path) -> None:
    assert "no" in typed("schedule", "status").stdout
    assert typed("schedule", "install").returncode == 0
    said = typed("schedule", "status", env={"SCHEDULE_DAILY": "0 5 * * *"}).stdout.splitlines()
    assert said[1].endswith("cron (differs)")
    assert said[2].endswith("cron")


FIELDS = st.tuples(
    st.sampled_from(["0", "5,35", "*/20", "59"]), st.sampled_from(["2", "*/6", "1-4", "23"]),
    st.sampled_from(["*", "1", "29-31", "*/10"]), st.sampled_from(["*", "2", "1-6/2", "jan,dec"]),
    st.sampled_from(["*", "0", "7", "mon-fri", "5-7"]),
)  # fmt: skip
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def change(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


@given(FIELDS)
def test_a_time_is_due_as_cron_says(fields: tuple[str, ...]) -> None:
    text = " ".join(fields)
    try:
        parsed = CronTime.parse(text)
    except UsageError:
        assert fields[2].startswith("*/") and fields[4] != "*"
        return
    moment = START
    for _ in range(5):
        moment = parsed.next(moment)
        wall = moment.astimezone()
        assert croniter.match(text, wall.replace(tzinfo=None))
        assert {wall.minute, wall.hour + 100, wall.month + 200} <= {
            *parsed.minutes, *(hour + 100 for hour in parsed.hours), *(month + 200 for month in parsed.months)
        }  # fmt: skip
    assert all(one.endswith(":00") for one in on_calendar(parsed))


@pytest.mark.parametrize(
    "text",
    ["0 2 * *", "60 2 * * *", "0 2 30 2 *", "@reboot", "5/2 * * * *", "0 2 L * *", "0 2 */2 * 1", "0 2 5-1 * *", ""],
)
def test_a_time_that_crons_do_not_agree_about_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        CronTime.parse(text)


def test_summer_time_is_neither_a_missed_run_nor_one_too_many(local_time: Callable[[str], None]) -> None:
    local_time("CET-1CEST,M3.5.0,M10.5.0/3")
    for text in ("30 2 * * *", "0 2 * * *", "0 3 * * *"):
        at = CronTime.parse(text)
        first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
        due = list(at.due(first, last))
        assert len(due) == 365
        # cron runs what the clock skips right after it, and what comes twice the first time (or, elsewhere, the second)
        for late in (timedelta(seconds=2), timedelta(hours=1, seconds=2)):
            assert missed(at, first, [one + late for one in due], last) == []
    due = list(
        CronTime.parse("30 2 * * *").due(datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC))
    )
    assert due == [datetime(2026, 3, 29, 1, tzinfo=UTC)]


def test_runs_that_did_not_happen_are_found(local_time: Callable[[str], None]) -> None:
    local_time("UTC0")
    at = CronTime.parse("0 2 * * *")
    first = datetime(2026, 11, 1, tzinfo=UTC)
    due = [first + timedelta(days=day, hours=2) for day in range(20)]
    now = first + timedelta(days=19, hours=12)
    runs = [one + timedelta(seconds=1) for one in due]
    assert missed(at, first, runs, now) == []
    assert missed(at, first, [*runs[:5], *runs[7:]], now) == due[5:7]
    assert missed(at, first, runs[:-1], now) == due[-1:]
    assert missed(at, first, runs[:-1], due[-1] + timedelta(hours=2)) == []  # it may still wait for another
    assert missed(at, first, [one - timedelta(minutes=3) for one in due], now) == []  # the clock was set back
    assert missed(at, now + timedelta(days=2), runs, now) == []  # and set back before the installation
    assert missed(at, due[9], runs[10:], now) == []
    late = [*runs[:5], runs[5] + timedelta(hours=9), *runs[6:]]  # systemd makes up for it
    assert missed(at, first, late, now) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A=b\n# no\n\nexport C='d e'\n", {"A": "b", "C": "d e"}),
        ('A="x \\"y\\" \\$z" # told\nB=a#b # c\nC=\n', {"A": 'x "y" $z', "B": "a#b", "C": ""}),
        ("A='$HOME `id` \\n'", {"A": "$HOME `id` \\n"}),
        ("A = b", {"A": "b"}),
    ],
)
def test_a_file_of_variables_is_read_as_it_is_written(tmp_path: Path, text: str, wanted: dict[str, str]) -> None:
    file = tmp_path / "env"
    file.write_text(text)
    file.chmod(0o600)
    assert env_file.read(file) == wanted


@pytest.mark.parametrize(
    ("text", "mode", "error"),
    [("planted", 0o600, UsageError), ("A='planted", 0o600, UsageError), ("A=planted", 0o644, RefusedError),
     (None, 0, NotFoundError)],
)  # fmt: skip
def test_a_file_of_variables_that_is_not_one_is_refused_without_its_text(
    tmp_path: Path, text: str | None, mode: int, error: type[UnderstudyError]
) -> None:
    file = tmp_path / "env"
    if text:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(error) as told:
        env_file.read(file)
    assert "planted" not in str(told.value)
