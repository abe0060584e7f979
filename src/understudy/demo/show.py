"""Show me: claim a directory, tell the story in it, write the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.backup.set import SetId
from understudy.demo.outcome import Outcome
from understudy.demo.place import DETAILS, claim
from understudy.demo.report import report_page
from understudy.demo.story import run
from understudy.demo.tell import Teller
from understudy.drill import report as drill
from understudy.operations.rehearsal.report import rehearsal_page
from understudy.pages.figures import size
from understudy.pages.page import write
from understudy.progress import Progress
from understudy.sale import report as sale


@dataclass(frozen=True)
class Shown:
    """What the demo found, and where its report is."""

    outcome: Outcome
    report: Path
    details: dict[str, Path]

    def as_data(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return self.outcome.as_data() | {
            "report": str(self.report),
            **{f"{name}_report": str(path) for name, path in self.details.items()},
            "out_dir": str(self.report.parent),
        }


def show(directory: Path, keys: int, buyers: int, progress: Progress, teller: Teller) -> Shown:
    """Tell the story with so many keys and buyers, and leave its set and its pages in `directory`.

    What an earlier demo left there is replaced only once the new report stands.

    Raises:
        RefusedError: the directory is not ours; nothing was done.
        UnderstudyError: of the kind that fits, where a step could not be done at all.
    """
    with claim(directory) as place:
        teller.opening()
        outcome = run(place, keys, buyers, progress, teller)
        pages = {
            place.page("sale"): sale.report_page(outcome.sold.sale),
            place.page("drill"): drill.report_page(outcome.sold.clients),
            place.page("rehearsal"): rehearsal_page(outcome.rehearsal),
            place.report: report_page(outcome),
        }
        for path, page in pages.items():
            write(path, page)
        place.clear(keep=SetId.parse(outcome.backup.id))
        left = f"{directory}, {size(place.size())}: pages, the set and its archive. The next demo replaces them."
    teller.closing(outcome, str(place.report), left)
    return Shown(outcome, place.report, {name: place.page(name) for name in DETAILS})
