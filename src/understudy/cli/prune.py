"""`understudy prune`: delete the sets that retention no longer keeps."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from typing import Annotated

import typer

from understudy.cli.options import OutDir, S3Uri, named, settings_from
from understudy.cli.output import Json, print_json


def command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be kept and deleted, and why.")] = False,
    places: Annotated[
        list[str] | None,
        typer.Option("--place", help="Only here: local, s3://…, a directory, host:/path; repeatable.", callback=named),
    ] = None,
    despite_failure: Annotated[
        bool, typer.Option("--despite-failure", help="Delete old sets although the newest run failed: a disk is full.")
    ] = False,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Delete what is older than its tier is kept, in BACKUP_DIR and in every place that sets are copied to.

    Never deleted: sets taken by hand, the newest good set of each tier, the last one that was verified, damaged sets,
    and anything while the newest scheduled run failed. Where it failed because the disk is full, shorten what is kept
    (BACKUP_DAILY_RETENTION and the like) and use --despite-failure.

    \b
    Examples:
      understudy prune --dry-run
      BACKUP_DAILY_RETENTION=3 understudy prune --despite-failure --dry-run
      understudy prune --place s3://my-bucket/backups
    """
    from understudy import progress
    from understudy.operations.prune import prune_settings, raise_failures

    settings = settings_from(out_dir, s3_uri)
    shown = progress.for_terminal(quiet=as_json)
    results = prune_settings(settings, places or [], shown, dry_run=dry_run, despite_failure=despite_failure)
    if as_json:
        print_json({"dry_run": dry_run, "places": [one.as_data() for one in results]})
    else:
        for one in results:
            print(f"{one.place}: {one.summary(dry_run)}")
            for decision in one.decisions:
                if dry_run or not decision.keep:
                    print(f"  {one.word(decision, dry_run):12}  {decision.id}  {decision.reason}")
    raise_failures(results)
