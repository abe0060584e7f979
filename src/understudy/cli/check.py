"""`understudy check`: is a set whole?"""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from typing import Annotated

import typer

from understudy.cli.options import OutDir, S3Uri, local_repository, needed_remote, settings_from
from understudy.cli.output import Json, print_json


def command(
    name: Annotated[str, typer.Argument(metavar="[SET|latest]", help="An id, a directory or an archive.")] = "latest",
    from_s3: Annotated[str | None, typer.Option(help="Check this set of the object store: an id, or latest.")] = None,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Prove a set whole, without a server: every file there, every checksum right, every record readable.

    \b
    Examples:
      understudy check latest
      understudy check ./backups/redis-backup-local-20261120T234000Z-1f3a.tar.gz
    """
    from understudy import progress
    from understudy.backup.check import check
    from understudy.backup.restore import opened
    from understudy.pages.figures import count

    settings = settings_from(out_dir, s3_uri)
    shown = progress.for_terminal(quiet=as_json)
    remote = needed_remote(settings) if from_s3 else None
    with opened(from_s3 or name, local_repository(settings), remote, shown, settings.profile) as backup:
        keys = check(backup, shown)
        metadata = backup.metadata
    if as_json:
        print_json({"id": str(metadata.id), "whole": True, "files": len(metadata.files), "keys": keys})
    else:
        files = count(len(metadata.files), "file")
        print(f"Check {metadata.id} -> whole: {files}, {count(keys, 'key')}, {metadata.size:,} bytes")
