"""`understudy upload`: bring a set that is here to the object store."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from typing import Annotated

import typer

from understudy.cli.options import OutDir, S3Uri, local_repository, named, needed_remote, settings_from
from understudy.cli.output import Json, print_json, read_or_not


def command(
    name: Annotated[
        str, typer.Argument(metavar="[SET|latest]", help="The id of a local set.", callback=named)
    ] = "latest",
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Upload the archive of a local set, for example after an upload that failed; the set is checked first.

    \b
    Example:
      AWS_PROFILE=toy-root understudy upload latest --s3-uri s3://my-bucket/redis-backups
    """
    from pathlib import Path

    from understudy import progress
    from understudy.backup.repository import ARCHIVE_SUFFIX, find
    from understudy.backup.restore import opened
    from understudy.backup.take import TakenSet, upload
    from understudy.operations.audited import recorded

    settings = settings_from(out_dir, s3_uri)
    shown = progress.for_terminal(quiet=as_json)
    local, remote = local_repository(settings), needed_remote(settings)
    archive = Path(
        local.directory / f"{find(local, name, settings.profile, named=settings.backup_name).id}{ARCHIVE_SUFFIX}"
    )
    with (
        read_or_not(),
        recorded(settings, "copy") as entry,
        opened(str(archive), local, None, shown) as backup,  # reading the archive through is its check
    ):
        entry.set, entry.detail = str(backup.metadata.id), f"to {settings.backup_s3_uri}"
        taken = upload(TakenSet(backup, archive, None), remote, shown)
    if as_json:
        print_json({"id": str(backup.metadata.id), "archive": str(archive), "uploaded": taken.uploaded})
    else:
        print(f"Uploaded: {taken.uploaded}")
