"""`understudy restore`: bring a set back."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from understudy.cli.options import (
    Components,
    OutDir,
    S3Uri,
    chosen,
    local_repository,
    needed_remote,
    settings_from,
    target_of,
)
from understudy.cli.output import Json, print_json
from understudy.errors import IncompleteError, RefusedError, UsageError

LATEST = "latest"


def command(
    name: Annotated[str, typer.Argument(metavar="[SET|latest]", help="An id, a directory or an archive.")] = LATEST,
    from_s3: Annotated[str | None, typer.Option(help="Restore from the object store: an id, or latest.")] = None,
    input_dir: Annotated[
        str | None, typer.Option("--input", "-i", metavar="DIR", help="The set's directory or archive.")
    ] = None,
    components: Components = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace keys that exist.")] = False,
    recreate_stream_groups: Annotated[
        bool, typer.Option("--recreate-stream-groups/--no-recreate-stream-groups", help="Bring back consumer groups.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do not ask before overwriting.")] = False,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Write a set's keys back to their owners. Interrupted, it can be run again and completes.

    The set is checked first; nothing is written from a damaged one, nor to a server too old for it.

    \b
    Examples:
      understudy restore latest
      understudy restore --from-s3 latest --s3-uri s3://my-bucket/redis-backups
      understudy restore latest --overwrite --dry-run
    """
    from understudy import progress
    from understudy.backup.component import RestoreOptions
    from understudy.backup.components.redis import RedisComponent
    from understudy.backup.restore import opened, restore
    from understudy.pages.figures import count

    if (s3_uri and not from_s3) or (input_dir and (from_s3 or name != LATEST)):
        raise UsageError(
            "choosing the set to restore", "two places are named",
            "From the object store: --from-s3 latest --s3-uri URI. From a directory: -i DIR alone.",
        )  # fmt: skip
    settings = settings_from(out_dir, s3_uri)
    shown = progress.for_terminal(quiet=as_json)
    options = RestoreOptions(overwrite, recreate_stream_groups, dry_run)
    remote = needed_remote(settings) if from_s3 else None
    component = RedisComponent(target_of(settings))
    with opened(from_s3 or input_dir or name, local_repository(settings), remote, shown, settings.profile) as backup:
        picked = chosen(components, component)
        if not dry_run and not force:
            _confirm([line for one in picked for line in one.overwrites(backup, options)])
        reports = restore(backup, picked, options, shown)
        metadata = backup.metadata
    if as_json:
        print_json(
            {"id": str(metadata.id), "dry_run": dry_run}
            | {"components": {name: dataclasses.asdict(report) for name, report in reports.items()}}
        )
    failures: list[str] = []
    for title, report in reports.items():
        failures += report.failures
        if as_json:
            continue
        if dry_run:
            print(f"[DRY RUN] Would restore {title.capitalize()} from: {metadata.id} ({count(metadata.keys, 'key')})")
        counts = f"restored={report.restored}, skipped={report.skipped}, expired={report.expired}"
        functions = f", functions={report.functions}" if report.functions else ""
        print(f"{'[DRY RUN] ' if dry_run else ''}Restore {title} -> {counts}, failed={report.failed}{functions}")
        if report.functions_kept:
            print(f"Function libraries that exist already were kept: {report.functions_kept}")
        if report.skipped and not dry_run:
            print("Skipped keys exist already; --overwrite replaces them.")
    failed = sum(report.failed for report in reports.values())
    if failed:
        why = f"{count(failed, 'item')} failed"
        raise IncompleteError(f"restoring {metadata.id}", why, "Mend the cause, then run it again.", failures)


def _confirm(lost: Sequence[str]) -> None:
    """Ask before something is overwritten; `--force` answers it, and without a terminal the answer is no."""
    if not lost:
        return
    if not sys.stdin.isatty():
        raise RefusedError("restoring", f"it would replace {lost[0]}", "Add --force if that is meant.", [*lost])
    for line in lost:
        print(f"This replaces {line}.", file=sys.stderr)
    if not typer.confirm("Go on?"):
        raise RefusedError("restoring", "you said no")
