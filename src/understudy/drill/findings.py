"""What a drill found, as frozen values: for the verdict, the terminal, JSON and the page alike.

Durations are seconds. Times are seconds since the fault began (negative: before it), unless said otherwise. Where
there was no fault, they are seconds since the drill's zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from understudy.drill.history import Event

Word = Literal["passed", "failed", "unknown"]
WORST_FIRST: tuple[Word, ...] = ("failed", "unknown", "passed")


@dataclass(frozen=True)
class Latency:
    """Latency of the operations that succeeded, from due to done, in milliseconds; None where there was none."""

    operations: int
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True)
class Outage:
    """How long one shard was of no use to one client: the longest time without a success that ends after the fault.

    Shards are counted from 1 here, as in `primary:2`.

    Of busy operations only. `began_s` and `ended_s` are when the successes on either side ended (where there was none
    before, when the first operation was due). `ended_s` is None where no success came after, though it was tried;
    `gap_s` then lasts until the drill ended, and what was still pending then.

    `sustained_s` is when the shard was well again for good: the outage was over, and the first operation due after
    the last failure had succeeded. None where the outage did not end, or the last operation due failed. A gap of up
    to 0.5 s, or five times the usual time between two successes, is chance, and nothing that a shard had to get over.
    `promoted_s` is when a server of this shard was first seen as a new primary, at or after the fault. `usable_s` is
    when clients could know it: the same, but with sentinels not before the first of them names another primary.
    `client_s` is what the client needed after that, where that moment lies within the outage. `failed` counts what did
    not succeed and ended at or after the fault.
    """

    shard: int
    gap_s: float
    began_s: float
    ended_s: float | None
    sustained_s: float | None
    promoted_s: float | None
    usable_s: float | None
    client_s: float | None
    failed: int


@dataclass(frozen=True)
class ErrorCount:
    """An error class, how it ended, how often, when it was first and last returned, and what the last one said."""

    error: str
    outcome: str
    count: int
    first_s: float
    last_s: float
    text: str = ""


@dataclass(frozen=True)
class Consistency:
    """What became of the data. Everything counted is proven by the history; nothing is guessed.

    `acknowledged`: writes that were answered OK. `lost`: those of them for which what stands there at the end is
    older: of a write that had ended before they began, or nothing. `survived`: writes that were not acknowledged and
    whose effect was seen, by a read or at the end. `refused_survived`: those of them that were refused, and must not
    have had one. `stale`: reads that did not show a write acknowledged before they began (and which was not lost).
    `doubled`: appends whose value stands there more than once. `unknown_values`: values that nobody wrote, or that
    were read before. `examples`: up to ten of each, the earliest first, in words, under these names.
    `checked` is false where not every key that was written could be read at the end: then there can be more of all
    but `stale`.
    """

    checked: bool
    acknowledged: int
    lost: int
    survived: int
    refused_survived: int
    stale: int
    doubled: int
    unknown_values: int
    examples: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Life:
    """How the idle, the fresh or the busy connection of a client fared after the fault, by operations due since.

    `recovered` is whether it worked at the end: on every shard that it went to, at least half of what was due in the
    final second succeeded (where nothing was due then, the last operation did). It is false where nothing was tried.
    `back_s` is when it was back on every shard on which anything failed, or had to wait for more than 0.5 s: when the
    first success had ended that was due after the fault was in effect and after the shard's last failure, and no wait
    or outage was still to end. Where nothing was amiss, its first success. None where it has not recovered, or where a
    shard failed last.
    """

    tried: int
    succeeded: int
    back_s: float | None
    recovered: bool


@dataclass(frozen=True)
class ClientFindings:
    """One client under test. Counts and errors are of all its connections.

    `downtime_s` is the longest outage of any shard; None where it went to none. `resolution_s` is the usual time
    between two successes before the fault on the shard with the fewest: shorter outages cannot be told apart from it.

    `recovered`: every connection that tried anything after the fault has recovered, and one did.
    `stuck`: its busy or idle connection has not, while a fresh client has.

    `latency` has the keys `before` (what had ended when the fault began), `during` (due until every shard was well
    again for good, or the end) and `after`, of busy operations; without a fault all were before. `drift_p99_ms` is
    how late busy operations began before the fault, of the tool's own making; with more than the verdict allows it
    is the tool that was slow. `drift_after_p99_ms` is the same of those due since the fault: with more than that,
    latencies after the fault are partly the tool's own waiting. None without a fault.
    """

    name: str
    what: str
    operations: int
    ok: int
    failed: int
    indeterminate: int
    downtime_s: float | None
    resolution_s: float | None
    recovered: bool
    stuck: bool
    outages: tuple[Outage, ...]
    busy: Life
    idle: Life | None
    fresh: Life | None
    errors: tuple[ErrorCount, ...]
    moved: int
    asked: int
    latency: dict[str, Latency]
    drift_p99_ms: float | None
    drift_after_p99_ms: float | None
    consistency: Consistency


@dataclass(frozen=True)
class Ticks:
    """How many operations succeeded and how many did not, bucket by bucket."""

    ok: tuple[int, ...]
    bad: tuple[int, ...]


@dataclass(frozen=True)
class Series:
    """One client over time, in buckets of `bucket_s`; the first begins at `from_s`. Empty buckets have None latency.

    Of busy operations: throughput by when they ended, latency of those that succeeded by when they were due, and each
    error class by when it was returned, the most frequent first. `idle` and `fresh` are the other connections'.
    """

    client: str
    from_s: float
    bucket_s: float
    ok: tuple[int, ...]
    failed: tuple[int, ...]
    indeterminate: tuple[int, ...]
    p50_ms: tuple[float | None, ...]
    max_ms: tuple[float | None, ...]
    errors: dict[str, tuple[int, ...]]
    idle: Ticks
    fresh: Ticks


@dataclass(frozen=True)
class Mark:
    """An event on the timeline, in seconds since the fault."""

    at_s: float
    kind: str
    text: str

    @classmethod
    def from_event(cls, event: Event, fault_us: int) -> Mark:
        """Place an event beside the fault."""
        return cls((event.at_us - fault_us) / 1e6, event.kind, event.text)


@dataclass(frozen=True)
class LegFindings:
    """One layout, one fault, its clients side by side. `applied` is false where the fault was not seen to take effect.

    `fault` is empty where none was meant. `server_s` is how long the servers took until clients could use them again:
    from the fault to the first promotion of the shard that was last, or until the sentinels name the new primary where
    that is later; None where nothing was promoted. `note` tells what is worth telling of the place, such as keys for
    each shard.
    """

    name: str
    layout: str
    fault: str
    applied: bool
    server_s: float | None
    clients: tuple[ClientFindings, ...]
    marks: tuple[Mark, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Budget:
    """What the user allows. None is not judged. `max_drift_ms` is what the tool allows itself before the fault."""

    max_downtime_s: float | None = None
    max_lost: int | None = None
    max_stale: int | None = None
    max_doubled: int | None = None
    max_drift_ms: float = 250.0


@dataclass(frozen=True)
class Verdict:
    """`passed`, `failed` or `unknown`, and why, a sentence each. Not checked is never passed."""

    word: Word
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the greatest of what several runs gave."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class ClientSpread:
    """How one client's numbers differed from run to run. `lost` is of runs in which all data could be read.

    `recovered` is in how many of the `runs` it had recovered at the end. None where no run has the number.
    """

    client: str
    runs: int
    downtime_s: Spread | None
    lost: Spread | None
    recovered: int


@dataclass(frozen=True)
class LegReport:
    """One leg: its runs, at least one, and the verdict on all of them. `spreads` tells how much they differed."""

    runs: tuple[LegFindings, ...]
    verdict: Verdict
    spreads: tuple[ClientSpread, ...] = ()

    @property
    def worst(self) -> LegFindings:
        """Return the run that is shown in detail: the one with most clients that did not recover, or else most lost, or
        else the longest outage."""
        return max(self.runs, key=_badness)


def _badness(run: LegFindings) -> tuple[int, int, float]:
    return (
        sum(not one.recovered for one in run.clients),
        sum(one.consistency.lost for one in run.clients),
        max((one.downtime_s or 0.0 for one in run.clients), default=0.0),
    )


@dataclass(frozen=True)
class DrillReport:
    """A whole drill, for JSON, the terminal and the page.

    `when` is when it began, ISO 8601 UTC. `servers` names them with their version, `command` repeats it, `judged` are
    the clients that the verdict is about.
    """

    scenario: str
    about: str
    when: str
    servers: str
    command: str
    budget: Budget
    judged: tuple[str, ...]
    verdict: Verdict
    legs: tuple[LegReport, ...]
