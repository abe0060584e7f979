"""`understudy health-check`: is what should happen at night happening?"""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import OutDir, settings_from
from understudy.cli.output import Json, print_json
from understudy.errors import VerdictError

if TYPE_CHECKING:
    from understudy.operations.health import Health


def command(
    notify: Annotated[bool, typer.Option("--notify", help="Tell whom BACKUP_NOTIFY… names when it is bad.")] = False,
    metrics: Annotated[
        Path | None, typer.Option(help="Write Prometheus figures into this file (BACKUP_METRICS_FILE).")
    ] = None,
    out_dir: OutDir = None,
    as_json: Json = False,
) -> None:
    """Look at everything that a restore tonight would rely on, and exit with 15 when anything of it is bad.

    The repository, the newest set of each tier, the last and the missed runs, free space, the schedule and what it
    starts, copies elsewhere, the last rehearsal, the audit log, the clock, the lock, and who hears of a failure.

    \b
    Examples:
      understudy health-check
      understudy health-check --json --metrics /var/lib/node_exporter/understudy.prom
    """
    from understudy.operations.figures import figures_of
    from understudy.operations.health import examine, look
    from understudy.operations.metrics import write
    from understudy.operations.notify import notify as tell
    from understudy.pages.figures import count

    settings = settings_from(out_dir, backup_metrics_file=metrics)
    at = look(settings)
    health = examine(at)
    if as_json:
        print_json(health.as_data())
    else:
        _print(health)
    if settings.backup_metrics_file:
        write(settings.backup_metrics_file, figures_of(at, health))
    if notify and not health.healthy:
        for line in tell(settings, health.event(settings.profile)):
            print(f"Warning: {line}", file=sys.stderr)
    failed = [f"{one.name}: {one.text}" for one in health.items if one.state == "bad"]
    if failed:
        are = "is" if len(failed) == 1 else "are"
        raise VerdictError(
            "checking the health of the backups", f"{len(failed)} of {count(len(health.items), 'item')} {are} bad",
            "", failed if as_json else [],
        )  # fmt: skip


def _print(health: Health) -> None:
    for one in health.items:
        print(f"{one.state:<8} {one.name:<13} {one.text}")
        if one.next:
            print(f"{'':<22} Try: {one.next}")
