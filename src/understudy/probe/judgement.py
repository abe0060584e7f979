"""From the operations of a recovery test to its verdict, by the rules of the drills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.drill.findings import Budget, ClientFindings, Life, Word
from understudy.drill.history import Event, Final, History
from understudy.drill.measure import measure
from understudy.drill.operation import Operation, Outcome
from understudy.drill.verdict import LEAST_OPERATIONS, judge
from understudy.pages.figures import count, seconds
from understudy.probe.tries import CLIENT

OWN_DRIFT_S = Budget().max_drift_ms / 1000
_SEEN_FROM_OUTSIDE = "whatever happened to the servers"


@dataclass(frozen=True)
class ClientLife:
    """How one of the two clients fared since the first failure. `back_s` is its first success for good."""

    operations: int
    succeeded: int
    back_s: float | None
    works: bool


@dataclass(frozen=True)
class Judgement:
    """The last line of a recovery test.

    `word` is `passed`, `failed` or `unknown`; nothing that failed is unknown: then no recovery was seen. So is a client
    that too little worked for before the first failure, unless a fresh one shows that it is stuck. Durations are
    seconds; `outage_s` is the longest time in which the client under test had no success on some shard, and no shorter
    one than `resolution_s` can be seen. `lost` counts acknowledged writes that were gone at the end, None where
    nobody could read.
    """

    word: Word
    sentence: str
    reasons: tuple[str, ...]
    stuck: bool
    outage_s: float | None
    resolution_s: float | None
    long_lived: ClientLife
    fresh: ClientLife
    lost: int | None
    stale: int
    errors: dict[str, int]


def judgement(
    operations: Sequence[Operation], final: Final | None, *,
    zero: str, ended_us: int, shards: int, what: str, mode: str, max_drift_s: float = OWN_DRIFT_S,
) -> Judgement:  # fmt: skip
    """Judge; `zero` is the wall clock at 0 µs, `what` says what the client is, `max_drift_s` how late we may be."""
    failures = [one for one in operations if one.outcome is not Outcome.OK]
    header = {"zero": zero, "ended_us": ended_us, "shards": shards, "clients": {CLIENT: what}, "rate": 0}
    began_us = min((one.begun_us for one in failures), default=None)
    # Nobody tells us of a fault: the first failure is where it begins for those who look from outside.
    events = [Event(began_us, kind, "", None, "first failure") for kind in ("fault", "applied")] if failures else []  # type: ignore[arg-type]
    history = History(header, list(operations), events, final)
    leg = measure(history, name=CLIENT, layout=mode, fault=_SEEN_FROM_OUTSIDE if failures else "")
    found = leg.clients[0]
    verdict = judge(leg, Budget(max_drift_ms=max_drift_s * 1000), [CLIENT])
    word, reasons = verdict.word, verdict.reasons
    if word == "passed" or found.stuck:
        reasons = ()  # the sentence says it
    if not failures:
        word, reasons = "unknown", ("Nothing failed while this ran: no recovery was there to be seen.",)
    before = found.latency["before"].operations
    if word == "failed" and before < LEAST_OPERATIONS and not found.stuck:
        word = "unknown"  # what never worked cannot fail to come back
    data = found.consistency
    return Judgement(
        word, _sentence(found, before, failed=bool(failures)), reasons, found.stuck,
        found.downtime_s if failures else None, found.resolution_s, _life(found.busy), _life(found.fresh),
        data.lost if data.checked else None, data.stale, {one.error: one.count for one in found.errors},
    )  # fmt: skip


def _life(life: Life | None) -> ClientLife:
    return (
        ClientLife(life.tried, life.succeeded, life.back_s, life.recovered) if life else ClientLife(0, 0, None, False)
    )


def _sentence(found: ClientFindings, before: int, *, failed: bool) -> str:
    fresh_works = bool(found.fresh and found.fresh.recovered)
    if not failed:
        return "Nothing failed: every write and read worked."
    if found.busy.recovered and found.busy.succeeded == found.busy.tried:
        return "The client never failed; the fresh ones did."
    if found.busy.recovered:
        lost = found.consistency.lost
        data = f" {lost:,} acknowledged writes are gone." if lost else ""
        return (
            f"The client came back by itself, after at most {seconds(found.downtime_s or 0)} without a success.{data}"
        )
    if fresh_works:
        return "The client is stuck, a fresh one works: start the application again, or change how it connects."
    if before < LEAST_OPERATIONS:
        worked = f"Only {count(before, 'operation')}" if before else "Nothing"
        return (
            f"{worked} worked before the first failure, and neither the client nor a fresh one works now: "
            "whether anything failed over is not known. /redis/status says why it does not work."
        )
    return "Neither the client nor a fresh one works: the servers are not back."
