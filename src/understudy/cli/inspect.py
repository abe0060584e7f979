"""`understudy inspect`: what is in a set?"""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from understudy.cli.options import (
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
from understudy.cli.output import Json, print_table
from understudy.cli.past import At, past_second
from understudy.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from understudy.backup.inspect.export import Limited, Write
    from understudy.backup.inspect.listing import Row
    from understudy.backup.inspect.summary import Contents
    from understudy.backup.set import BackupSet, Metadata
    from understudy.progress import Progress

LATEST = "latest"
_MOST_TABLE = 100  # lines of a table where nothing else is asked for
_MOST_TABLE_AT_ALL = 10_000
_MOST_CELL = 100


def command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[SET|latest]", help="An id, a directory, an archive or a dump.rdb(.gz).", callback=named
        ),
    ] = LATEST,
    from_s3: Annotated[
        str | None, typer.Option(help="Inspect this set of the object store: an id, or latest.", callback=named)
    ] = None,
    at: At = None,
    match: Annotated[
        str | None, typer.Option(help="Only keys that match this glob, as in KEYS.", callback=globbed)
    ] = None,
    separator: Annotated[
        str, typer.Option(help="What ends a prefix: characters, the first one that a name holds counts.")
    ] = ":/|.-_",
    depth: Annotated[int, typer.Option(min=1, max=20, help="So many separators belong to a prefix.")] = 1,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Show so many prefixes and largest keys.")] = 15,
    keys: Annotated[bool, typer.Option("--keys", help="List the keys instead.")] = False,
    values: Annotated[bool, typer.Option("--values", help="List the keys with their values.")] = False,
    key: Annotated[str | None, typer.Option("--key", help="Show this key, with its whole value.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="List at most so many keys, 0: all (a table 100, else all).")
    ] = None,
    most_bytes: Annotated[int, typer.Option(min=1, help="Show at most so many bytes of a value.")] = 64 << 10,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A list as CSV.")] = False,
    as_parquet: Annotated[bool, typer.Option("--parquet", help="A list as Parquet.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a list into this file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures of it to this file.")] = None,
    names: Annotated[bool, typer.Option("--names", help="Name keys on the page, too.")] = False,
    identity: Identity = None,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
) -> None:
    """Show what a set holds, without a server of yours: keys by type, prefix, size and expiry, or the keys themselves.

    --keys and --values list them as a table, as lines of JSON, as CSV or as Parquet.

    \b
    Examples:
      understudy inspect latest
      understudy inspect --match 'user:*' --values --limit 10 latest
      understudy inspect --key user:1 latest
      understudy inspect --key user:1 --at 2026-11-20T14:03:06Z
      understudy inspect --parquet -o keys.parquet latest
      understudy inspect --html contents.html ./dump.rdb
    """
    from understudy import progress
    from understudy.backup.check import check_sums
    from understudy.backup.encryption import unlocked
    from understudy.backup.rdb_expand import expanded
    from understudy.backup.restore import opened

    listing = keys or values or as_csv or as_parquet or output is not None
    form = _form(as_json, as_csv, as_parquet, output)
    _refuse_odd(name, from_s3 or at, s3_uri, form, listing, key, output, html, names)
    settings = settings_from(out_dir, s3_uri, backup_identity=identity)
    shown = progress.for_terminal(quiet=as_json)
    local, remote = local_repository(settings), needed_remote(settings) if from_s3 else None
    with (
        (
            past_second(settings, at, shown, ["redis"], match)
            if at
            else opened(from_s3 or name, local, remote, shown, settings.profile, named=settings.backup_name)
        ) as stored,
        unlocked(stored, key_of(settings), local, shown) as plain,
        expanded(plain, local, shown, match=match) as backup,
    ):
        check_sums(plain, shown)
        if key is not None:
            _show_key(backup, key, as_json, shown, at)
        elif listing:
            _list(backup, match, form, values, limit, most_bytes, output, shown)
        else:
            found = _contents(backup, match, separator, depth, top, shown, stored.metadata)
            _summary(found, as_json, html, names)


def _form(as_json: bool, as_csv: bool, as_parquet: bool, output: Path | None) -> str:
    from understudy.backup.inspect.export import form_of

    forms = [form for form, asked in (("json", as_json), ("csv", as_csv), ("parquet", as_parquet)) if asked]
    if len(forms) > 1:
        raise UsageError("choosing the form", "several are named", f"One of --{' and --'.join(forms)}.")
    return forms[0] if forms else form_of(output) if output else "table"


def _refuse_odd(
    name: str, from_s3: str | None, s3_uri: str | None, form: str, listing: bool, key: str | None,
    output: Path | None, html: Path | None, names: bool,
) -> None:  # fmt: skip
    if (s3_uri and not from_s3) or (from_s3 and name != LATEST):
        raise UsageError(
            "choosing the set to inspect", "two places are named", "From the object store: --from-s3 latest."
        )
    if key is not None and listing:
        raise UsageError("choosing what to show", "--key shows one key, and a list was asked for", "One of the two.")
    if html and (listing or key is not None):
        raise UsageError("choosing what to show", "--html draws the summary, not a list of keys", "One of the two.")
    if names and not html:
        raise UsageError("reading --names", "it is about the page", "Add --html FILE.")
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("writing Parquet", "that is nothing for a terminal", "-o FILE, or a pipe.")


