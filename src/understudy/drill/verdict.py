"""Is that good enough? Pure decisions over findings and what the user allows; sentences with the numbers for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from statistics import median

from understudy.drill.findings import WORST_FIRST, Budget, ClientFindings, ClientSpread, LegFindings, Spread, Verdict
from understudy.pages.figures import count

LEAST_OPERATIONS = 20
"""So many successes before the fault show that everything worked, and how fast."""

AFTER_THE_FAULT = 4
"""So many times as late may operations begin then: hundreds of calls that wait and try again need the processor too."""


def judge(leg: LegFindings, budget: Budget, judged: Collection[str]) -> Verdict:
    """Judge a leg by those clients that are `judged`; the others are only reported.

    Failed where one exceeds what is allowed, or had not recovered at the end, whatever else is judged; where data are
    judged, also by values that nobody wrote and by refused writes that had their effect. Unknown where nothing failed
    and something that would have to be known is not. A failure is proven, so it comes first.
    """
    clients = [one for one in leg.clients if one.name in judged]
    wrong = [reason for one in clients for reason in _wrong(one, budget)]
    missing = sorted(set(judged) - {one.name for one in clients})
    unknown = [f"{name}: this client did not take part." for name in missing]
    unknown += [] if judged else ["No client is judged."]
    unknown += [] if leg.applied else ["The fault was not seen to take effect."]
    unknown += [reason for one in clients for reason in _open_questions(one, budget, leg.fault)]
    if wrong:
        return Verdict("failed", (*wrong, *unknown))
    if unknown:
        return Verdict("unknown", tuple(unknown))
    return Verdict("passed", tuple(_passed(clients, budget)))


def overall(verdicts: Iterable[tuple[str, Verdict]]) -> Verdict:
    """Return the verdict on several, each with a name: the worst word, and the reasons of all that have it."""
    each = list(verdicts)
    word = next((word for word in WORST_FIRST if any(one.word == word for _, one in each)), None)
    if word is None:
        return Verdict("unknown", ("Nothing was run.",))
    reasons = [
        f"{name}: {reason}" if name else reason for name, one in each if one.word == word for reason in one.reasons
    ]
    return Verdict(word, tuple(dict.fromkeys(reasons)))


def spreads(runs: Sequence[LegFindings]) -> tuple[ClientSpread, ...]:
    """Return for every client of a leg how much its numbers differed from run to run."""
    by_client: dict[str, list[ClientFindings]] = {}
    for run in runs:
        for one in run.clients:
            by_client.setdefault(one.name, []).append(one)
    return tuple(
        ClientSpread(
            client=name,
            runs=len(found),
            downtime_s=_spread([one.downtime_s for one in found if one.downtime_s is not None]),
            lost=_spread([one.consistency.lost for one in found if one.consistency.checked]),
            recovered=sum(one.recovered for one in found),
        )
        for name, found in by_client.items()
    )


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread(min(values), median(values), max(values)) if values else None


def _limits(one: ClientFindings, budget: Budget) -> Iterator[tuple[int, int | None, str]]:
    data = one.consistency
    yield data.lost, budget.max_lost, f"{data.lost:,} of {count(data.acknowledged, 'acknowledged write')} lost"
    yield data.stale, budget.max_stale, count(data.stale, "stale read")
    yield data.doubled, budget.max_doubled, count(data.doubled, "append") + " there more than once"


def _nothing_allowed(budget: Budget) -> bool:
    return budget.max_downtime_s is None and not _data_judged(budget)


def _data_judged(budget: Budget) -> bool:
    return any(limit is not None for limit in (budget.max_lost, budget.max_stale, budget.max_doubled))


def _wrong(one: ClientFindings, budget: Budget) -> Iterator[str]:
    allowed_s = budget.max_downtime_s
    if allowed_s is not None:
        for outage in one.outages:
            if outage.gap_s > allowed_s:
                until = "" if outage.ended_s is not None else ", and still at the end"
                yield (
                    f"{one.name}: shard {outage.shard} was without a success for {outage.gap_s:.2f} s{until}; "
                    f"{allowed_s:g} s are allowed."
                )
    if not one.recovered and any(life and life.tried for life in (one.busy, one.idle, one.fresh)):
        yield f"{one.name}: it had not recovered at the end{', while a fresh client worked' if one.stuck else ''}."
    for number, limit, what in _limits(one, budget):
        if limit is not None and number > limit:
            yield f"{one.name}: {what}; {limit:,} {'is' if limit == 1 else 'are'} allowed."
    if _data_judged(budget):
        if number := one.consistency.refused_survived:
            yield f"{one.name}: {count(number, 'write')} had an effect though the servers had refused it."
        if number := one.consistency.unknown_values:
            yield f"{one.name}: {count(number, 'value')} that nobody had written."


def _open_questions(one: ClientFindings, budget: Budget, fault: str) -> Iterator[str]:
    if not one.consistency.checked and (budget.max_lost is not None or budget.max_doubled is not None):
        yield f"{one.name}: the data could not be read at the end, so that losses and doubles are not known."
    before = one.latency["before"].operations
    if before < LEAST_OPERATIONS:
        yield (
            f"{one.name}: {count(before, 'operation')} succeeded before the fault; "
            f"{LEAST_OPERATIONS} are needed to know that it worked."
        )
    if fault and not one.busy.tried:
        yield f"{one.name}: nothing was tried after the fault."
    elif budget.max_downtime_s is not None and one.downtime_s is None:
        yield f"{one.name}: it went to no shard, so that no outage could be seen."
    late_ms = one.drift_p99_ms
    if late_ms is not None and late_ms > budget.max_drift_ms:
        yield (
            f"{one.name}: before the fault its operations began up to {late_ms:.0f} ms late (p99), with "
            f"{budget.max_drift_ms:g} ms allowed: this machine was too slow to measure by."
        )
    late_ms, allowed_ms = one.drift_after_p99_ms, AFTER_THE_FAULT * budget.max_drift_ms
    if late_ms is not None and late_ms > allowed_ms:
        yield (
            f"{one.name}: after the fault its operations began up to {late_ms:,.0f} ms late (p99), with "
            f"{allowed_ms:g} ms allowed: latency and downtime since then include this tool's own waiting."
        )


def _passed(clients: Sequence[ClientFindings], budget: Budget) -> Iterator[str]:
    if _nothing_allowed(budget):
        yield "No budget is set: outages and losses are reported, and only recovery is judged."
    for one in clients:
        said = []
        if budget.max_downtime_s is not None and one.downtime_s is not None:
            said.append(f"at most {one.downtime_s:.2f} s without a success ({budget.max_downtime_s:g} s are allowed)")
        said += [
            f"{what}{f' ({limit:,} allowed)' if limit else ''}"
            for _, limit, what in _limits(one, budget)
            if limit is not None
        ]
        yield f"{one.name}: {', '.join(said) or 'recovered'}."
