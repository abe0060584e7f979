"""`understudy verify`: does a server hold what a set holds?"""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from understudy.cli.options import Identity, OutDir, key_of, local_repository, settings_from, target_of
from understudy.cli.output import Json, print_json
from understudy.errors import IntegrityError, VerdictError


def command(
    input_dir: Annotated[
        str, typer.Option("--input", "-i", metavar="DIR", help="A set: directory, archive, id or latest.")
    ] = "latest",
    sample: Annotated[int, typer.Option(min=1, help="Compare so many random keys.")] = 200,
    full: Annotated[bool, typer.Option("--full", help="Compare every key, both ways.")] = False,
    identity: Identity = None,
    out_dir: OutDir = None,
    as_json: Json = False,
) -> None:
    """Compare a set's keys with the server: values, expiry times and, with --full, keys that the set lacks.

    Exits with 12 where they differ. Keys that were written after the backup differ by right.

    \b
    Examples:
      understudy verify -i ./backups/redis-backup-local-20261120T234000Z-1f3a --sample 200
      understudy verify --full
    """
    from understudy import progress
    from understudy.backup.encryption import unlocked
    from understudy.backup.restore import held, opened
    from understudy.backup.verify import verify

    settings = settings_from(out_dir, backup_identity=identity)
    shown = progress.for_terminal(quiet=as_json)
    local = local_repository(settings)
    with (
        opened(input_dir, local, None, shown, settings.profile, ["redis"]) as stored,
        unlocked(stored, key_of(settings), local, shown) as backup,
    ):
        held(backup, ["redis"])
        report = verify(backup, target_of(settings), shown, sample=None if full else sample)
    if as_json:
        print_json(dataclasses.asdict(report) | {"clean": report.clean})
    else:
        what = "full" if full else f"sample={report.compared}"
        counts = f"missing={report.missing}, ttl_mismatch={report.ttl_mismatch}, value_mismatch={report.value_mismatch}"
        print(f"Verify {what} -> {counts}" + (f", extra={report.extra}, compared={report.compared}" if full else ""))
        if report.expired:
            print(f"Expired since the backup: {report.expired}")
    if not full and not report.compared:
        raise VerdictError("comparing the set with the server", "the set holds no keys, so nothing was compared")
    if report.clean:
        return
    if report.unsure:
        print("Some values were compared byte by byte only: install understudy[lab] to be sure.", file=sys.stderr)
    raise IntegrityError(
        "comparing the set with the server", "they differ",
        "`understudy restore` brings back what is missing, with --overwrite also what differs; it deletes nothing.",
        [f"{kind}: {name}" for kind, names in report.examples.items() for name in names],
    )  # fmt: skip
