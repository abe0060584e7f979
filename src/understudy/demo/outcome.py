"""What a demo did and found, as frozen values: for the report, for `--json` and for the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from understudy.backup.component import RestoreReport
from understudy.backup.verify_report import VerifyReport
from understudy.demo.failover import Failover
from understudy.demo.seen import Machine, SetSeen, ShardSeen
from understudy.demo.verdict import Digests, Verdict

NEXT = (
    "understudy up cluster",
    "understudy backup",
    "understudy restore latest --dry-run",
    "understudy drill cluster --html drill.html",
)


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
    """The whole story."""

    verdict: Verdict
    finished_at: str
    machine: Machine
    steps: tuple[Step, ...]
    shards: tuple[ShardSeen, ...]
    keys: int
    types: Mapping[str, int]
    kinds: Mapping[str, int]
    expiring: int
    functions: int
    backup: SetSeen
    keys_after_wipe: int
    restored: RestoreReport
    verified: VerifyReport
    digests: Digests
    failover: Failover

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
        data = dataclasses.asdict(dataclasses.replace(self, failover=None))  # type: ignore[arg-type]
        data["failover"] = self.failover.as_data()
        data["verdict"], data["sentence"], data["reasons"] = (
            self.verdict.word,
            self.verdict.sentence,
            list(self.verdict.reasons),
        )
        data["verified"]["clean"] = self.verified.clean
        data["took_s"] = self.took_s
        data["next"] = list(NEXT)
        return data
