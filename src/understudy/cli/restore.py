"""`understudy restore`: bring a set back."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import (
    Components,
    Identity,
    OutDir,
    S3Uri,
    globbed,
    key_of,
    local_repository,
    named,
    needed_remote,
    settings_from,
)
from understudy.cli.output import Json, print_json, read_or_not
from understudy.cli.past import At, past_second
from understudy.cli.stack import components_of, expected_in
from understudy.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from understudy.backup.component import Component, RestoreOptions, RestoreReport
    from understudy.backup.restore import Restored
    from understudy.backup.set import BackupSet

LATEST = "latest"


def command(
    set_: Annotated[
        str | None,
        typer.Argument(
            metavar="[SET|latest]", help="An id, a directory, an archive or a dump.rdb(.gz).", callback=named
        ),
    ] = None,
    from_s3: Annotated[
        str | None, typer.Option(help="Restore from the object store: an id, or latest.", callback=named)
    ] = None,
    input_dir: Annotated[
        str | None, typer.Option("--input", "-i", metavar="DIR", help="The set's directory or archive.", callback=named)
    ] = None,
    at: At = None,
    components: Components = None,
    match: Annotated[
        str | None,
        typer.Option(help="Only the keys of Redis that match this glob, for example 'user:*'.", callback=globbed),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace keys that exist.")] = False,
    recreate_stream_groups: Annotated[
        bool, typer.Option("--recreate-stream-groups/--no-recreate-stream-groups", help="Bring back consumer groups.")
    ] = True,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table of PostgreSQL, as schema.table; repeatable.")
    ] = None,
    into_database: Annotated[
        str | None, typer.Option("--into-database", help="Another database of PostgreSQL than the set's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on where the server cannot hold all of some keys; see --dry-run.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Do not ask before overwriting.")] = False,
    no_safety_set: Annotated[
        bool, typer.Option("--no-safety-set", help="Take no set of what is about to be overwritten.")
    ] = False,
    identity: Identity = None,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Write a set back: databases, keys to their owners, collections. What it would replace is asked about first.

    The set and every server are checked before anything is written. What is overwritten is kept in a safety set.
    Interrupted, it can be run again and completes. On an older server keys are built with commands: what it cannot hold
    is told first, and refused unless --accept-loss.

    \b
    Examples:
      understudy restore latest
      understudy restore --component postgres --dry-run latest
      understudy restore --from-s3 latest --s3-uri s3://my-bucket/redis-backups
      understudy restore --component postgres --table public.topics --into-database rescue latest
      understudy restore ./redis_20241001_020000.rdb.gz
      understudy restore --match 'user:42:*' --overwrite latest
      understudy restore --dry-run --json latest
      understudy restore --at 2026-11-20T14:03:06Z --dry-run
    """
    from understudy import progress
    from understudy.backup.component import RestoreOptions
    from understudy.backup.encryption import Lock, unlocked
    from understudy.backup.rdb_expand import expanded
    from understudy.backup.restore import bring_back, held, keeper, opened
    from understudy.operations.audited import recorded

    name = set_ or LATEST
    if at and (input_dir or set_ or from_s3 not in (None, LATEST)):
        raise UsageError(
            "choosing what to restore", "--at means a second of the archive, and a set is named as well",
            "Leave the set away. The archive is in S3_URI (--s3-uri), or where that is not set in BACKUP_DIR.",
        )  # fmt: skip
    if (s3_uri and not (from_s3 or at)) or (input_dir and (from_s3 or name != LATEST)):
        raise UsageError(
            "choosing the set to restore", "two places are named",
            "From the object store: --from-s3 latest --s3-uri URI. From a directory: -i DIR alone.",
        )  # fmt: skip
    settings = settings_from(out_dir, s3_uri, backup_identity=identity)
    shown = progress.for_terminal(quiet=as_json)
    options = RestoreOptions(
        overwrite, recreate_stream_groups, dry_run, match, accept_loss, tuple(table or ()), into_database
    )
    local, remote = local_repository(settings), needed_remote(settings) if from_s3 else None
    names = _names([str(one) for one in components or ()], options) or (["redis"] if at else [])
    place = from_s3 or input_dir or name
    keep = None if no_safety_set else keeper(local, settings.profile, Lock.from_settings(settings, short=True), shown)
    with (
        read_or_not(),
        recorded(settings, "restore", names, when=not dry_run) as entry,
        (
            past_second(settings, at, shown, names, match)
            if at
            else opened(place, local, remote, shown, settings.profile, names, settings.backup_name)
        ) as stored,
        unlocked(stored, key_of(settings), local, shown) as plain,
        contextlib.ExitStack() as stack,
    ):
        missing = expected_in(settings, plain, remote or local, names)
        for line in missing:
            shown.say(f"Warning: {line}.")
        picked = components_of(settings, held(plain, names), for_restore=True)
        entry.set, entry.components = plain.metadata.called, tuple(one.name for one in picked)
        backup = stack.enter_context(expanded(plain, local, shown, components=entry.components, match=match))
        try:
            outcome = bring_back(backup, picked, options, shown, agree=None if force else _agree, keep=keep)
            entry.detail = f"safety set {outcome.safety.backup.metadata.id}" if outcome.safety else None
            _tell(plain, picked, outcome, missing, options, as_json)
        finally:
            for component in picked:
                component.close()
        outcome.raise_failure(plain.metadata.called)


