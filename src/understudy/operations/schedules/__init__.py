"""What can start us at night, one file each; `schedule.py` says what one is."""

from __future__ import annotations

import shutil

from understudy.errors import NotFoundError
from understudy.operations.schedule import Scheduler
from understudy.operations.schedules.cron import Cron
from understudy.operations.schedules.systemd import Systemd

KINDS: tuple[type[Scheduler], ...] = (Cron, Systemd)


def chosen(name: str | None) -> Scheduler:
    """Return the scheduler of that name; for None cron where there is a `crontab`, else systemd.

    Raises:
        NotFoundError: this machine has none.
    """
    for kind in KINDS:
        if name == kind.name or (name is None and shutil.which(kind.program)):
            return kind()
    raise NotFoundError(
        "looking for a scheduler", "there is neither crontab nor systemctl on PATH",
        "Install cron, or have something else run `understudy schedule run daily`.",
    )  # fmt: skip


def every() -> list[Scheduler]:
    """Return all of them, for whoever asks what is installed."""
    return [kind() for kind in KINDS]
