"""`understudy schedule`: sets taken by themselves, every day, week and month."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import OutDir, duration_s, settings_from
from understudy.cli.output import Json, print_json, print_table, read_or_not, tell_overruled
from understudy.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from understudy.operations.schedule import Change, Plan, Scheduler
    from understudy.settings import Settings


class Action(StrEnum):
    """What to do with the schedule."""

    INSTALL = "install"
    REMOVE = "remove"
    STATUS = "status"
    RUN = "run"
    SERVE = "serve"


def command(
    action: Annotated[Action, typer.Argument(metavar="install|remove|status|run|serve", help="What to do.")],
    tier: Annotated[str | None, typer.Argument(metavar="[TIER]", help="Of run: daily, weekly or monthly.")] = None,
    systemd: Annotated[bool, typer.Option("--systemd", help="systemd timers instead of cron.")] = False,
    cron: Annotated[bool, typer.Option("--cron", help="The crontab (where there is one: the default).")] = False,
    env_file: Annotated[Path | None, typer.Option(help="File of KEY=VALUE lines with passwords and keys.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be installed or removed.")] = False,
    wait: Annotated[str | None, typer.Option(help="Of run: wait so long for another run to end: 2h.")] = None,
    out_dir: OutDir = None,
    as_json: Json = False,
) -> None:
    """Have sets taken by cron or systemd: daily at 02:00, weekly on Sunday at 03:00, monthly on the 1st at 04:00.

    A run takes a set, checks it, copies it to S3_URI and BACKUP_OFFSITE, and deletes what retention no longer keeps.

    \b
    Examples:
      understudy schedule install --env-file /etc/understudy.env
      understudy schedule status
      understudy schedule run daily
      understudy schedule remove
      understudy schedule serve     (in a container: stays, and begins each run when it is due)
    """
    from understudy.operations import env_file as env_files

    if (tier is not None) != (action is Action.RUN):
        raise UsageError("reading the command", "`run`, and only that, needs a tier", "understudy schedule run daily")
    if systemd and cron:
        raise UsageError("reading the options", "--systemd and --cron are two ways of one thing", "Give one of them.")
    if dry_run and action not in (Action.INSTALL, Action.REMOVE):
        raise UsageError(
            "reading the options", f"`{action}` does what it does: --dry-run is for install and remove",
            "understudy schedule install --dry-run",
        )  # fmt: skip
    if wait and action is not Action.RUN:
        raise UsageError("reading the options", "--wait is for run", "understudy schedule run daily --wait 2h")
    if (systemd or cron) and action not in (Action.INSTALL, Action.REMOVE):
        raise UsageError(
            "reading the options", "--systemd and --cron are for install and remove", f"understudy schedule {action}"
        )
    in_file, overruled = env_files.load(env_file) if env_file else ({}, [])
    if env_file:
        tell_overruled(env_file, overruled)
    settings = settings_from(out_dir)
    if action is Action.RUN:
        with read_or_not():
            _run(str(tier), settings, duration_s(wait) if wait else 0, as_json)
    elif action is Action.STATUS:
        _status(settings, as_json)
    elif action is Action.SERVE:
        _serve(settings, out_dir)
    else:
        from understudy.operations.schedules import chosen

        scheduler = chosen("systemd" if systemd else "cron" if cron else None)
        if action is Action.REMOVE:
            _remove(settings, scheduler if systemd or cron else None, dry_run, as_json)
            return
        from understudy.cli import stack
        from understudy.operations.schedule import plan

        stack.components_of(settings, guess=False)  # what a run would refuse is refused by day
        environ = {**os.environ, "BACKUP_DIR": str(out_dir)} if out_dir else os.environ
        _install(settings, scheduler, plan(settings, environ, env_file, in_file), dry_run, as_json)


def _install(settings: Settings, scheduler: Scheduler, plan: Plan, dry_run: bool, as_json: bool) -> None:
    from understudy.operations.install import install

    change = install(settings, scheduler, plan, dry_run=dry_run)
    if as_json:
        print_json(
            {**_data(scheduler.name, change, dry_run), "secrets_missing": list(plan.homeless), "trial": plan.trial()}
        )
    else:
        done = "would be" if dry_run else "is"
        kept = "" if change.changed else " already, as it stands here"
        print(f"The schedule {done} installed by {scheduler.name}{kept}:\n{change.text.rstrip()}")
        print(f"Logs: {plan.log_dir}/backup-*.log")
        print(f"Try it now as it will run at night, without what this shell has loaded:\n  {plan.trial()}")
    if plan.homeless:
        print(
            f"Warning: only in this environment, so missing at night: {', '.join(plan.homeless)}.\n"
            "Try: put them as KEY=VALUE into a file (chmod 600), and: understudy schedule install --env-file FILE",
            file=sys.stderr,
        )
    _to_do(change)


def _remove(settings: Settings, scheduler: Scheduler | None, dry_run: bool, as_json: bool) -> None:
    from understudy.operations.install import remove

    changes = remove(settings, scheduler, dry_run=dry_run)
    if as_json:
        print_json([_data(name, change, dry_run) for name, change in changes.items()])
    elif not changes:
        print(f"No schedule is installed for {settings.backup_dir.resolve()}, profile {settings.profile}.")
    for name, change in changes.items():
        if not as_json:
            print(f"The schedule {'would be' if dry_run else 'is'} removed from {name}:\n{change.text.rstrip()}")
        _to_do(change)


def _data(name: str, change: Change, dry_run: bool) -> dict[str, object]:
    return {
        "scheduler": name, "changed": change.changed, "dry_run": dry_run, "text": change.text,
        "to_do": list(change.to_do),
    }  # fmt: skip


def _to_do(change: Change) -> None:
    if change.to_do:
        print("Still to do by hand:", file=sys.stderr)
    for line in change.to_do:
        print(f"  {line}", file=sys.stderr)


def _status(settings: Settings, as_json: bool) -> None:
    from understudy.operations.install import status
    from understudy.pages.figures import minute

    rows, problems = status(settings)
    if as_json:
        print_json({"tiers": [one.as_data() for one in rows], "problems": problems})
        return

    def at(time: datetime | None) -> str:
        return minute(time) if time else "–"

    print_table(
        ["tier", "when", "next", "last run", "outcome", "missed", "installed"],
        [
            [
                str(one.tier), one.time or "off", at(one.next), at(one.last), one.outcome or "–",
                f"{len(one.missed)} (last {at(one.missed[-1])})" if one.missed else "0",
                ", ".join(one.installed) + ("" if one.current else " (differs)") if one.installed else "no",
            ]
            for one in rows
        ],
    )  # fmt: skip
    for line in problems:
        print(f"Warning: {line}", file=sys.stderr)


def _log(text: str) -> None:
    from datetime import datetime

    print(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}", file=sys.stderr, flush=True)


def _serve(settings: Settings, out_dir: Path | None) -> None:
    from datetime import UTC, datetime

    from understudy.cli import stack
    from understudy.operations import serve, served
    from understudy.operations.install import noted
    from understudy.operations.schedule import wanted_times

    when = wanted_times(settings)
    stack.components_of(settings, guess=False)  # what a run would refuse is refused now
    now = datetime.now(UTC)
    zone = serve.zone(os.environ, now)
    with served.serving(settings, when, now):
        done = noted(settings, when)
        listed = ", ".join(f"{tier} {time.text!r}" for tier, time in when.items())
        whose = f"{settings.backup_dir.resolve()}, profile {settings.profile}, time zone {zone}"
        _log(f"Serving the schedule of {whose}: {listed}.")
        serve.serve(
            serve.Agenda(when, now), serve.owed(when, done, settings.profile, now),
            serve.run_of(["--out-dir", str(out_dir)] if out_dir else []), _log, lambda: datetime.now(UTC),
        )  # fmt: skip


def _run(tier: str, settings: Settings, wait_s: float, as_json: bool) -> None:
    from understudy import progress
    from understudy.backup.take import DEFAULT_NAME
    from understudy.cli import stack
    from understudy.operations.figures import write_figures
    from understudy.operations.run import Parts, run
    from understudy.operations.tier import scheduled

    chosen = scheduled(tier)
    name = settings.backup_name or ("stack-backup" if stack.names_of(settings) != ("redis",) else DEFAULT_NAME)
    parts = Parts(
        lambda: stack.components_of(settings, guess=False),
        name,
        stack.optional_of(settings),
        figures=lambda: write_figures(settings),
    )
    _log(f"The {chosen} run begins (process {os.getpid()}).")
    try:
        ran = run(chosen, settings, parts, progress.for_terminal(quiet=as_json), wait_s)
    except RefusedError:
        _log(f"The {chosen} run was refused.")
        raise
    except BaseException:
        _log(f"The {chosen} run failed.")
        raise
    _log(f"The {chosen} run went well{', but look at its warnings' if ran.lost else ''}.")
    if as_json:
        print_json(ran.as_data())
        return
    print(f"Backup written: {settings.backup_dir / str(ran.set)}")
    print(f"Archive: {ran.archive}")
    for one in ran.copies:
        print(f"Copy: {one.line}")
    for pruned in ran.pruned:
        print(
            f"Pruned {pruned.place}: {len(pruned.deleted)} deleted, {len(pruned.decisions) - len(pruned.deleted)} kept"
        )
