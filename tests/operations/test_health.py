"""health-check: on a machine where all is well nothing is bad, and each item can be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import Typed
from planted import planted
from receivers import http_receiver
from understudy import settings as settings_module
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import METADATA, SetId
from understudy.errors import IntegrityError
from understudy.operations import health_items, install, schedules
from understudy.operations.audit import Audit
from understudy.operations.copies import copy
from understudy.operations.deeds import Entry
from understudy.operations.entries import trouble
from understudy.operations.figures import figures_of
from understudy.operations.health import Health, Item, Look, examine, look
from understudy.operations.lock import held
from understudy.operations.schedule import Change, Plan, plan
from understudy.progress import Silent
from understudy.settings import Settings

NOW = datetime(2026, 11, 20, 12, 0).astimezone(UTC)  # a Friday noon, wherever we are
INSTALLED = NOW - timedelta(days=60)
NIGHTS = {  # when the last run of each tier was due, by the default schedule
    "daily": datetime(2026, 11, 20, 2, 0),
    "weekly": datetime(2026, 11, 15, 3, 0),
    "monthly": datetime(2026, 11, 1, 4, 0),
}


SAME_DISK = health_items._same_disk


class Fake:
    """A scheduler that keeps its entries in memory: crontabs of tests are nobody's business."""

    name, program = "cron", "true"
    times: dict[str, str] = {}  # noqa: RUF012 - a test's own
    text = ""

    def installed(self, key: str) -> dict[str, str]:
        return self.times

    def remove(self, key: str, *, dry_run: bool = False) -> Change:
        return Change(True, self.text)

    def install(self, plan: Plan, *, dry_run: bool = False) -> Change:
        type(self).times = {str(tier): time.text for tier, time in plan.times.items()}
        type(self).text = "".join(f"{time.text} {plan.command(tier)}\n" for tier, time in plan.times.items())
        return Change(True, self.text)


