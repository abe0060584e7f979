"""What is done with all big keys of a set: read through, written back, compared."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from understudy.backup.big.format import BigKey, big_keys, commands, indices
from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.backup.set import BackupSet
from understudy.backup.verify_report import VerifyReport
from understudy.backup.workers import default_jobs, run_all
from understudy.errors import IntegrityError
from understudy.progress import Progress, stage
from understudy.valkey.glob import compile_glob
from understudy.valkey.target import Target

_MOST_JOBS = 2  # each holds several slices in memory


def kinds(backup: BackupSet) -> Counter[str]:
    """Return how many big keys of each type the set holds."""
    return Counter(big.kind for big in big_keys(backup))


def read_through(backup: BackupSet, progress: Progress) -> None:
    """Read every command of every big key.

    Raises:
        IntegrityError: a file is damaged, or an index holds another number of keys than recorded.
    """
    held = 0
    with stage(progress, "Reading big keys", sum(one.keys or 0 for one in indices(backup)), "keys"):
        for big in big_keys(backup):
            for at, _ in enumerate(commands(backup.directory, big)):
                if not at % 1000:
                    progress.advance(0)
            progress.advance(1)
            held += 1
    recorded = sum(one.keys or 0 for one in indices(backup))
    if held != recorded:
        raise IntegrityError(
            "checking the indices of big keys", f"they name {held} keys, and the metadata says {recorded}",
            "Use another set: `understudy list` shows them.",
        )  # fmt: skip


def restore(
    backup: BackupSet, target: Target, options: RestoreOptions, report: RestoreReport, progress: Progress
) -> None:
    """Write them to their owners, and add what was done to the report."""
    if not indices(backup):
        return
    wanted = list(big_keys(backup))
    if options.match:
        match = compile_glob(options.match)
        wanted = [big for big in wanted if match.fullmatch(big.key)]
    common = {
        "target": target.as_data(),
        "directory": str(backup.directory),
        "overwrite": options.overwrite,
        "recreate_stream_groups": options.recreate_stream_groups,
        "dry_run": options.dry_run,
    }
    plans = [common | {"keys": [big.as_data() for big in share]} for share in _shares(wanted)]
    with stage(progress, "Checking big keys" if options.dry_run else "Restoring big keys", len(wanted), "keys"):
        for result in run_all("understudy.backup.tasks.write_big:run", plans, progress.advance):
            report.add(result)


def compare(
    backup: BackupSet,
    target: Target,
    folder: Path,
    report: VerifyReport,
    progress: Progress,
    *,
    sample: int | None,
    chance: random.Random,
    match: str | None = None,
) -> list[Path]:
    """Compare them with what a server holds: all, or (`sample`) as many of them as is their share of so many keys.

    Return the files in `folder` that hold a fingerprint of each.
    """
    if not indices(backup):
        return []
    pattern = compile_glob(match) if match else None
    wanted = [big for big in big_keys(backup) if pattern is None or pattern.fullmatch(big.key)]
    if sample is not None:
        wanted = chance.sample(wanted, min(len(wanted), -(-sample * len(wanted) // max(sample, backup.metadata.keys))))
    shares = _shares(wanted)
    notes = [folder / f"seen-big-{number}" for number in range(len(shares))]
    plans = [
        {
            "target": target.as_data(),
            "directory": str(backup.directory),
            "keys": [big.as_data() for big in share],
            "seen": str(note),
        }
        for share, note in zip(shares, notes, strict=True)
    ]
    with stage(progress, "Comparing big keys", len(wanted), "keys"):
        for result in run_all("understudy.backup.tasks.compare_big:run", plans, progress.advance):
            report.add(result)
    return notes


def _shares(keys: Sequence[BigKey]) -> list[list[BigKey]]:
    """Split keys into one list a worker, of about as many bytes each."""
    shares: list[list[BigKey]] = [[] for _ in range(min(_MOST_JOBS, default_jobs(len(keys))) if keys else 0)]
    sizes = [0] * len(shares)
    for big in sorted(keys, key=lambda one: one.size, reverse=True):
        least = sizes.index(min(sizes))
        shares[least].append(big)
        sizes[least] += big.size
    return shares
