"""What is found in a sale, as frozen values: for the verdict, the terminal, JSON and the page alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from understudy.drill.findings import Verdict

Basis = Literal["always", "acknowledged", "timed", "stated"]
MOST_EXAMPLES = 10


@dataclass(frozen=True)
class Finding:
    """One promise, and how often it was broken.

    `always`: nothing that happens to servers excuses it. `acknowledged`: it rests on servers keeping what they
    acknowledged; asynchronous replication alone does not promise that when a primary is lost. `timed`: it is about how
    long something takes, which on a machine that holds this tool up is not known. `stated`: no promise, but worth
    knowing. `of` is how many were looked at, `examples` are in words.
    """

    name: str
    title: str
    basis: Basis
    broken: int
    of: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outage:
    """The longest time in which no buyer got anything done, from the last success to the next, around one fault.

    `counted` is by how much the servers' count of sold seats was higher within it than at the last look before it;
    `untold` is how many of those no buyer had been told of yet: sold, and answered 503 for want of a second copy.
    """

    fault: str
    at_s: float
    gap_s: float
    from_s: float
    unanswered: int  # requests without an answer, or with 503, until the next fault
    counted: int = 0
    untold: int = 0


@dataclass(frozen=True)
class Tally:
    """How much of what there was."""

    buyers: int
    joined: int
    entered: int
    bought: int  # seats whose sale was acknowledged
    sold: int  # seats that are sold in the end
    seats: int
    requests: int
    unavailable: int  # answers 503
    unanswered: int  # requests whose connection broke, or that took too long
    took_s: float
    left: int = 0  # buyers who said goodbye before they had entered
    dropped: int = 0  # seats that are not sold, and that a buyer held to the end of the hold without buying


@dataclass(frozen=True)
class Series:
    """The sale over time, in buckets of `bucket_s` from 0."""

    bucket_s: float
    done: dict[str, tuple[int, ...]]  # kind -> acknowledged
    unavailable: tuple[int, ...]
    unanswered: tuple[int, ...]
    sold: tuple[int | None, ...]
    p50_ms: tuple[float | None, ...]
    max_ms: tuple[float | None, ...]


@dataclass(frozen=True)
class Mark:
    """Something that happened to the servers."""

    at_s: float
    kind: str
    text: str


@dataclass(frozen=True)
class SaleFindings:
    """One run of a sale."""

    name: str
    layout: str
    faults: tuple[str, ...]
    replicas: int
    loses: bool
    findings: tuple[Finding, ...]
    outages: tuple[Outage, ...]
    tally: Tally
    marks: tuple[Mark, ...]
    series: Series
    checked: bool  # what stood there at the end could be read
    unfinished: int  # buyers who were not done when time was up
    failures: tuple[str, ...] = ()  # faults that could not be brought about, or not be undone
    lag_s: float = 0.0  # how long this tool itself was held up at most
    notes: tuple[str, ...] = ()

    def finding(self, name: str) -> Finding:
        """Return a finding by its name."""
        return next(one for one in self.findings if one.name == name)


@dataclass(frozen=True)
class Allowed:
    """What the user allows. None is not judged; a sale whose acknowledgements are safe may lose none anyway."""

    max_lost: int | None = None
    max_downtime_s: float | None = None


@dataclass(frozen=True)
class SaleReport:
    """Several runs of one sale."""

    about: str
    when: str
    servers: str
    command: str
    allowed: Allowed
    verdict: Verdict
    runs: tuple[tuple[SaleFindings, Verdict], ...]
