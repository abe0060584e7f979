"""A second of the past, for the commands that take --at."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import key_of, local_repository, named
from understudy.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from understudy.backup.set import BackupSet
    from understudy.progress import Progress
    from understudy.settings import Settings

At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="A second of the archive: 2026-11-20T14:03:07Z, or unix seconds.", callback=named
    ),
]


@contextlib.contextmanager
def past_second(
    settings: Settings, at: str, shown: Progress, names: list[str], match: str | None = None
) -> Iterator[BackupSet]:
    """Give the stack as it was when a second ended, as a plain set. The archive is in S3_URI, else in BACKUP_DIR.

    Raises:
        UsageError: the text is no second, or a component is named that no archive holds.
        NotFoundError: that second cannot be restored, or `match` matches none of its keys.
    """
    from understudy.backup.pitr.at import at_second
    from understudy.backup.pitr.objects import open_objects
    from understudy.backup.pitr.stream import root_of
    from understudy.backup.pitr.when import second_of, told

    second = second_of(at)
    if others := [name for name in names if name != "redis"]:
        raise UsageError(
            f"choosing {others[0]} at {at}", "an archive holds redis alone",
            "Leave --at away: a set holds the other components as they were when it was taken.",
        )  # fmt: skip
    objects = open_objects(settings.backup_s3_uri or settings.backup_dir)
    root = root_of(settings.backup_name, settings.profile)
    plan = {"chunk_keys": settings.backup_chunk_keys, "match": match, "slice_bytes": settings.backup_slice_bytes}
    with at_second(objects, root, second, key_of(settings), local_repository(settings), shown, plan) as backup:
        if match is not None and not backup.metadata.keys:
            raise NotFoundError(
                f"choosing keys of {told(second)}", f"no key matched {match!r} when that second ended",
                f"`understudy inspect --keys --at {told(second)}` lists the keys that there were.",
            )  # fmt: skip
        yield backup
