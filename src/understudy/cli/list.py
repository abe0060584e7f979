"""`understudy list`: which sets there are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from understudy.cli.options import OutDir, S3Uri, local_repository, remote_repository, settings_from
from understudy.cli.output import Json, print_json


def command(
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    local: Annotated[bool, typer.Option("--local", help="List BACKUP_DIR even where S3_URI is set.")] = False,
    as_json: Json = False,
) -> None:
    """List the sets, newest first, as timestamp, size in bytes and key, with tabs between.

    \b
    Examples:
      understudy list
      understudy list --s3-uri s3://my-bucket/redis-backups
    """
    settings = settings_from(out_dir, s3_uri)
    remote = None if local else remote_repository(settings)
    repository = remote or local_repository(settings)
    sets = repository.sets()
    if as_json:
        print_json(
            [
                {"id": str(one.id), "created_at": one.id.created.isoformat(), "bytes": one.size, "key": one.key}
                for one in sets
            ]
        )
        return
    if not sets:
        where = settings.backup_s3_uri if remote else settings.backup_dir
        print(f"No sets in {where}. Take one: understudy backup", file=sys.stderr)
    for one in sets:
        print(f"{one.id.created:%Y-%m-%dT%H:%M:%SZ}\t{one.size}\t{one.key}")