def _names(names: list[str], options: RestoreOptions) -> list[str]:
    """Return the components that are meant: who names a table or a database means PostgreSQL, who names keys Redis."""
    if options.match is not None:
        if options.tables or options.into_database or (names and names != ["redis"]):
            raise UsageError(
                "choosing what to restore", "--match is of Redis' keys, and of nothing else",
                "Restore the others by a command of their own: --component postgres.",
            )  # fmt: skip
        return ["redis"]
    if not (options.tables or options.into_database):
        return names
    if names and "postgres" not in names:
        raise UsageError(
            "choosing what to restore", "--table and --into-database are PostgreSQL's", "Add --component postgres."
        )
    return names or ["postgres"]


def _tell(
    backup: BackupSet,
    picked: Sequence[Component],
    outcome: Restored,
    missing: Sequence[str],
    options: RestoreOptions,
    as_json: bool,
) -> None:
    from understudy.backup.anywhere.losses import described

    metadata, dry_run = backup.metadata, options.dry_run
    past = metadata.components.get("redis", {}).get("at")
    safety = str(outcome.safety.backup.metadata.id) if outcome.safety else None
    if as_json:
        reports = {name: dataclasses.asdict(report) for name, report in outcome.reports.items()}
        sources = {component.name: component.sources(backup) for component in picked}
        failed = {name: error.as_data() for name, error in outcome.failed.items()}
        print_json(
            {
                "id": str(metadata.id),
                "dry_run": dry_run,
                "match": options.match,
                "components": reports,
                "sources": sources,
                "at": past,
                "to": {component.name: component.where() for component in picked},
            }
            | {"failed": failed, "safety_set": safety, "warnings": [*missing], "replaces": outcome.replaced}
        )
        return
    if dry_run and not past:
        print(f"[DRY RUN] The set is {metadata.id}, taken {metadata.id.created:%Y-%m-%d %H:%M:%S} UTC")
    if past:
        print(f"{'[DRY RUN] ' if dry_run else ''}As it was when {past} ended")
    for component in picked:
        if dry_run:
            print(f"[DRY RUN] Would restore {component.title} from: {', '.join(component.sources(backup))}")
    if dry_run and options.match is not None:
        print(f"[DRY RUN] Only keys that match {options.match!r}, and no function libraries")
    if dry_run and options.tables:
        print(f"[DRY RUN] Only these tables: {', '.join(options.tables)}")
    if dry_run and options.into_database:
        print(f"[DRY RUN] Into the database: {options.into_database}")
    for component in picked:
        print(f"{'[DRY RUN] ' if dry_run else ''}To: {component.title} {component.where()}")
    for line in outcome.replaced if dry_run else ():
        print(f"[DRY RUN] This would replace {line}")
    for name, report in outcome.reports.items():
        print(f"{'[DRY RUN] ' if dry_run else ''}Restore {name} -> {_counts(name, report)}")
        if options.match is not None:
            met = report.restored + report.skipped + report.expired + report.failed
            print(f"Keys that match {options.match!r}: {met:,}" + ("" if past else f" of the set's {metadata.keys:,}"))
        if report.functions_kept:
            print(f"Function libraries that exist already were kept: {report.functions_kept}")
        for line in described(report.losses, report.lost, report.lost_kinds, dry_run=dry_run):
            print(line)
        if report.skipped and not dry_run:
            print("Skipped keys exist already; --overwrite replaces them.")
    for name in outcome.failed:
        print(f"Restore {name} -> failed")


def _counts(name: str, report: RestoreReport) -> str:
    counts = dict(report.counts)
    if name == "redis":
        counts = {"restored": report.restored, "skipped": report.skipped, "expired": report.expired} | counts
    counts["failed"] = report.failed
    if report.functions:
        counts["functions"] = report.functions
    return ", ".join(f"{what}={number}" for what, number in counts.items())


def _agree(lost: Sequence[str]) -> None:
    """Ask before something is overwritten; `--force` answers it, and without a terminal the answer is no."""
    if not sys.stdin.isatty():
        one = len(lost) == 1
        why = f"it would replace {lost[0]}" if one else f"it would replace {len(lost)} things that stand there"
        raise RefusedError("restoring", why, "Add --force if that is meant.", [] if one else [*lost])
    for line in lost:
        print(f"This replaces {line}.", file=sys.stderr)
    if not typer.confirm("Go on?"):
        raise RefusedError("restoring", "you said no")
