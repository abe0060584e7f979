"""The set once more, as on a quiet night: restored into a server started for that, compared, timed, thrown away."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from understudy.backup.take import TakenSet
from understudy.demo.alone import alone
from understudy.demo.place import Place
from understudy.demo.steps import Steps
from understudy.operations.rehearsal.findings import Rehearsal
from understudy.operations.rehearse import rehearsed
from understudy.pages.figures import seconds
from understudy.progress import Progress
from understudy.settings import load
from understudy.waitingroom import keys


def rehearse(
    step: Steps, taken: TakenSet, place: Place, event: str, sold: int, scratch: Path, progress: Progress
) -> Rehearsal:
    """Rehearse a set, and ask the server it was restored into how many seats are sold.

    Raises:
        UnderstudyError: the set is damaged, or is not there.
    """
    question = {"name": "seats sold", "command": ["HGET", keys.line(event)[0], "sold"], "expect": sold}
    with step("rehearse", "Rehearse") as says, alone(scratch):
        settings = load(backup_dir=place.directory, rehearse_checks=(question,))
        directory = str(taken.backup.directory)
        with rehearsed(
            directory, place.repository, None, settings, progress,
            components=("redis",), command=f"BACKUP_DIR={quote(str(place.directory))} understudy rehearse latest",
        ) as (result, _):  # fmt: skip
            redis = result.components[0]
        asked = ", ".join(f"{one.name}: {one.text}" for one in result.checks)
        says.figure = f"recovered in {seconds(result.recovery_s)}, {redis.counted or 'nothing'} compared; {asked}"
        says.good = result.verdict.word == "passed"
    return result
