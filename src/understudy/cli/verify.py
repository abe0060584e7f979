"""`understudy verify`: do the servers hold what a set holds?"""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from understudy import installed
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
    target_of,
)
from understudy.cli.output import Json, print_json
from understudy.cli.past import At, past_second
from understudy.cli.stack import components_of, told_if_unset
from understudy.errors import IntegrityError, UsageError, VerdictError

if TYPE_CHECKING:
    from understudy.backup.component import Comparison
    from understudy.backup.repository import Repository
    from understudy.backup.set import BackupSet
    from understudy.backup.verify_report import VerifyReport
    from understudy.settings import Settings


LATEST = "latest"
_SAMPLE = 200


def command(
    set_: Annotated[
        str | None, typer.Argument(metavar="[SET|latest]", help="An id, a directory or an archive.", callback=named)
    ] = None,
    input_dir: Annotated[
        str | None, typer.Option("--input", "-i", metavar="SET", help="The same, as an option.", callback=named)
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Compare so many random keys (200).")] = None,
    full: Annotated[bool, typer.Option("--full", help="Compare every key, both ways.")] = False,
    match: Annotated[
        str | None,
        typer.Option(help="Only the keys of Redis that match this glob, for example 'user:*'.", callback=globbed),
    ] = None,
    from_s3: Annotated[
        str | None, typer.Option(help="Compare this set of the object store: an id, or latest.", callback=named)
    ] = None,
    at: At = None,
    components: Components = None,
    identity: Identity = None,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    as_json: Json = False,
) -> None:
    """Compare a set's keys with the server: values, expiry times and, with --full, keys that the set lacks.

    With --full, or where --component names them, also its databases and collections: rows, vectors and what else was
    counted. Exits with 12 where they differ. What was written after the backup differs by right. All differences are
    counted; of each kind --json names the first hundred. What an older server cannot hold is counted apart.

    \b
    Examples:
      understudy verify ./backups/redis-backup-local-20261120T234000Z-1f3a --sample 200
      understudy verify --full
      understudy verify --full --match 'user:*'
      understudy verify --component postgres
      understudy verify --full --from-s3 latest --s3-uri s3://my-bucket/redis-backups
    """
    from understudy import progress
    from understudy.backup.compare import compare_all
    from understudy.backup.encryption import unlocked
    from understudy.backup.rdb_expand import expanded
    from understudy.backup.restore import held, opened
    from understudy.backup.verify import verify
    from understudy.backup.verify_report import MOST_LISTED

    name = set_ or LATEST
    if full and sample is not None:
        raise UsageError("choosing what to compare", "--full compares every key, and --sample only some", "Name one.")
    if sum(map(bool, (input_dir, name != LATEST, from_s3))) > 1:
        raise UsageError("choosing the set to compare", "two are named", "understudy verify SET, or -i SET.")
    if s3_uri and not (from_s3 or at):
        raise UsageError(
            "choosing the set to compare", "--s3-uri is of --from-s3 or --at, and neither is named",
            "From the object store: --from-s3 latest --s3-uri URI.",
        )  # fmt: skip
    settings = settings_from(out_dir, s3_uri, backup_identity=identity)
    shown = progress.for_terminal(quiet=as_json)
    local, remote = local_repository(settings), needed_remote(settings) if from_s3 else None
    names = [str(one) for one in components or ()]
    if match is not None and names not in ([], ["redis"]):
        raise UsageError(
            "choosing what to compare", "--match is of Redis' keys, and of nothing else",
            "Compare the others by a command of their own: --component postgres.",
        )  # fmt: skip
    if at and (input_dir or set_ or from_s3):
        raise UsageError("choosing what to compare", "--at means a second of the archive, and a set is named as well")
    asked = names or ([] if full and match is None and not at else ["redis"])
    with (
        (
            past_second(settings, at, shown, asked, match)
            if at
            else opened(
                from_s3 or input_dir or name, local, remote, shown, settings.profile, asked, settings.backup_name
            )
        ) as stored,
        unlocked(stored, key_of(settings), local, shown) as plain,
        expanded(plain, local, shown, components=(wanted := held(plain, asked)), match=match) as backup,
    ):
        report = None
        warnings = [] if at else _warnings(settings, plain, wanted, remote or local)
        for line in warnings:
            shown.say(f"Warning: {line}.")
        if "redis" in wanted:
            report = verify(backup, target_of(settings), shown, sample=None if full else sample or _SAMPLE, match=match)
        others = [one for one in wanted if one != "redis" and (names or told_if_unset(settings, one, shown))]
        compared = compare_all(backup, components_of(settings, others) if others else [], shown)
    if as_json:
        keys = dataclasses.asdict(report) | {"examples_at_most": MOST_LISTED} if report else {}
        rows = {store: {"counted": one.counted, "differences": [*one.differences]} for store, one in compared.items()}
        print_json(keys | {"components": rows, "warnings": warnings, "clean": _clean(report, compared)})
    else:
        if report:
            _tell(report, full)
        for store, one in compared.items():
            word = f"differences={len(one.differences)}" if one.differences else "equal"
            print(f"Verify {store} -> {word}: {one.counted}")
    if report and not report.compared and (not full or match is not None):
        none = "the set holds no keys" if match is None else f"no key of the set matches {match!r}"
        raise VerdictError("comparing the set with the server", f"{none}, so nothing was compared")
    if not report and not compared:
        raise VerdictError("comparing the set with the servers", "none is configured, so nothing was compared")
    if _clean(report, compared):
        return
    if report and report.unsure:
        print("Some values were compared byte by byte only, for want of a scratch server.", file=sys.stderr)
        print(f"To be sure: {installed.how_to_add('lab')}.", file=sys.stderr)
    raise IntegrityError(
        "comparing the set with the server", "they differ",
        _hint(report, compared, f" --at {at}" if at else f" --from-s3 {from_s3}" if from_s3 else ""),
        [f"{kind}: {name}" for kind, name in (report.named if report else ())]
        + [line for one in compared.values() for line in one.differences],
        (report.differences if report else 0) + sum(len(one.differences) for one in compared.values()),
    )  # fmt: skip


def _warnings(settings: Settings, backup: BackupSet, wanted: Sequence[str], repository: Repository) -> list[str]:
    """Return of what a set holds only a part, or nothing: that it is equal says less then."""
    from understudy.backup.contents import changes
    from understudy.backup.describe import filtered

    told = filtered(backup.metadata) if "redis" in wanted else []
    found = changes(backup.metadata, repository, settings.backup_may_be_empty)
    return told + [str(one) for one in found if not one.held and one.component in wanted]


def _hint(report: VerifyReport | None, compared: Mapping[str, Comparison], source: str) -> str:
    told = []
    if report and report.differences > report.extra:
        told.append(
            f"`understudy restore{source}` brings back keys that are missing, with --overwrite also those that differ."
        )
    if report and report.extra:
        told.append("Extra keys are newer: a restore deletes none. To have none, restore into an empty server.")
    if any(one.differences for one in compared.values()):
        told.append("A restore replaces whole databases and collections: what was written since is lost there.")
    return " ".join(told)


def _tell(report: VerifyReport, full: bool) -> None:
    from understudy.backup.anywhere.losses import FUNCTION, how_many

    what = "full" if full else f"sample={report.compared}"
    counts = f"missing={report.missing}, ttl_mismatch={report.ttl_mismatch}, value_mismatch={report.value_mismatch}"
    print(f"Verify {what} -> {counts}" + (f", extra={report.extra}, compared={report.compared}" if full else ""))
    if report.unheld:
        what = how_many(report.unheld, {FUNCTION: report.unheld_libraries})
        print(f"Equal but for what this server cannot hold: {what}; --json names them")
    if report.expired:
        print(f"Expired since the backup: {report.expired}")


def _clean(report: VerifyReport | None, compared: Mapping[str, Comparison]) -> bool:
    return (report is None or report.clean) and not any(one.differences for one in compared.values())
