"""`understudy rehearse`: restore a set into scratch servers, and prove that it is what was backed up."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import (
    Components,
    Identity,
    OutDir,
    S3Uri,
    duration_s,
    local_repository,
    named,
    needed_remote,
    settings_from,
)
from understudy.cli.output import Json, print_json, read_or_not, tell_overruled
from understudy.errors import UsageError, VerdictError

if TYPE_CHECKING:
    from understudy.operations.rehearsal.findings import Rehearsal
    from understudy.progress import Progress
    from understudy.settings import Settings

LATEST = "latest"


def command(
    name: Annotated[
        str, typer.Argument(metavar="[SET|latest]", help="An id, a directory or an archive.", callback=named)
    ] = LATEST,
    from_s3: Annotated[
        str | None, typer.Option(help="Rehearse a set of the object store: an id, or latest.", callback=named)
    ] = None,
    components: Components = None,
    take: Annotated[bool, typer.Option("--take", help="Take a new set first, and rehearse that.")] = False,
    max_rto: Annotated[str | None, typer.Option(help="The longest that the recovery may take: 90s, 30m, 2h.")] = None,
    max_age: Annotated[str | None, typer.Option(help="The oldest that the data may be: 26h.")] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="A set that holds nothing of a component may pass.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file, too.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch servers until Ctrl-C, to look at.")] = False,
    env_file: Annotated[Path | None, typer.Option(help="File of KEY=VALUE lines with passwords and keys.")] = None,
    identity: Identity = None,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Restore a set into servers started for it, compare every key, count every row and vector, ask your checks.

    All of it is timed, and nothing is written to the servers that were backed up. The verdict is kept in
    BACKUP_DIR/rehearsals, with a page. Ends with 15 unless it is "passed".

    \b
    Examples:
      understudy rehearse latest
      understudy rehearse --take --max-rto 30m
      understudy rehearse --from-s3 latest --s3-uri s3://my-bucket/redis-backups
    """
    from understudy import progress
    from understudy.operations import env_file as env_files
    from understudy.operations.audit import Audit
    from understudy.operations.rehearsal.findings import Limits
    from understudy.operations.rehearsal.tell import told
    from understudy.operations.rehearse import rehearsed

    if (s3_uri and not from_s3) or (take and (from_s3 or name != LATEST)) or (from_s3 and name != LATEST):
        raise UsageError(
            "choosing the set to rehearse", "two places are named",
            "From the object store: --from-s3 latest --s3-uri URI. A new one: --take alone.",
        )  # fmt: skip
    if env_file:
        tell_overruled(env_file, env_files.load(env_file)[1])
    limits = Limits(*(duration_s(text) if text else None for text in (max_rto, max_age)))
    settings = settings_from(out_dir, s3_uri, backup_identity=identity)
    shown = progress.for_terminal(quiet=as_json)
    names = [str(one) for one in components or ()]
    remote = needed_remote(settings) if from_s3 else None
    typed = shlex.join(["understudy", *sys.argv[1:]])
    audit = Audit(settings.backup_dir, profile=settings.profile)
    with read_or_not(), told(settings, shown), audit.recorded("rehearse", components=tuple(names)) as entry:
        if take:
            name = _taken(settings, names, shown)
        with rehearsed(
            from_s3 or name, local_repository(settings), remote, settings, shown,
            components=names, limits=limits, command=typed, taken=take, allow_empty=allow_empty,
        ) as (result, servers):  # fmt: skip
            entry.set, entry.components = result.set, tuple(one.name for one in result.components)
            if keep:
                _tell(result, settings, html, as_json)
                _wait(servers)
        if not keep:  # the servers are gone, and what was written to those that were given is taken back
            _tell(result, settings, html, as_json)
        if result.verdict.word != "passed":
            raise VerdictError(
                f"rehearsing {result.set}", f"the verdict is {result.verdict.word}",
                _hint(result), list(result.verdict.reasons),
            )  # fmt: skip


def _hint(result: Rehearsal) -> str:
    from understudy.operations.rehearse import NOTHING

    if result.verdict.word == "failed":
        return "Rehearse an older set (`understudy list`), and mend the cause before it is needed."
    if any(NOTHING in text for text in result.verdict.reasons):
        return "Rehearse a set that holds something (`understudy list`), or say --allow-empty where that is meant."
    return "Mend what was unknown, and rehearse again."


def _taken(settings: Settings, names: list[str], shown: Progress) -> str:
    from understudy.backup.encryption import Lock
    from understudy.backup.take import take
    from understudy.cli.stack import components_of, optional_of
    from understudy.operations.audit import Audit

    picked = components_of(settings, names)
    with contextlib.ExitStack() as stack:
        for component in picked:
            stack.callback(component.close)
        entry = stack.enter_context(Audit(settings.backup_dir, profile=settings.profile).recorded("backup"))
        taken = take(
            picked, local_repository(settings), None, settings.profile, shown,
            name=settings.backup_name, optional=optional_of(settings), lock=Lock.from_settings(settings),
        )  # fmt: skip
        entry.set, entry.components = str(taken.backup.metadata.id), tuple(taken.backup.metadata.components)
    return str(taken.backup.directory)


def _tell(result: Rehearsal, settings: Settings, html: Path | None, as_json: bool) -> None:
    from understudy.operations.rehearsal.lines import lines
    from understudy.operations.rehearsal.record import record
    from understudy.pages.page import write

    data, page = record(result, settings.backup_dir)
    if html:
        write(html, page.read_text())
    if as_json:
        print_json({**result.as_data(), "record": str(data), "page": str(page)})
        return
    for line in lines(result):
        print(line)
    print(f"Record: {data}")
    print(f"Page: {html or page}")


def _wait(servers: Mapping[str, str]) -> None:
    """Leave the servers running, and their addresses in a file that only we can read, until Ctrl-C."""
    with tempfile.NamedTemporaryFile("w", prefix="understudy-rehearsal-", suffix=".env") as file:
        ours = {name: value for name, value in sorted(servers.items()) if name.startswith("REHEARSAL_")}
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in ours.items())
        file.flush()
        with contextlib.suppress(KeyboardInterrupt):  # also one that comes as soon as it is said
            print(f"The servers stay until Ctrl-C. In another terminal: . {file.name}", file=sys.stderr, flush=True)
            threading.Event().wait()
