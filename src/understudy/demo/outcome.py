"""What a demo did and found, as frozen values: for the report, for `--json` and for the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from understudy.backup.component import RestoreReport
from understudy.backup.verify_report import VerifyReport
from understudy.demo.answers import Answer
from understudy.demo.seats import Seats
from understudy.demo.seen import Machine, SetSeen, ShardSeen
from understudy.demo.sold import Sold
from understudy.demo.verdict import Digests, Verdict
from understudy.installed import as_typed
from understudy.operations.rehearsal.findings import Rehearsal

NEXT = (
    ("understudy up cluster", "a cluster of your own, at 127.0.0.1:7001"),
    ("understudy rehearse --take", "back it up, restore that elsewhere, compare every key"),
    ("understudy drill cluster --html drill.html", "kill a primary under your client's settings"),
)
"""What to try next: what to type, and what it does."""


def following() -> list[tuple[str, str]]:
    """Return what to try next, each as it can be typed where the demo was."""
    return [(as_typed(command), what) for command, what in NEXT]


@dataclass(frozen=True)
class Step:
    """One step of the story: what it is called, seconds it took, what it did, the rate where one makes sense.

    `good` is false where it found something that must not be.
    """

    name: str
    title: str
    took_s: float
    figure: str
    rate: str = ""
    good: bool = True


@dataclass(frozen=True)
class Outcome:
    """The whole story. `keys` is what the cluster held when the backup began, `filled` before the sale."""

    verdict: Verdict
    answers: tuple[Answer, ...]
    finished_at: str
    machine: Machine
    steps: tuple[Step, ...]
    shards: tuple[ShardSeen, ...]
    keys: int
    filled: int
    types: Mapping[str, int]
    kinds: Mapping[str, int]
    expiring: int
    functions: int
    backup: SetSeen
    keys_after_wipe: int
    restored: RestoreReport
    verified: VerifyReport
    digests: Digests
    sold: Sold
    seats: Seats
    rehearsal: Rehearsal

    @property
    def took_s(self) -> float:
        """Return the seconds of all steps together."""
        return sum(step.took_s for step in self.steps)

    def step(self, name: str) -> Step:
        """Return one step. Raises `KeyError` where the story has none of that name."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def as_data(self) -> dict[str, Any]:
        """Return the outcome as `--json` prints it."""
        bare = dataclasses.replace(self, sold=None, rehearsal=None)  # type: ignore[arg-type]
        data = dataclasses.asdict(bare)
        data["sale"], data["rehearsal"] = self.sold.as_data(), self.rehearsal.as_data()
        data["verdict"], data["sentence"] = self.verdict.word, self.verdict.sentence
        data["reasons"] = list(self.verdict.reasons)
        for told in data["answers"]:
            told["verdict"] = told.pop("verdict")["word"]
        data["verified"]["clean"] = self.verified.clean
        data["seats"] |= {"sold": self.seats.sold, "same": self.seats.same}
        data["took_s"] = self.took_s
        data["next"] = [typed for typed, _ in following()]
        return data
