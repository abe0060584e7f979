"""`understudy list`: which sets there are."""

from __future__ import annotations

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs
import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.options import OutDir, S3Uri, local_repository, remote_repository, settings_from
from understudy.cli.output import Json, print_json
from understudy.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from understudy.backup.repository import Repository, StoredSet


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
        print_json([_as_data(repository, one) for one in sets])
        return
    if not sets:
        where = settings.backup_s3_uri if remote else settings.backup_dir
        print(f"No sets in {where}. Take one: understudy backup", file=sys.stderr)
    for one in sets:
        print(f"{one.id.created:%Y-%m-%dT%H:%M:%SZ}\t{one.size}\t{one.key}")


def _as_data(repository: Repository, stored: StoredSet) -> dict[str, Any]:
    """Return a set with what its metadata says; null where that cannot be read."""
    from understudy.backup.repository import peek

    told: dict[str, Any] = {
        "id": str(stored.id), "created_at": stored.id.created.isoformat(), "bytes": stored.size, "key": stored.key,
        "tier": None, "components": None, "missing": None, "match": None, "encrypted": None,
    }  # fmt: skip
    with contextlib.suppress(IntegrityError, NotFoundError):  # it is listed all the same; `check` says what is wrong
        metadata = peek(repository, stored)
        told |= {"tier": metadata.tier, "components": [*metadata.components], "missing": dict(metadata.missing)}
        told |= {
            "match": metadata.components.get("redis", {}).get("match"),
            "encrypted": metadata.encryption is not None,
        }
    return told
