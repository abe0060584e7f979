"""What the metrics file says, out of what health-check read; written by every scheduled run and by health-check."""

from __future__ import annotations

import shutil
from pathlib import Path

from understudy.operations import past as history
from understudy.operations.health import Health, Look, examine, look
from understudy.operations.metrics import Figures, write
from understudy.operations.rehearsal.record import last_passed
from understudy.operations.tier import SCHEDULED, times
from understudy.settings import Settings


def figures_of(at: Look, health: Health) -> Figures:
    """Return every figure that is known; `profile` is a label of all of them."""
    figures, profile = Figures(), at.settings.profile
    missed = history.missing_runs(at.past, profile, times(at.settings), at.now)
    for tier in SCHEDULED:
        label = {"tier": str(tier), "profile": profile}
        if newest := at.newest(tier):
            created = newest.stored.id.created.timestamp()
            figures.put("understudy_backup_last_success_timestamp_seconds", created, **label)
            figures.put("understudy_backup_set_bytes", newest.stored.size, **label)
        kept = sum(1 for one in at.sets if one.tier == tier and not one.damage)
        figures.put("understudy_backup_sets", kept, **label)
        runs = history.runs(at.past, profile, tier)
        if runs:
            figures.put("understudy_backup_last_run_timestamp_seconds", runs[-1].began_at.timestamp(), **label)
        if ended := [one for one in runs if one.outcome is not None]:
            figures.put("understudy_backup_last_run_success", ended[-1].outcome == "ok", **label)
            figures.put("understudy_backup_duration_seconds", ended[-1].seconds, **label)
        since = runs[-1].began_at if runs else None
        open_ones = [one for one in missed.get(tier, []) if since is None or one > since]
        figures.put("understudy_backup_missed_runs", len(open_ones), **label)
    for place, there in at.places.items():
        if not isinstance(there, str) and there:
            name = "understudy_backup_offsite_last_success_timestamp_seconds"
            figures.put(name, there[0].id.created.timestamp(), place=place, profile=profile)
    if at.settings.backup_dir.is_dir():
        figures.put("understudy_backup_free_bytes", shutil.disk_usage(at.settings.backup_dir).free, profile=profile)
    if passed := last_passed(at.settings.backup_dir):
        name = "understudy_rehearsal_last_success_timestamp_seconds"
        figures.put(name, passed.at.timestamp(), profile=profile)
    figures.put("understudy_backup_healthy", health.healthy, profile=profile)
    for item in {one.name for one in health.items}:
        fine = all(one.state != "bad" for one in health.items if one.name == item)
        figures.put("understudy_backup_check_healthy", fine, item=item, profile=profile)
    figures.put("understudy_backup_written_timestamp_seconds", at.now.timestamp(), profile=profile)
    return figures


def write_figures(settings: Settings, path: Path | None = None) -> None:
    """Look at everything and write the metrics file (BACKUP_METRICS_FILE), where one is named.

    Raises:
        UnreachableError: it cannot be written; the old file is as it was.
    """
    place = path or settings.backup_metrics_file
    if place:
        at = look(settings)
        write(place, figures_of(at, examine(at)))
