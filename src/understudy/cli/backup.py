"""`understudy backup`: take a set."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import (
    Components,
    OutDir,
    S3Uri,
    chosen,
    local_repository,
    remote_repository,
    settings_from,
    target_of,
)
from understudy.cli.output import Json, print_json
from understudy.errors import UnderstudyError

if TYPE_CHECKING:
    from understudy.backup.repository import Repository
    from understudy.progress import Progress


def command(
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    match: Annotated[str | None, typer.Option(help="Only keys that match this glob, for example 'user:*'.")] = None,
    chunk_keys: Annotated[int | None, typer.Option(help="At most so many keys a part (100000).")] = None,
    max_rate: Annotated[float | None, typer.Option(help="Read at most so many keys a second; 0: no limit.")] = None,
    components: Components = None,
    as_json: Json = False,
) -> None:
    """Back up every primary of a Valkey or Redis stack, side by side, into one set and its archive.

    The server is REDIS_NODES or REDIS_URL; without them the running lab, or 127.0.0.1:7001.

    \b
    Examples:
      understudy backup
      understudy backup --match 'user:*' --chunk-keys 10000
      AWS_PROFILE=toy-root understudy backup --s3-uri s3://my-bucket/redis-backups
    """
    from understudy import progress
    from understudy.backup.components.redis import ReadOptions, RedisComponent
    from understudy.backup.take import take, upload
    from understudy.pages.figures import count

    settings = settings_from(
        out_dir, s3_uri, backup_match=match, backup_chunk_keys=chunk_keys, backup_max_rate=max_rate
    )
    options = ReadOptions(settings.backup_match, settings.backup_chunk_keys, settings.backup_max_rate)
    component = RedisComponent(target_of(settings), options)
    shown = progress.for_terminal(quiet=as_json)
    remote = remote_repository(settings)
    if remote:  # meanwhile: hours of reading should not end in a surprise, nor wait for a store that is slow
        threading.Thread(target=_try_store, args=(remote, shown), daemon=True).start()
    taken = take(chosen(components, component), local_repository(settings), None, settings.profile, shown)
    metadata = taken.backup.metadata
    if not metadata.keys:
        shown.say("Warning: the set holds no keys" + (f": none matches {options.match!r}." if options.match else "."))
    if not as_json:
        print(f"Backup written: {taken.backup.directory} ({count(metadata.keys, 'key')})")
        print(f"Archive: {taken.archive}")
    if remote:
        taken = upload(taken, remote, shown)
        if not as_json:
            print(f"Uploaded: {taken.uploaded}")
    if as_json:
        print_json(
            {
                "id": str(metadata.id),
                "directory": str(taken.backup.directory),
                "archive": str(taken.archive),
                "uploaded": taken.uploaded,
                "keys": metadata.keys,
                "bytes": metadata.size,
                "components": dict(metadata.components),
            }
        )


def _try_store(remote: Repository, shown: Progress) -> None:
    try:
        remote.sets()
    except UnderstudyError as error:
        shown.say(f"Warning: the upload will fail as things stand. {error}. {error.hint}")
