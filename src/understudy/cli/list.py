"""`understudy list`: which sets there are."""

from __future__ import annotations

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs
import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.options import OutDir, S3Uri, local_repository, remote_repository, settings_from
from understudy.cli.output import Json, print_json, print_table
from understudy.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from understudy.backup.pitr.catalog import Archive
    from understudy.backup.repository import Repository, StoredSet
    from understudy.settings import Settings

_WHEN = "%Y-%m-%dT%H:%M:%SZ"


def command(
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    local: Annotated[bool, typer.Option("--local", help="List BACKUP_DIR even where S3_URI is set.")] = False,
    archive: Annotated[bool, typer.Option("--archive", help="List only the seconds that --at can restore.")] = False,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Say also what each set holds, how many keys, and its tier.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the sets, newest first, as timestamp, size in bytes and key, with tabs between.

    Below them stands what an archive can give back: any second of a window, none of a gap.

    \b
    Examples:
      understudy list
      understudy list --long
      understudy list --s3-uri s3://my-bucket/redis-backups
      understudy list --archive --json
    """
    settings = settings_from(out_dir, s3_uri)
    if archive:
        _list_archives(settings, local, as_json)
        return
    remote = None if local else remote_repository(settings)
    repository = remote or local_repository(settings)
    sets = repository.sets()
    if out_dir is not None and not remote and not out_dir.is_dir():
        print(f"Warning: there is no directory {out_dir}.", file=sys.stderr)
    if as_json:
        print_json([_as_data(repository, one) for one in sets])
        return
    if not sets:
        where = settings.backup_s3_uri if remote else settings.backup_dir
        print(f"No sets in {where}. Take one: understudy backup", file=sys.stderr)
    if long and sets:
        header = ("TAKEN", "BYTES", "KEYS", "TIER", "HOLDS", "SET")
        print_table(header, [_as_row(repository, one) for one in sets], ("BYTES", "KEYS"))
    for one in () if long else sets:
        print(f"{one.id.created:{_WHEN}}\t{one.size}\t{one.key}")
    _tell_archives(settings, local)


def _archives(settings: Settings, local: bool) -> list[Archive]:
    from understudy.backup.pitr.catalog import archives, read_archive
    from understudy.backup.pitr.objects import open_objects
    from understudy.backup.pitr.stream import ROOT

    place = None if local else settings.backup_s3_uri
    objects = open_objects(place or settings.backup_dir)
    return [read_archive(objects, f"{ROOT}/{name}") for name in archives(objects)]


def _tell_archives(settings: Settings, local: bool) -> None:
    """Print a line for each archive, below the sets; a place by rsync holds none."""
    from understudy.backup.pitr.describe import in_one_line
    from understudy.backup.repositories import is_rsync

    if not local and settings.backup_s3_uri and is_rsync(settings.backup_s3_uri):
        return
    for one in _archives(settings, local):
        print(in_one_line(one))
        _warn(one)


def _list_archives(settings: Settings, local: bool, as_json: bool) -> None:
    from understudy.backup.pitr.describe import as_data, in_full

    found = _archives(settings, local)
    if as_json:
        print_json({"archives": [as_data(one) for one in found]})
        return
    if not found:
        where = settings.backup_dir if local else settings.backup_s3_uri or settings.backup_dir
        print(f"No archive in {where}. Keep one: understudy archive", file=sys.stderr)
    for one in found:
        for line in in_full(one):
            print(line)
        _warn(one)


def _warn(archive: Archive) -> None:
    for problem in archive.problems:
        print(f"Warning: {problem}. What only it has cannot be restored.", file=sys.stderr)


def _as_row(repository: Repository, stored: StoredSet) -> tuple[str, ...]:
    told = _as_data(repository, stored)
    lacking = [f"no {name}" for name in told["missing"] or ()]
    lacking += [f"only {told['match']!r}"] if told["match"] else []
    holds = ", ".join([*(told["components"] or ()), *lacking, *(["encrypted"] if told["encrypted"] else [])])
    keys = "-" if told["keys"] is None else f"{told['keys']:,}"
    tier = "?" if told["components"] is None else told["tier"] or "by hand"
    return f"{stored.id.created:{_WHEN}}", f"{stored.size:,}", keys, tier, holds or "?", stored.key


def _as_data(repository: Repository, stored: StoredSet) -> dict[str, Any]:
    """Return a set with what its metadata says; null where that cannot be read."""
    from understudy.backup.repository import peek

    told: dict[str, Any] = {
        "id": str(stored.id), "created_at": stored.id.created.isoformat(), "bytes": stored.size, "key": stored.key,
        "tier": None, "components": None, "missing": None, "match": None, "encrypted": None, "keys": None,
    }  # fmt: skip
    with contextlib.suppress(IntegrityError, NotFoundError):  # it is listed all the same; `check` says what is wrong
        metadata = peek(repository, stored)
        told |= {"tier": metadata.tier, "components": [*metadata.components], "missing": dict(metadata.missing)}
        told |= {
            "match": metadata.components.get("redis", {}).get("match"),
            "encrypted": metadata.encryption is not None,
            "keys": metadata.keys if "redis" in metadata.components else None,
        }
    return told
