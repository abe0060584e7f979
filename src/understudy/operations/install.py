"""Put the schedule of these settings into cron or systemd, take it away, and ask how it stands; `serve` is noted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from understudy.errors import NotAuthorisedError, NotFoundError, RefusedError, UnderstudyError, UnreachableError
from understudy.operations import past, served
from understudy.operations.audit import Audit
from understudy.operations.crontime import CronTime
from understudy.operations.deeds import Deed, deeds
from understudy.operations.lock import holder
from understudy.operations.schedule import Change, Plan, Scheduler, key_of
from understudy.operations.schedules import every
from understudy.operations.standing import Standing, standings
from understudy.operations.tier import Tier
from understudy.settings import Settings


def install(settings: Settings, scheduler: Scheduler, plan: Plan, *, dry_run: bool = False) -> Change:
    """Install a plan, and note in the audit log since when it stands; once more changes nothing.

    Raises:
        RefusedError: another scheduler runs the same sets already.
        UnderstudyError: the scheduler cannot be read or written; nothing was changed.
    """
    for other in every():
        if other.name != scheduler.name and _installed(other, plan.key):
            raise RefusedError(
                f"installing the schedule by {scheduler.name}", f"{other.name} runs it already",
                f"Remove that first: understudy schedule remove --{other.name}",
            )  # fmt: skip
    if (server := served.found(settings)) and server.alive:
        raise RefusedError(
            f"installing the schedule by {scheduler.name}",
            f"{server} runs it already",
            f"End that first: {server.end}",
        )
    if not dry_run:
        try:
            plan.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UnreachableError(
                f"making the directory of the logs, {plan.log_dir}", error.strerror or str(error),
                "Name one that you may write to: BACKUP_LOG_DIR.",
            ) from error  # fmt: skip
    change = scheduler.install(plan, dry_run=dry_run)
    audit = Audit(settings.backup_dir, profile=settings.profile)
    if not dry_run and (change.changed or past.since(deeds(audit.entries()), settings.profile) is None):
        with audit.recorded("schedule") as record:
            record.detail = _detail(scheduler.name, plan.times)
    return change


def noted(settings: Settings, times: Mapping[Tier, CronTime]) -> list[Deed]:
    """Note in the audit log since when `schedule serve` stands for these times; return what was done before.

    A server that is started again goes on with what stood, so that what was due meanwhile is known as missed.

    Raises:
        RefusedError: cron or systemd runs the same sets already.
    """
    for other in every():
        if _installed(other, key_of(settings)):
            raise RefusedError(
                "serving the schedule", f"{other.name} runs it already",
                f"Remove that first: understudy schedule remove --{other.name}",
            )  # fmt: skip
    audit = Audit(settings.backup_dir, profile=settings.profile)
    done, detail = deeds(audit.entries()), _detail(served.NAME, times)
    if past.installed_as(done, settings.profile) != detail:
        with audit.recorded("schedule") as record:
            record.detail = detail
        done = deeds(audit.entries())
    return done


def _detail(name: str, times: Mapping[Tier, CronTime]) -> str:
    return f"{past.INSTALLED} by {name}: " + "; ".join(f"{tier} {time.text}" for tier, time in times.items())


def remove(settings: Settings, scheduler: Scheduler | None, *, dry_run: bool = False) -> dict[str, Change]:
    """Remove the schedule of these settings from one scheduler, or from all; return what was there, by their names."""
    key = key_of(settings)
    found = {}
    if scheduler is None and (left := served.forget(settings, dry_run=dry_run)):
        found[served.NAME] = Change(True, left)
    for one in [scheduler] if scheduler else every():
        try:
            change = one.remove(key, dry_run=dry_run)
        except (NotFoundError, NotAuthorisedError):
            if scheduler:
                raise
            continue  # a machine without cron, or a user who may have none: nothing of ours is there
        if change.changed:
            found[one.name] = change
    if found and not dry_run:
        with Audit(settings.backup_dir, profile=settings.profile).recorded("schedule") as record:
            record.detail = f"{past.REMOVED} from {', '.join(found)}"
    return found


def installed(settings: Settings) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return tiers and times by scheduler, and a sentence for every scheduler that cannot be asked."""
    found, problems = {}, []
    for one in every():
        try:
            found[one.name] = one.installed(key_of(settings))
        except UnderstudyError as error:
            if one.name != "cron" or error.exit_code != 11:  # a machine without cron has nothing installed there
                problems.append(f"{error}. {error.hint}")
    if server := served.found(settings):
        if server.alive:
            found[served.NAME] = dict(server.times)
        elif not any(found.values()) and server.trouble:
            problems.append(server.trouble)
    return found, problems


def status(settings: Settings, now: datetime | None = None) -> tuple[list[Standing], list[str]]:
    """Return how each tier stands, and what could not be found out.

    Raises:
        UnreachableError: the audit log cannot be read.
    """
    entries, problems = installed(settings)
    done = deeds(Audit(settings.backup_dir).entries())
    rows = standings(settings, done, entries, holder(settings.backup_dir), now or datetime.now(UTC))
    return rows, problems


def _installed(scheduler: Scheduler, key: str) -> bool:
    try:
        return bool(scheduler.installed(key))
    except UnderstudyError:  # not there, or not ours to read: then it runs nothing of ours
        return False
