"""What a drill found, as frozen values: for the verdict, the terminal, JSON and the page alike.

Durations are seconds. Times are seconds since the fault began (negative: before it), unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from understudy.drill.history import Event

Word = Literal["passed", "failed", "unknown"]


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
    """How long one shard was of no use to one client: the longest time without a success that touches the fault.

    `began_s` and `ended_s` are the successes on either side; `ended_s` is None where no success came after it, and
    `gap_s` then lasts until the end of the drill. `first_s` is the first success after the outage (`ended_s`),
    `sustained_s` the first after which nothing failed any more. `promoted_s` is when a server of this shard was first
    seen as a new primary; `client_s` is what the client needed after that. `failed` counts what did not succeed.
    """

    shard: int
    gap_s: float
    began_s: float
    ended_s: float | None
    sustained_s: float | None
    promoted_s: float | None
    client_s: float | None
    failed: int


@dataclass(frozen=True)
class ErrorCount:
    """An error class, how it ended, how often, and from when to when."""

    error: str
    outcome: str
    count: int
    first_s: float
    last_s: float


@dataclass(frozen=True)
class Consistency:
    """What became of the data. Everything counted is proven by the history; nothing is guessed.

    `acknowledged`: writes that were answered OK. `lost`: those of them whose effect was gone at the end, though no
    later write can have replaced it. `survived`: writes that were not acknowledged and had their effect.
    `refused_survived`: those of them that were refused, and must not have had one. `stale`: reads that did not show
    a write acknowledged before they began (and which was not lost). `doubled`: appends whose value stands there more
    than once. `unknown_values`: values that nobody wrote. `examples`: up to ten of each, in words.
    `checked` is false where nobody could read the servers at the end: then `lost`, `survived`, `doubled` say nothing.
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
    """How the idle, the fresh or the busy connection of a client fared after the fault.

    `back_s` is its first success that was due after the fault was in effect and after its last failure; None where it
    was failing at the end, or did nothing. `recovered` is whether it worked at the end.
    """

    tried: int
    succeeded: int
    back_s: float | None
    recovered: bool


@dataclass(frozen=True)
class ClientFindings:
    """One client under test. `downtime_s` is the longest outage of any shard.

    `stuck`: its busy or idle connection failed to the end, while a fresh client worked.

    `drift_p99_ms` is how late operations began, of the tool's own making; with more than the verdict allows it is
    the tool that was slow. `latency` has the keys `before`, `during` and `after`.
    """

    name: str
    what: str
    operations: int
    ok: int
    failed: int
    indeterminate: int
    downtime_s: float | None
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
    consistency: Consistency


@dataclass(frozen=True)
class Series:
    """One client over time, in buckets of `bucket_s`; the first begins at `from_s`. Empty buckets have None latency.

    Throughput by when operations ended, latency of those that succeeded by when they were due.
    """

    client: str
    from_s: float
    bucket_s: float
    ok: tuple[int, ...]
    failed: tuple[int, ...]
    indeterminate: tuple[int, ...]
    p50_ms: tuple[float | None, ...]
    max_ms: tuple[float | None, ...]


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

    `server_s` is how long the servers took to promote, from the fault; None where nothing was promoted. `note` tells
    what is worth telling of the place, such as keys for each shard.
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
    """What the user allows. None is not judged. `max_drift_ms` is what the tool allows itself."""

    max_downtime_s: float | None = None
    max_lost: int | None = None
    max_stale: int | None = None
    max_doubled: int | None = None
    max_drift_ms: float = 100.0


@dataclass(frozen=True)
class Verdict:
    """`passed`, `failed` or `unknown`, and why, a sentence each. Not checked is never passed."""

    word: Word
    reasons: tuple[str, ...]
