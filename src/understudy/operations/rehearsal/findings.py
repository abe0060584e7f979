"""What a rehearsal did and found, as frozen values: for the record, the page, the terminal and the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.backup.component import Counted
from understudy.drill.findings import WORST_FIRST, Verdict, Word

FORMAT = "understudy-rehearsal"
VERSION = 1
TITLES = {"postgres": "PostgreSQL", "redis": "Redis", "qdrant": "Qdrant"}
MOST_NAMED = 100  # differences and failures that are kept by name; the rest is counted


def title_of(name: str) -> str:
    """Return how people write a component, also one that we do not know or that is not installed."""
    return TITLES.get(name, name)


@dataclass(frozen=True)
class Step:
    """Something that took time: what, and seconds."""

    what: str
    took_s: float


@dataclass(frozen=True)
class ComponentFindings:
    """What became of one component.

    `server` is what it was restored into, in words. `steps` are those of its recovery, `compared_s` is what the proof
    took on top. `age_s` is the age of its data when the rehearsal began. `differences` name what is not as it was
    recorded, `failures` what the restore itself could not do, and `open_questions` what nobody knows.
    """

    name: str
    title: str
    server: str = ""
    counted: str = ""
    counts: tuple[Counted, ...] = ()
    differences: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    open_questions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    compared_s: float = 0.0
    age_s: float = 0.0

    @property
    def word(self) -> Word:
        """Return the verdict on it."""
        if self.failures or self.differences:
            return "failed"
        return "unknown" if self.open_questions else "passed"

    @property
    def failed(self) -> bool:
        """Tell whether something of it is proven to be wrong."""
        return self.word == "failed"

    @property
    def restored(self) -> bool:
        """Tell whether it was written back whole."""
        return bool(self.counted) and not self.failures

    def named(self, text: str) -> str:
        """Return what was found with the component's name before it, where that is not there already."""
        return text if text.startswith(self.title) else f"{self.title}: {text}"

    @property
    def took_s(self) -> float:
        """Return the seconds of its own recovery: the server's start and the restore."""
        return sum(step.took_s for step in self.steps)


@dataclass(frozen=True)
class CheckFindings:
    """What a check of the user's own said: `text` is what was found and what was wanted."""

    name: str
    word: Word
    text: str
    took_s: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What the user allows: seconds of recovery, and of the data's age. None is not judged."""

    max_rto_s: float | None = None
    max_age_s: float | None = None


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal of one set.

    `place` is where the set was found, `opening` what it took to have it whole, checked and readable, `missing` the
    optional components that the set lacks, `left_out` what was not looked at because it was not asked for. `whole`
    tells whether every component of the set was asked for.
    """

    set: str
    place: str
    began_at: str
    opening: tuple[Step, ...]
    components: tuple[ComponentFindings, ...]
    checks: tuple[CheckFindings, ...]
    verdict: Verdict
    took_s: float
    command: str
    limits: Limits = Limits()
    missing: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    whole: bool = True
    taken: bool = False

    @property
    def opened_s(self) -> float:
        """Return the seconds until the set lay there, checked."""
        return sum(step.took_s for step in self.opening)

    @property
    def recovery_s(self) -> float:
        """Return the recovery time: the set opened, then one component after the other."""
        return self.opened_s + sum(one.took_s for one in self.components)

    @property
    def age_s(self) -> float:
        """Return the age of the oldest component's data."""
        return max((one.age_s for one in self.components), default=0.0)

    def as_data(self) -> dict[str, Any]:
        """Return it as the record holds it and `--json` prints it; times are in seconds."""
        data = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        data["verdict"], data["reasons"] = self.verdict.word, list(self.verdict.reasons)
        data["recovery_s"], data["age_s"] = self.recovery_s, self.age_s
        for one, shown in zip(self.components, data["components"], strict=True):
            shown["verdict"], shown["recovery_s"] = one.word, self.opened_s + one.took_s
        for check in data["checks"]:
            check["verdict"] = check.pop("word")
        return data


def exceeded(components: Sequence[ComponentFindings], limits: Limits, recovery_s: float) -> list[str]:
    """Return a sentence for each limit that was not kept."""
    found = []
    if limits.max_age_s is not None:
        allowed = duration(limits.max_age_s)
        found = [
            f"{one.title}: the data is {duration(one.age_s)} old, {allowed} is allowed"
            for one in components
            if one.age_s > limits.max_age_s
        ]
    if limits.max_rto_s is not None and recovery_s > limits.max_rto_s:
        found.append(f"the recovery took {duration(recovery_s)}, {duration(limits.max_rto_s)} is allowed")
    return found


def judge(
    components: Sequence[ComponentFindings],
    checks: Iterable[CheckFindings],
    limits: Limits,
    *,
    recovery_s: float,
) -> Verdict:
    """Return the verdict on a rehearsal: the worst of its components, checks and limits, and the reasons for it."""
    found: list[tuple[Word, str]] = []
    for one in components:
        found += [("failed", one.named(text)) for text in (*one.failures, *one.differences)]
        found += [("unknown", one.named(text)) for text in one.open_questions]
    found += [(check.word, f"check {check.name!r}: {check.text}") for check in checks if check.word != "passed"]
    found += [("failed", text) for text in exceeded(components, limits, recovery_s)]
    word: Word = next((word for word in WORST_FIRST if any(one == word for one, _ in found)), "passed")
    return Verdict(word, tuple(text for _, text in sorted(found, key=lambda one: WORST_FIRST.index(one[0]))))


def duration(number: float) -> str:
    """Return seconds as `0.8s`, `12s`, `3m 25s`, `5h 2m` or `3d 4h`."""
    if number < 9.95:
        return f"{number:.1f}s"
    whole = round(number)
    for large, unit, small, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= large:
            left = whole % large // small
            return f"{whole // large}{unit} {left}{rest}" if left else f"{whole // large}{unit}"
    return f"{whole}s"
