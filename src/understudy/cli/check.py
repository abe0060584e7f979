"""`understudy check`: is a set whole?"""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from understudy.cli.options import (
    Identity,
    OutDir,
    S3Uri,
    key_of,
    local_repository,
    named,
    needed_remote,
    settings_from,
)
from understudy.cli.output import Json, print_json
from understudy.cli.stack import expected_in


def command(
    name: Annotated[
        str, typer.Argument(metavar="[SET|latest]", help="An id, a directory or an archive.", callback=named)
    ] = "latest",
    from_s3: Annotated[
        str | None, typer.Option(help="Check this set of the object store: an id, or latest.", callback=named)
    ] = None,
    identity: Identity = None,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Prove a set whole, without a server: every file there, every checksum right, every record readable.

    RDB files of a set are read by the tool of the server that is installed (the lab's); without one it says so.
    Of an encrypted set without its key it proves that every byte is there, and says that no record was read.

    \b
    Examples:
      understudy check latest
      understudy check ./backups/redis-backup-local-20261120T234000Z-1f3a.tar.gz
    """
    from understudy import progress
    from understudy.backup.check import check, check_sums
    from understudy.backup.encryption import unlocked
    from understudy.backup.rdb_check import unread
    from understudy.backup.restore import opened
    from understudy.operations.audited import recorded, set_here
    from understudy.pages.figures import count

    settings = settings_from(out_dir, s3_uri, backup_identity=identity)
    shown = progress.for_terminal(quiet=as_json)
    local, remote = local_repository(settings), needed_remote(settings) if from_s3 else None
    key = key_of(settings)
    with contextlib.ExitStack() as stack:
        entry = stack.enter_context(recorded(settings, "check"))
        entry.set = None if from_s3 else set_here(settings, name)
        stored = stack.enter_context(
            opened(from_s3 or name, local, remote, shown, settings.profile, named=settings.backup_name)
        )
        metadata = stored.metadata
        entry.components = tuple(metadata.components)
        entry.detail = None if entry.set else f"{metadata.id} in {settings.backup_s3_uri if from_s3 else name}"
        read = metadata.encryption is None or key.given
        unread_rdb = ""
        if read:
            with unlocked(stored, key, local, shown) as backup:
                check(backup, shown)
                unread_rdb = unread(backup)
        else:
            check_sums(stored, shown)
        missing = expected_in(settings, stored, remote or local)
    if as_json:
        print_json(
            {
                "id": str(metadata.id),
                "whole": True,
                "read": read and not unread_rdb,
                "encrypted": metadata.encryption is not None,
            }
            | {"files": len(metadata.files), "keys": metadata.keys, "components": [*metadata.components]}
            | {"missing": dict(metadata.missing), "warnings": missing}
        )
        return
    files = count(len(metadata.files), "file")
    print(f"Check {metadata.id} -> whole: {files}, {count(metadata.keys, 'key')}, {metadata.size:,} bytes")
    if set(metadata.components) != {"redis"}:
        from understudy.backup.describe import held_in

        print(f"It holds {held_in(metadata)}.")
    for line in missing:
        print(f"Warning: {line}.", file=sys.stderr)
    if unread_rdb:
        print(f"Its bytes are whole; {unread_rdb}")
    if not read:
        print("It is encrypted: its bytes are whole, and no record was read. --identity FILE reads them.")
