"""`understudy backup`: take a set."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.options import (
    Components,
    OutDir,
    S3Uri,
    globbed,
    local_repository,
    remote_repository,
    settings_from,
)
from understudy.cli.output import Json, print_json, read_or_not
from understudy.cli.stack import components_of, optional_of
from understudy.errors import UnderstudyError, UsageError

if TYPE_CHECKING:
    from understudy.backup.repository import Repository
    from understudy.backup.take import TakenSet
    from understudy.progress import Progress


class Engine(StrEnum):
    """How the keys of Valkey or Redis are read."""

    SCAN = "scan"
    REPLICA = "replica"
    AUTO = "auto"


class Format(StrEnum):
    """What the keys of Valkey or Redis lie in."""

    JSONL = "jsonl"
    RDB = "rdb"
    BOTH = "both"


def command(
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    match: Annotated[
        str | None, typer.Option(help="Only keys that match this glob, for example 'user:*'.", callback=globbed)
    ] = None,
    chunk_keys: Annotated[int | None, typer.Option(help="At most so many keys a part (100000).")] = None,
    max_rate: Annotated[float | None, typer.Option(help="Read at most so many keys a second; 0: no limit.")] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(help="How keys are read: scan, replica (one instant of all shards), auto (BACKUP_ENGINE; scan)."),
    ] = None,
    pause: Annotated[
        bool | None,
        typer.Option(
            "--pause/--no-pause",
            help="With replicas: hold writes for some milliseconds, or an instant of its own for each shard.",
        ),
    ] = None,
    kept_as: Annotated[
        Format | None,
        typer.Option("--format", help="With replicas: lines (jsonl), an RDB file a shard, or both (BACKUP_FORMAT)."),
    ] = None,
    slice_bytes: Annotated[
        str | None,
        typer.Option(help="Keys that take more memory are read in slices, for example 16MiB (64MiB)."),
    ] = None,
    components: Components = None,
    as_json: Json = False,
) -> None:
    """Back up PostgreSQL, Redis or Valkey and Qdrant, whichever are configured, side by side into one set.

    They are POSTGRES_URL, REDIS_NODES or REDIS_URL, and QDRANT_URL; without any of them the running lab, or
    127.0.0.1:7001.

    \b
    Examples:
      understudy backup
      understudy backup --component postgres --component redis
      understudy backup --match 'user:*' --chunk-keys 10000
      understudy backup --engine replica
      understudy backup --engine replica --format rdb
      AWS_PROFILE=toy-root understudy backup --s3-uri s3://my-bucket/redis-backups
    """
    from understudy import progress
    from understudy.backup.contents import changes, told_of
    from understudy.backup.encryption import Lock
    from understudy.backup.take import take, upload
    from understudy.operations.audited import recorded

    settings = settings_from(
        out_dir, s3_uri, backup_match=match, backup_chunk_keys=chunk_keys, backup_max_rate=max_rate,
        backup_engine=engine, backup_pause=pause, backup_format=kept_as,
        backup_slice_bytes=slice_bytes,
    )  # fmt: skip
    if pause is False and settings.backup_engine == "scan":
        raise UsageError(
            "choosing how keys are read", "--no-pause is of the engines replica and auto, and this one is scan",
            "Scan never holds writes. For one instant a shard: --engine replica --no-pause.",
        )  # fmt: skip
    picked = components_of(settings, components)
    lock = Lock.from_settings(settings)
    shown = progress.for_terminal(quiet=as_json)
    remote = remote_repository(settings)
    if remote:  # meanwhile: hours of reading should not end in a surprise, nor wait for a store that is slow
        threading.Thread(target=_try_store, args=(remote, shown), daemon=True).start()
    with read_or_not(), recorded(settings, "backup", [one.name for one in picked]) as entry:
        try:
            taken = take(
                picked, local_repository(settings), None, settings.profile, shown,
                name=settings.backup_name, optional=optional_of(settings), lock=lock,
            )  # fmt: skip
        finally:
            for component in picked:
                component.close()
        metadata = taken.backup.metadata
        entry.set, entry.components = str(metadata.id), tuple(metadata.components)
        found = changes(metadata, local_repository(settings), settings.backup_may_be_empty)
        entry.detail = told_of(found)
        for one in found:
            shown.say(f"Warning: {one.line}")
        if not as_json:
            _tell(taken)
        if remote:
            taken = upload(taken, remote, shown)
            if not as_json:
                print(f"Uploaded: {taken.uploaded}")
    if as_json:
        print_json(_as_data(taken))


def _tell(taken: TakenSet) -> None:
    from understudy.backup.describe import held_in, lines
    from understudy.pages.figures import count

    metadata = taken.backup.metadata
    what = count(metadata.keys, "key") if set(metadata.components) == {"redis"} else held_in(metadata)
    print(f"Backup written: {taken.backup.directory} ({what})")
    for line in lines(metadata):
        print(line)
    print(f"Archive: {taken.archive}")


def _as_data(taken: TakenSet) -> dict[str, Any]:
    metadata = taken.backup.metadata
    return {
        "id": str(metadata.id),
        "directory": str(taken.backup.directory),
        "archive": str(taken.archive),
        "uploaded": taken.uploaded,
        "keys": metadata.keys,
        "bytes": metadata.size,
        "tier": metadata.tier,
        "span_s": metadata.span_s,
        "missing": dict(metadata.missing),
        "encryption": metadata.encryption,
        "components": dict(metadata.components),
    }


def _try_store(remote: Repository, shown: Progress) -> None:
    try:
        remote.sets()
    except UnderstudyError as error:
        shown.say(f"Warning: the upload will fail as things stand. {error}. {error.hint}")
