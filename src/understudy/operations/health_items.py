"""The questions of health-check, one function each: from what was read (`Look`) to items."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from understudy.backup.components import NAMES
from understudy.backup.contents import amount_in_words, change
from understudy.errors import NO_ROOM
from understudy.operations import past as history
from understudy.operations import served
from understudy.operations.audit import Audit
from understudy.operations.entries import lacking, trouble_of_entries
from understudy.operations.health import Item, Look, Seen, bad, ok, warning, writable
from understudy.operations.install import installed
from understudy.operations.lock import holder
from understudy.operations.missed import EARLY, GRACE
from understudy.operations.rehearsal.record import last_passed, recorded
from understudy.operations.tier import SCHEDULED, times
from understudy.pages.figures import count, minute

_BEGIN = "Take one: understudy backup; every night: understudy schedule install"
_RECENT = 5  # sets that say how much room the next one takes
_FEWEST_FILES = 1000  # inodes
_LONGEST_RUN = timedelta(hours=12)
_AHEAD = timedelta(minutes=10)
_CLOCK = "Set the clock: timedatectl set-ntp true. Retention and schedules go by it"
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # we were not there before


def repository(look: Look) -> list[Item]:
    """Can sets be read and written?"""
    name, place = "repository", look.settings.backup_dir
    if not place.is_dir():
        return [bad(name, f"{place} is no directory", f"Check BACKUP_DIR. {_BEGIN}")]
    if why := writable(place):
        return [bad(name, f"{place} cannot be written to: {why}", "Check its rights, its disk and how it is mounted.")]
    if look.unread:
        return [bad(name, "; ".join(look.unread), "Check the rights of BACKUP_DIR.")]
    if place.stat().st_mode & 0o077:
        return [warning(name, f"{place} is open to other users of this machine", f"chmod 700 {place}")]
    return [ok(name, f"{place} can be read and written")]


def sets(look: Look) -> list[Item]:
    """Is there a good set, and is one damaged?"""
    newest = look.newest()
    if newest is None:
        text = f"none of {len(look.sets)} sets is good" if look.sets else "there is no set yet"
        return [bad("sets", text, _BEGIN)]
    if wrong := _after_now(look, newest):
        return [bad("sets", wrong, _CLOCK)]
    damaged = [one for one in look.sets if one.damage]
    if damaged:
        first = next((one for one in look.newest_of_each() if one.damage), None)
        state, named = (bad, first) if first else (warning, damaged[0])
        text = f"{named.stored.id} is damaged: {named.damage}"
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        again = f"schedule run {named.tier}" if named.tier in SCHEDULED else "backup"
        hint = f"Look at it: understudy check {named.stored.id}; take a new one: understudy {again}"
        return [state("sets", text + more, hint)]
    return [ok("sets", f"{len(look.sets)} good, the newest {newest.stored.id}, {_age(look, newest)} old")]


def contents(look: Look) -> list[Item]:
    """Does the newest set hold what those before it held, or has a store lost it?"""
    good = [one.metadata for one in look.sets if one.metadata and not one.damage and one.regular]
    items, fine = [], []
    for name in NAMES:
        told = change(name, good)
        holds = next((f"{one.id} holds {text}" for one in good if (text := amount_in_words(one, name))), "")
        if told is None or (not told.held and name in look.settings.backup_may_be_empty):
            fine += [holds] if holds else []
        else:
            state = bad if told.lost else warning
            items.append(state("contents", f"{told.set}: {told}", told.hint))
    return items + ([ok("contents", "; ".join(fine))] if fine else [])


def tiers(look: Look) -> list[Item]:
    """Is the newest good set of each tier as young as its schedule promises?"""
    since = history.since(look.past, look.settings.profile)
    items = []
    for tier, time in times(look.settings).items():
        newest, name = look.newest(tier), str(tier)
        due = list(time.due(look.now - timedelta(days=400), look.now - GRACE))[-1:]
        text = f"the newest good set is {newest.stored.id}, {_age(look, newest)} old" if newest else "no good set"
        if newest and (wrong := _after_now(look, newest)):
            items.append(bad(name, wrong, _CLOCK))
        elif due and newest and newest.stored.id.created >= due[0] - EARLY:
            items.append(ok(name, text))
        elif since is None and newest is None:
            if look.settings.schedule_by:
                items.append(warning(name, f"{text} yet", f"understudy schedule run {tier}"))
            else:
                items.append(warning(name, f"{text}, and no schedule", "understudy schedule install"))
        elif since is not None and (not due or due[0] < since):
            items.append(
                ok(name, f"{text} yet; the first is due {minute(time.next(look.now))}" if not newest else text)
            )
        else:
            was = f"one was due {minute(due[0])}" if due else "it is due soon"
            items.append(bad(name, f"{text}; {was}", f"understudy schedule run {tier}, and see its log"))
    return items


def last_run(look: Look) -> list[Item]:
    """Did the last run of each tier end well?"""
    items = []
    running = holder(look.settings.backup_dir)
    for tier in SCHEDULED:
        runs = history.runs(look.past, look.settings.profile, tier)
        if not runs:
            continue
        last, name = runs[-1], "last run"
        when = f"the {tier} run of {minute(last.began_at)}"
        log = f"See the log; then: understudy schedule run {tier}"
        if last.outcome == "ok":
            items.append(ok(name, f"{when} went well in {last.seconds or 0:.0f} s"))
        elif last.outcome is not None:
            items.append(bad(name, f"{when} failed: {last.detail}", log))
        elif running is None:
            items.append(bad(name, f"{when} never ended: it was killed, or the machine went down", log))
        else:
            items.append(ok(name, f"{when} is at work"))
    return items or [warning("last run", "no scheduled run yet", "understudy schedule run daily tries one")]


def missed_runs(look: Look) -> list[Item]:
    """Was a run due that never began?"""
    items = []
    for tier, due in history.missing_runs(look.past, look.settings.profile, times(look.settings), look.now).items():
        last = history.runs(look.past, look.settings.profile, tier)[-1:]
        open_ones = [one for one in due if not last or one > last[0].began_at]
        if open_ones:
            text = f"{len(open_ones)} {tier} run(s) did not happen, the last was due {minute(open_ones[-1])}"
            items.append(bad("missed runs", text, "Is cron running, and this machine on at that time? schedule status"))
    return items or [ok("missed runs", "none since the last run of each tier")]


def space(look: Look) -> list[Item]:
    """Is there room for the next sets?"""
    place = look.settings.backup_dir
    if not place.is_dir():
        return [bad("space", f"{place} is no directory", _BEGIN)]
    free, files = shutil.disk_usage(place).free, os.statvfs(place)
    if files.f_files and files.f_favail < _FEWEST_FILES:
        return [bad("space", f"only {files.f_favail} more files fit on the disk of {place}", "Delete files there.")]
    recent = [one.bytes for one in look.sets if not one.damage][:_RECENT]
    if not recent:
        return [ok("space", f"{_bytes(free)} free; how much a set takes is not known yet")]
    need = 2 * max(recent) + max(0, recent[0] - recent[-1])
    text = f"{_bytes(free)} free; two sets as large as the largest of late, and their growth, take {_bytes(need)}"
    if free < need:
        return [bad("space", text, NO_ROOM)]
    return [ok("space", text)]


def schedule(look: Look) -> list[Item]:
    """Is the schedule installed as the settings say?"""
    found, problems = installed(look.settings)
    wanted = {str(tier): time.text for tier, time in times(look.settings).items()}
    there = {name: entries for name, entries in found.items() if entries}
    install = "understudy schedule install"
    if not there and look.settings.schedule_by:
        return [ok("schedule", _begun_elsewhere(look))]
    if not there and (server := served.found(look.settings)) and server.trouble:
        return [
            bad("schedule", server.trouble, "See its log; then: understudy schedule serve (or restart its container)")
        ]
    if not there:
        why = f" ({'; '.join(problems)})" if problems else ""
        return [bad("schedule", f"none is installed for this directory and profile{why}", install)]
    for name, entries in there.items():
        if entries != wanted:
            differ = sorted(set(wanted.items()) ^ set(entries.items()))
            return [bad("schedule", f"{name} has other times than the settings: {differ}", install)]
    return [ok("schedule", f"installed by {', '.join(there)}: {', '.join(wanted)}")]


def program(look: Look) -> list[Item]:
    """Can what the entries start be started?"""
    entries, trouble = trouble_of_entries(look.settings)
    if trouble:
        return [bad("program", trouble, "understudy schedule install writes the entries anew")]
    if (server := served.found(look.settings)) and server.alive:
        return [ok("program", f"{server} begins them")]
    if not entries and look.settings.schedule_by:
        return [ok("program", _begun_elsewhere(look))]
    if not entries:
        return [warning("program", "no entry starts anything", "understudy schedule install")]
    if lost := lacking(look.settings, os.environ):
        text = f"only in this environment, so missing at night: {', '.join(lost)}"
        return [warning("program", text, "Put them into the file of: understudy schedule install --env-file FILE")]
    return [ok("program", f"what {entries} entries start is there and can be run")]


def offsite(look: Look) -> list[Item]:
    """Does every other place answer, and hold the newest scheduled set?"""
    scheduled = [one for one in look.sets if not one.damage and one.tier in SCHEDULED]
    if scheduled and holder(look.settings.backup_dir) and look.now - scheduled[0].stored.id.created < _LONGEST_RUN:
        scheduled = scheduled[1:]  # its copies are being made
    if not look.places:
        hint = "Name another place in S3_URI or BACKUP_OFFSITE; a fire takes the disk and its sets together"
        return [warning("offsite", "sets are copied nowhere", hint)]
    items = []
    for place, there in look.places.items():
        if isinstance(there, str):
            items.append(bad("offsite", f"{place}: {there}", "Check the place; the next run sends what it misses"))
            continue
        newest = there[0].id if there else None
        text = f"{place} holds {count(len(there), 'set')}" + (f", the newest {newest}" if newest else "")
        if scheduled and scheduled[0].stored.id not in {one.id for one in there}:
            text += f"; {scheduled[0].stored.id} is not there"
            items.append(bad("offsite", text, "understudy schedule run daily sends what it misses"))
        elif _same_disk(place, look.settings.backup_dir):
            hint = "Name another disk or machine; is it mounted?"
            items.append(warning("offsite", f"{text}; it is on the disk of BACKUP_DIR, and goes with it", hint))
        else:
            items.append(ok("offsite", text))
    return items


def _same_disk(place: str, directory: Path) -> bool:
    """Tell whether a place is a directory on the file system of another."""
    try:
        return "://" not in place and Path(place).stat().st_dev == directory.stat().st_dev
    except OSError:
        return False


def rehearsal(look: Look) -> list[Item]:
    """When was a set last restored, and found to be right?"""
    directory, most = look.settings.backup_dir, timedelta(days=look.settings.rehearse_max_age_days)
    passed, last = last_passed(directory), next(recorded(directory), None)
    hint = "understudy rehearse"
    if last and last.verdict != "passed" and (passed is None or last.at > passed.at):
        return [bad("rehearsal", f"the last one ({minute(last.at)}, {last.set}) {last.verdict}", f"See {last.path}")]
    if passed is None:
        oldest = look.sets[-1].stored.id.created if look.sets else look.now
        text = "no set was ever restored to prove it"
        return [bad("rehearsal", text, hint) if look.now - oldest > most else warning("rehearsal", text, hint)]
    regular = [one.metadata for one in look.sets if one.regular and one.metadata]
    newest = next((one for one in regular if one.tier), regular[0] if regular else None)
    if newest and (unproven := sorted(newest.components.keys() - {*passed.components})):
        text = f"the last that passed ({passed.set}) held no {' and no '.join(unproven)}; {newest.id} does"
        return [bad("rehearsal", text, f"{hint} {newest.id}")]
    age = f"the last that passed is {_span(look.now - passed.at)} old ({passed.set}, {passed.recovery_s:.0f} s)"
    if look.now - passed.at > most:
        return [bad("rehearsal", f"{age}, and may be {most.days} days", hint)]
    return [ok("rehearsal", age)]


def audit(look: Look) -> list[Item]:
    """Is the audit log whole, and can it be written?"""
    log = Audit(look.settings.backup_dir)
    if why := log.broken():
        hint = f"Keep {log.path} and audit.head as evidence: move both away; the next deed begins new ones"
        return [bad("audit", f"{log.path} was changed by hand, or is damaged: {why}", hint)]
    if log.path.exists() and not os.access(log.path, os.W_OK):
        return [bad("audit", f"{log.path} cannot be written", "Check its owner and rights: run backups as one user")]
    return [ok("audit", f"whole; {len(look.past)} deeds")]


def clock(look: Look) -> list[Item]:
    """Does the clock tell a time after everything that was done?"""
    hint = _CLOCK
    latest = max([deed.began_at for deed in look.past] + [one.stored.id.created for one in look.sets], default=None)
    if look.now < _EARLIEST:
        return [bad("clock", f"this machine says it is {look.now:%Y-%m-%d}", hint)]
    if latest and latest > look.now + _AHEAD:
        return [bad("clock", f"it is {minute(look.now)} here, and something was done at {minute(latest)}", hint)]
    return [ok("clock", f"{minute(look.now)}, after everything that was done")]


def lock(look: Look) -> list[Item]:
    """Does a run hang?"""
    held = holder(look.settings.backup_dir)
    if held is None:
        return [ok("lock", "free")]
    try:
        since = datetime.fromisoformat(held.since).astimezone(UTC)
    except ValueError:
        since = look.now
    if look.now - since > _LONGEST_RUN:
        return [bad("lock", f"held by {held} for {_span(look.now - since)}", f"Look at process {held.pid}; end it")]
    return [ok("lock", f"held by {held}")]


def notification(look: Look) -> list[Item]:
    """Does anybody hear of a failure?"""
    asked = look.settings
    if asked.backup_notify or asked.backup_notify_email or asked.backup_notify_webhook:
        return [ok("notification", "somebody is told when a run fails; health-check --notify tries it")]
    hint = "Set BACKUP_NOTIFY_EMAIL, BACKUP_NOTIFY_WEBHOOK or BACKUP_NOTIFY"
    return [warning("notification", "nobody is told when a run fails", hint)]


QUESTIONS: Sequence[Callable[[Look], Sequence[Item]]] = (
    repository, sets, contents, tiers, last_run, missed_runs, space, schedule, program, offsite, rehearsal,
    audit, clock, lock, notification,
)  # fmt: skip


def _begun_elsewhere(look: Look) -> str:
    return f"{look.settings.schedule_by} begins the runs, as SCHEDULE_BY says; that cannot be seen from here"


def _after_now(look: Look, newest: Seen) -> str:
    """Return in words that a set is dated after now: nobody knows how old its data is."""
    created = newest.stored.id.created
    if created <= look.now + _AHEAD:
        return ""
    return f"the newest good set, {newest.stored.id}, is dated {_span(created - look.now)} after now"


def _age(look: Look, seen: Seen) -> str:
    return _span(look.now - seen.stored.id.created)


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _bytes(number: float) -> str:
    return f"{number / (1 << 30):,.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):,.1f} MiB"