def _contents(
    backup: BackupSet, match: str | None, separator: str, depth: int, top: int, shown: Progress, stored: Metadata
) -> Contents:
    import time

    from understudy.backup.inspect.names import checked_separators
    from understudy.backup.inspect.summary import contents
    from understudy.backup.inspect.tally import Plan

    taken_ms = int(backup.metadata.id.created.timestamp() * 1000)
    plan = Plan(checked_separators(separator), depth, top, taken_ms, time.time_ns() // 1_000_000)
    return contents(backup, match, plan, shown, stored=stored)


def _summary(found: Contents, as_json: bool, html: Path | None, names: bool) -> None:
    from understudy.backup.inspect import tell
    from understudy.backup.inspect.summary import as_data
    from understudy.backup.tasks.write_keys import name_of

    if html:
        _page(found, html, names)
    if as_json:
        _print_json(as_data(found))
        return
    for line in tell.head(found):
        print(line)
    if redis := found.redis:
        match = "" if found.match is None else f" that match {name_of(found.match.encode(errors='replace'))}"
        print(f"Keys{match}: {redis.keys:,}, with {redis.size:,} bytes of values")
        for table in tell.tables(redis) if redis.keys else ():
            print()
            print_table(table.header, table.rows, table.right)
        for line in tell.remark(redis):
            print(f"\nNote: {line}")
    if html:
        print(f"\nPage: {html}")


def _page(found: Contents, html: Path, names: bool) -> None:
    from understudy.installed import missing_extra

    try:
        from understudy.backup.inspect.report import contents_page
        from understudy.pages.page import write
    except ImportError as error:
        raise missing_extra("making the page", error, "inspect") from error
    words = ["understudy", *sys.argv[1:]]
    write(html, contents_page(found, shlex.join(words), names=names))


def _list(
    backup: BackupSet, match: str | None, form: str, values: bool, limit: int | None, most_bytes: int,
    output: Path | None, shown: Progress,
) -> None:  # fmt: skip
    from understudy.backup.inspect import export
    from understudy.backup.inspect.listing import decoding, fitting, rows

    if form == "table":
        limit = _MOST_TABLE if limit is None else limit
        if not 0 < limit <= _MOST_TABLE_AT_ALL:
            raise UsageError(
                "listing the keys", f"a table has at most {_MOST_TABLE_AT_ALL:,} lines", "Add --csv or --json."
            )
    with contextlib.ExitStack() as stack:
        decoder = stack.enter_context(decoding(most_bytes)) if values else None
        found = stack.enter_context(contextlib.closing(rows(backup, fitting(match), shown, decoder)))
        limited = export.Limited(found, limit or None)
        if form == "table":
            _table(list(limited), values)
        else:
            written = _write(limited, export.WRITERS[form], values, output)
            if output:
                print(f"Written: {output} ({written:,} {'key' if written == 1 else 'keys'})", file=sys.stderr)
        if limited.more:
            print(f"There are more: --limit {limit} was reached.", file=sys.stderr)


def _write(rows: Limited, write: Write, values: bool, output: Path | None) -> int:
    from understudy.backup.inspect.export import whole_file

    if output:
        with whole_file(output) as file:
            return write(rows, file, values)
    sys.stdout.flush()
    out: BinaryIO = sys.stdout.buffer
    return write(rows, out, values)


def _table(rows: list[Row], values: bool) -> None:
    from understudy.backup.inspect.export import readable
    from understudy.backup.inspect.names import brief
    from understudy.backup.inspect.tell import shown
    from understudy.backup.inspect.times import moment

    header = ("KEY", "DB", "TYPE", "BYTES", "EXPIRES", *(("VALUE",) if values else ()))
    lines = [
        (
            shown(row.key), str(row.db), row.type, f"{row.size:,}",
            "never" if row.expire_at_ms is None else moment(row.expire_at_ms),
            *((brief(readable(row), _MOST_CELL),) if values else ()),
        )
        for row in rows
    ]  # fmt: skip
    print_table(header, lines, ("DB", "BYTES"))


def _show_key(backup: BackupSet, key: str, as_json: bool, shown: Progress, at: str | None) -> None:
    from understudy.backup.inspect.export import whole
    from understudy.backup.inspect.listing import decoding, rows
    from understudy.backup.inspect.names import meant
    from understudy.backup.inspect.times import moment
    from understudy.backup.tasks.write_keys import name_of

    wanted = meant(key)
    with decoding(None) as decoder:
        found = list(rows(backup, wanted.__contains__, shown, decoder))
    if not found:
        raise NotFoundError(
            f"looking for the key {name_of(key.encode(errors='surrogateescape'))}",
            f"{backup.metadata.called} lacks it",
            f"`understudy inspect {f'--at {at}' if at else 'SET'} --keys --match GLOB` lists names.",
        )  # fmt: skip
    if as_json:
        _print_json([row.as_data() for row in found])
        return
    for row in found:
        expires = "never expires" if row.expire_at_ms is None else f"expires {moment(row.expire_at_ms)}"
        print(f"{name_of(row.key)}: {row.type} in database {row.db}, {row.size:,} bytes, {expires}")
        print(whole(row))


def _print_json(data: object) -> None:
    import json

    from understudy.backup.inspect.names import harmless

    print(harmless(json.dumps(data, indent=2, ensure_ascii=False)))