@dataclass
class Place:
    """A machine where all is well at NOW: its directories, and its settings."""

    sets: Path
    nas: Path
    work: Path
    settings: Settings
    newest: dict[str, SetId]

    def look(self, **changed: Any) -> Look:
        at = look(self.settings, NOW)
        return replace(at, **changed) if changed else at

    def items(self, **changed: Any) -> dict[str, Item]:
        return {item.name: item for item in self.health(**changed).items}

    def health(self, **changed: Any) -> Health:
        return examine(self.look(**changed))

    def ran(
        self, at: datetime, tier: str, outcome: str = "ok", action: str = "backup", set_id: SetId | None = None
    ) -> None:
        """Write what a run leaves in the audit log; outcome `killed` leaves no end."""
        audit = Audit(self.sets, clock=lambda: at)
        if outcome == "killed":
            audit.append(Entry(0, at.isoformat(), "root@here", action, "began", f"{at:%s}", tier=tier))
            return
        try:
            with audit.recorded(action, tier=tier, set=str(set_id) if set_id else None):
                if outcome == "failed":
                    raise IntegrityError("reading", "it is damaged")
        except IntegrityError:
            pass


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    sets, nas, work = tmp_path / "sets", tmp_path / "nas", tmp_path / "work"
    for folder in (sets, nas, work):
        folder.mkdir(mode=0o700)
    monkeypatch.chdir(work)
    for name in ("BACKUP_DIR", "S3_URI", "ENV_PROFILE", "UNDERSTUDY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    fake = type("Fake", (Fake,), {})
    monkeypatch.setattr(install, "every", lambda: [fake()])
    monkeypatch.setattr("understudy.operations.entries.every", lambda: [fake()])
    monkeypatch.setattr("understudy.operations.health_items._same_disk", lambda *_: False)  # here it is
    program = work / "understudy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    monkeypatch.setattr("understudy.operations.schedule.program", lambda: (str(program),))
    settings = settings_module.load(
        backup_dir=sets, backup_offsite=str(nas), backup_notify_email="admin@example.com"
    )  # fmt: skip
    with Audit(sets, clock=lambda: INSTALLED).recorded("schedule") as record:
        record.detail = "installed by cron"
    fake().install(plan(settings, {}))
    one = Place(sets, nas, work, settings, {})
    for tier, due in sorted(NIGHTS.items(), key=lambda pair: pair[1]):
        at = due.astimezone(UTC) + timedelta(minutes=1)
        one.newest[tier] = planted(sets, at, tier)
        one.ran(at, tier, set_id=one.newest[tier])
        copy(sets / f"{one.newest[tier]}.tar.gz", one.newest[tier], [str(nas)], Silent())
    rehearsed(sets, NOW - timedelta(days=3), "passed")
    return one


def rehearsed(sets: Path, at: datetime, verdict: str, components: tuple[str, ...] = ("postgres", "redis")) -> None:
    from understudy.operations.rehearsal.findings import FORMAT, VERSION

    (sets / "rehearsals").mkdir(exist_ok=True, mode=0o700)
    document = {
        "format": FORMAT, "version": VERSION, "began_at": at.isoformat(), "set": "some-set", "verdict": verdict,
        "components": [{"name": name} for name in components], "whole": True, "recovery_s": 12.5, "age_s": 60.0,
    }  # fmt: skip
    (sets / "rehearsals" / f"{at:%Y%m%dT%H%M%S}.000Z-some-set.json").write_text(json.dumps(document))


def test_a_store_that_lost_its_data_is_bad_one_that_shrank_warns_and_one_that_never_had_any_warns(place: Place) -> None:
    def item(number: int) -> tuple[str, str]:
        planted(place.sets, NOW - timedelta(minutes=place_at.pop()), "daily", components={"redis": {"keys": number}})
        found = place.items()["contents"]
        return found.state, found.text

    place_at = [1, 2, 3, 4]
    assert item(0)[0] == "warning"
    state, text = item(500)
    assert (state, text.endswith("holds 500 keys")) == ("ok", True)
    state, text = item(49)
    assert (state, "holds only 49 keys, and " in text, "before it held 500 keys" in text) == ("warning", True, True)
    state, text = item(0)
    assert (state, "holds no keys, and " in text, "before it held 49 keys" in text) == ("bad", True, True)


def test_where_all_is_well_nothing_is_bad_and_nothing_warns(place: Place) -> None:
    health = place.health()
    assert [(item.name, item.text) for item in health.items if item.state != "ok"] == []
    assert len(health.items) >= 15
    assert health.healthy


def no_directory(place: Place) -> None:
    shutil.rmtree(place.sets)


def newest_lost_a_file(place: Place) -> None:
    (place.sets / str(place.newest["daily"]) / "postgres" / "app.dump").unlink()


def newest_cut_short(place: Place) -> None:
    os.truncate(place.sets / str(place.newest["daily"]) / "postgres" / "app.dump", 5)


def damaged_before_a_restore(place: Place) -> None:
    newest_cut_short(place)
    planted(place.sets, NOW - timedelta(minutes=5), "safety", name="safety")


def damaged_by_hand_before_a_night(place: Place) -> None:
    by_hand = planted(place.sets, NOW - timedelta(days=2))
    os.truncate(place.sets / str(by_hand) / "postgres" / "app.dump", 5)


def newest_metadata_damaged(place: Place) -> None:
    path = place.sets / str(place.newest["daily"]) / METADATA
    path.write_bytes(path.read_bytes().replace(b"daily", b"yearly"))


def newest_failed_its_check(place: Place) -> None:
    place.ran(NOW, "daily", "failed", "check", place.newest["daily"])


def no_sets(place: Place) -> None:
    for stored in LocalRepository(place.sets).sets():
        LocalRepository(place.sets).delete(stored)


def daily_is_gone(place: Place) -> None:
    local = LocalRepository(place.sets)
    local.delete(next(one for one in local.sets() if one.id == place.newest["daily"]))


def monthly_is_of_last_month(place: Place) -> None:
    local = LocalRepository(place.sets)
    local.delete(next(one for one in local.sets() if one.id == place.newest["monthly"]))
    planted(place.sets, NOW - timedelta(days=40), "monthly")


def last_run_failed(place: Place) -> None:
    place.ran(NOW, "weekly", "failed")


def last_run_was_killed(place: Place) -> None:
    place.ran(NOW, "daily", "killed")


def nothing_installed(place: Place) -> None:
    type(install.every()[0]).times = {}  # type: ignore[attr-defined]


def other_times_installed(place: Place) -> None:
    type(install.every()[0]).times = {"daily": "0 5 * * *"}  # type: ignore[attr-defined]


def program_not_executable(place: Place) -> None:
    (place.work / "understudy").chmod(0o600)


def program_gone(place: Place) -> None:
    (place.work / "understudy").unlink()


def nas_is_no_directory(place: Place) -> None:
    shutil.rmtree(place.nas)
    place.nas.write_text("a file")


def nas_lost_the_newest(place: Place) -> None:
    (place.nas / f"{place.newest['daily']}.tar.gz").unlink()


def rehearsal_failed(place: Place) -> None:
    rehearsed(place.sets, NOW - timedelta(days=1), "failed")


def rehearsal_unknown(place: Place) -> None:
    rehearsed(place.sets, NOW - timedelta(days=1), "unknown")


def rehearsal_too_old(place: Place) -> None:
    shutil.rmtree(place.sets / "rehearsals")
    rehearsed(place.sets, NOW - timedelta(days=36), "passed")


def rehearsal_of_another_store(place: Place) -> None:
    rehearsed(place.sets, NOW - timedelta(days=1), "passed", ("redis",))


def audit_was_edited(place: Place) -> None:
    path = place.sets / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"outcome":"ok"', b'"outcome":"no"', 1))


def set_of_the_future(place: Place) -> None:
    planted(place.sets, NOW + timedelta(days=1))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("repository", no_directory),
        ("sets", newest_lost_a_file),
        ("sets", newest_cut_short),
        ("sets", damaged_before_a_restore),
        ("sets", damaged_by_hand_before_a_night),
        ("sets", newest_metadata_damaged),
        ("sets", newest_failed_its_check),
        ("sets", no_sets),
        ("daily", daily_is_gone),
        ("daily", newest_cut_short),
        ("monthly", monthly_is_of_last_month),
        ("last run", last_run_failed),
        ("last run", last_run_was_killed),
        ("schedule", nothing_installed),
        ("schedule", other_times_installed),
        ("program", program_not_executable),
        ("program", program_gone),
        ("offsite", nas_is_no_directory),
        ("offsite", nas_lost_the_newest),
        ("rehearsal", rehearsal_failed),
        ("rehearsal", rehearsal_unknown),
        ("rehearsal", rehearsal_too_old),
        ("rehearsal", rehearsal_of_another_store),
        ("audit", audit_was_edited),
        ("clock", set_of_the_future),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_item_can_fail_and_says_what_to_do(place: Place, name: str, harm: Callable[[Place], None]) -> None:
    harm(place)
    item = {one.name: one for one in place.health().items if one.state == "bad"}.get(name)
    assert item, [(one.name, one.state, one.text) for one in place.health().items]
    assert item.next
    assert not place.health().healthy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_bad(place: Place) -> None:
    place.sets.chmod(0o500)
    try:
        assert place.items()["repository"].state == "bad"
    finally:
        place.sets.chmod(0o700)


def test_a_disk_that_takes_no_file_is_bad(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("understudy.operations.health.os.fsync", full)
    item = place.items()["repository"]
    assert (item.state, "No space left" in item.text) == ("bad", True)
    assert not list(place.sets.glob(".health-*"))


def test_too_little_room_is_bad(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(one.bytes for one in place.look().sets)
    usage = shutil.disk_usage(place.sets)
    for free, state in ((2 * largest - 1, "bad"), (4 * largest, "ok")):
        monkeypatch.setattr(health_items.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert place.items()["space"].state == state


def test_runs_that_did_not_happen_are_bad(place: Place) -> None:
    at = place.look()
    later = replace(at, now=NOW + timedelta(days=3))
    items = {one.name: one for one in examine(later).items}
    assert items["missed runs"].state == "bad"
    assert items["daily"].state == "bad"
    assert items["weekly"].state == "bad"
    assert items["monthly"].state == "ok"


def test_a_run_that_hangs_is_bad_and_one_at_work_is_not(place: Place) -> None:
    place.ran(NOW, "daily", "killed")
    with held(place.sets, "the daily run", NOW - timedelta(hours=1)):
        items = place.items()
        assert (items["lock"].state, items["last run"].state) == ("ok", "ok")
    with held(place.sets, "the daily run", NOW - timedelta(hours=13)):
        assert place.items()["lock"].state == "bad"
    assert place.items()["lock"].state == "ok"


def test_what_is_installed_today_owes_nothing_of_yesterday(place: Place) -> None:
    no_sets(place)
    (place.sets / "audit.jsonl").unlink()
    (place.sets / "audit.head").unlink()
    with Audit(place.sets, clock=lambda: NOW - timedelta(minutes=5)).recorded("schedule") as record:
        record.detail = "installed by cron"
    items = place.items()
    assert [items[tier].state for tier in NIGHTS] == ["ok"] * 3
    assert "the first is due" in items["daily"].text
    assert items["sets"].state == "bad"


def test_where_something_else_begins_the_runs_no_entry_is_missed(place: Place) -> None:
    nothing_installed(place)
    (place.sets / "audit.jsonl").unlink()  # where no `schedule install` stands
    (place.sets / "audit.head").unlink()
    assert place.items()["schedule"].state == "bad"
    place.settings = place.settings.model_copy(update={"schedule_by": "Kubernetes"})
    items = place.items()
    assert items["schedule"].state == items["program"].state == "ok" and "Kubernetes" in items["schedule"].text
    daily_is_gone(place)
    assert place.items()["daily"].next == "understudy schedule run daily"


def test_warnings_are_not_bad(place: Place) -> None:
    place.settings = place.settings.model_copy(update={"backup_offsite": (), "backup_notify_email": None})
    place.sets.chmod(0o755)
    shutil.rmtree(place.sets / "rehearsals")
    old_damage = place.sets / str(place.newest["monthly"]) / "postgres" / "app.dump"
    planted(place.sets, NOW - timedelta(days=19), "monthly")
    old_damage.unlink()
    items = place.items()
    for name in ("repository", "sets", "offsite", "notification", "rehearsal"):
        assert items[name].state == "warning", items[name]
        assert items[name].next
    assert place.health().healthy


def test_a_copy_on_the_same_disk_is_worth_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.operations.health_items._same_disk", SAME_DISK)
    offsite = place.items()["offsite"]
    assert offsite.state == "warning"
    assert "on the disk of BACKUP_DIR" in offsite.text
    assert place.health().healthy


def test_a_password_that_the_night_lacks_is_worth_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "planted")
    program = place.items()["program"]
    assert (program.state, "QDRANT_API_KEY" in program.text, "planted" in program.text) == ("warning", True, False)
    secrets = place.work / "secrets.env"
    secrets.write_text("QDRANT_API_KEY='planted'\n")
    secrets.chmod(0o600)
    install.every()[0].install(plan(place.settings, {}, secrets, ["QDRANT_API_KEY"]))
    assert place.items()["program"].state == "ok"


def test_a_place_that_does_not_answer_does_not_hold_it_up(place: Place) -> None:
    import threading

    over = threading.Event()

    class Silence:
        def sets(self) -> list[Any]:
            over.wait(30)
            return []

    found = look(place.settings, NOW, lambda _: Silence(), deadline_s=0.2)  # type: ignore[arg-type,return-value]
    over.set()
    assert found.places == {str(place.nas): "no answer within 0.2 s"}
    assert {one.name: one for one in examine(found).items}["offsite"].state == "bad"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("umask 077; mkdir -p L; cd /nowhere-at-all && {program} schedule run daily", "in which runs start"),
        ("umask 077; mkdir -p L; cd / && UNDERSTUDY_CONFIG=/gone.toml {program} schedule run daily", "/gone.toml"),
        ("umask 077; mkdir -p L; cd / && {program} schedule run daily --env-file /gone.env >> L", "/gone.env"),
        ("umask 077; mkdir -p L; cd / && {program} schedule run daily --env-file {open} >> L", "chmod 600"),
        ("umask 077; 'not closed", "somebody changed it"),
        ("", "somebody changed it"),
        ("umask 077; cd / && A='b c' {program} schedule run daily", None),
    ],
)
def test_an_entry_is_read_as_sh_reads_it(tmp_path: Path, command: str, says: str | None) -> None:
    program, secrets = tmp_path / "under study", tmp_path / "open.env"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    secrets.write_text("X=y")
    secrets.chmod(0o644)
    told = trouble(command.format(program=f"'{program}'", open=secrets))
    assert told is None if says is None else says in (told or "")


def test_what_systemd_starts_is_read_too(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from understudy.operations.schedules import systemd
    from understudy.operations.tier import Tier

    made = replace(plan(place.settings, {}), environment={"BACKUP_MATCH": 'a $b "c" \\d 100%'})
    unit = tmp_path / "units" / f"understudy-{made.key}-daily.service"
    unit.parent.mkdir()
    unit.write_text(systemd.service(made, Tier.DAILY))
    monkeypatch.setattr(systemd, "_folder", lambda: unit.parent)
    monkeypatch.setattr("understudy.operations.entries.every", lambda: [systemd.Systemd()])
    assert place.items()["program"].state == "ok"
    (place.work / "understudy").unlink()
    assert place.items()["program"].state == "bad"
    assert schedules.KINDS


def test_the_figures_are_those_of_the_look(place: Place) -> None:
    at = place.look()
    text = figures_of(at, examine(at)).text()
    values = {
        (
            sample.name,
            sample.labels.get("tier") or sample.labels.get("place") or sample.labels.get("item"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for tier, set_id in place.newest.items():
        assert values["understudy_backup_last_success_timestamp_seconds", tier] == set_id.created.timestamp()
        assert values["understudy_backup_last_run_success", tier] == 1
        assert values["understudy_backup_sets", tier] == 1
        assert values["understudy_backup_missed_runs", tier] == 0
    offsite = values["understudy_backup_offsite_last_success_timestamp_seconds", str(place.nas)]
    assert offsite == place.newest["daily"].created.timestamp()
    assert values["understudy_rehearsal_last_success_timestamp_seconds", None] == (NOW - timedelta(days=3)).timestamp()
    assert values["understudy_backup_healthy", None] == 1
    assert values["understudy_backup_check_healthy", "daily"] == 1
    last_run_failed(place)
    at = place.look()
    text = figures_of(at, examine(at)).text()
    assert 'understudy_backup_last_run_success{profile="local",tier="weekly"} 0.0' in text
    assert 'understudy_backup_healthy{profile="local"} 0.0' in text


def test_on_a_machine_without_anything_it_is_bad_and_says_how_to_begin(typed: Typed, tmp_path: Path) -> None:
    metrics = tmp_path / "understudy.prom"
    with http_receiver() as receiver:
        env = {"BACKUP_DIR": str(tmp_path / "none"), "BACKUP_NOTIFY_WEBHOOK": f"{receiver.url}/s3cret"}
        done = typed("health-check", "--json", "--metrics", str(metrics), "--notify", env=env)
        assert done.returncode == 15
        data = json.loads(done.stdout)
        assert data["healthy"] is False
        assert any("understudy schedule install" in item["next"] for item in data["items"] if item["state"] == "bad")
        ((_, body),) = receiver.requests
    sent = json.loads(body)
    assert sent["kind"] == "failure"
    assert "there is no set yet" in sent["body"]
    assert 'understudy_backup_healthy{profile="local"} 0.0' in metrics.read_text()
    assert not (tmp_path / "none").exists(), "looking makes nothing"
    told = typed("health-check", env={"BACKUP_DIR": str(tmp_path / "none")})
    assert told.returncode == 15
    assert "Try: " in told.stdout
    assert "items are bad" in told.stderr
