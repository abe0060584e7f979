"""What a history says about every client: the one way from operations to findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from understudy.drill.checker import check
from understudy.drill.findings import ClientFindings, ErrorCount, LegFindings, Mark
from understudy.drill.history import History
from understudy.drill.latency import drift_after_p99_ms, drift_p99_ms, phases
from understudy.drill.life import life
from understudy.drill.operation import Operation, Outcome, Part
from understudy.drill.outage import origin_us, outages, resolution_s, usable
from understudy.drill.series import Axis, series


def measure(history: History, *, name: str, layout: str, fault: str, notes: Sequence[str] = ()) -> LegFindings:
    """Return what a history shows; `fault` is empty for a run without one, which is measured from its start.

    The clients are those of the header, in its order, and any other that did something.
    """
    origin = origin_us(history)
    axis = Axis.of(history)
    clients = dict.fromkeys([*history.header["clients"], *(one.client for one in history.operations)])
    by_client: dict[str, list[Operation]] = {client: [] for client in clients}
    for one in history.operations:
        by_client[one.client].append(one)
    shards = {one.shard for one in history.operations}
    servers_us = [usable(history.events, shard, origin) for shard in shards]
    seen = {event.kind for event in history.events}
    return LegFindings(
        name=name,
        layout=layout,
        fault=fault,
        applied="applied" in seen if fault or "fault" in seen else True,
        server_s=max(((at_us - origin) / 1e6 for at_us in servers_us if at_us is not None), default=None),
        clients=tuple(measure_client(history, client, operations) for client, operations in by_client.items()),
        marks=tuple(Mark.from_event(event, origin) for event in sorted(history.events, key=lambda one: one.at_us)),
        series=tuple(series(history, axis, client, operations) for client, operations in by_client.items()),
        notes=tuple(notes),
    )


def measure_client(history: History, client: str, operations: Sequence[Operation]) -> ClientFindings:
    """Return what a history shows of one client; `operations` are its own."""
    parts: dict[Part, list[Operation]] = {part: [] for part in Part}
    for one in operations:
        parts[one.part].append(one)
    busy = parts[Part.BUSY]
    found = outages(history, busy)
    lives = {part: life(history, own, found if part is Part.BUSY else ()) for part, own in parts.items()}
    fresh_works = lives[Part.FRESH].recovered
    broken = [part for part, own in lives.items() if own.tried and not own.recovered]
    outcomes = Counter(one.outcome for one in operations)
    return ClientFindings(
        name=client,
        what=str(history.header["clients"].get(client, "")),
        operations=len(operations),
        ok=outcomes[Outcome.OK],
        failed=outcomes[Outcome.FAILED],
        indeterminate=outcomes[Outcome.INDETERMINATE],
        downtime_s=max((one.gap_s for one in found), default=None),
        resolution_s=resolution_s(history, busy),
        recovered=not broken and any(own.tried for own in lives.values()),
        stuck=fresh_works and bool(broken),
        outages=found,
        busy=lives[Part.BUSY],
        idle=lives[Part.IDLE] if parts[Part.IDLE] else None,
        fresh=lives[Part.FRESH] if parts[Part.FRESH] else None,
        errors=_count_errors(operations, origin_us(history), history.header.get("said", {}).get(client, {})),
        moved=sum(one.moved for one in operations),
        asked=sum(one.asked for one in operations),
        latency=phases(history, busy, found),
        drift_p99_ms=drift_p99_ms(history, busy),
        drift_after_p99_ms=drift_after_p99_ms(history, busy),
        consistency=check(history, client),
    )


def _count_errors(operations: Sequence[Operation], from_us: int, said: Mapping[str, str]) -> tuple[ErrorCount, ...]:
    """Return the error classes by outcome, the most frequent first; times are when the error was returned.

    `said` has what the last one of each class said.
    """
    times: dict[tuple[str, str], list[int]] = {}
    for one in operations:
        if one.outcome is not Outcome.OK:
            times.setdefault((one.error, one.outcome.value), []).append(one.ended_us)
    return tuple(
        ErrorCount(
            error,
            outcome,
            len(ended),
            (min(ended) - from_us) / 1e6,
            (max(ended) - from_us) / 1e6,
            said.get(error, ""),
        )
        for (error, outcome), ended in sorted(times.items(), key=lambda item: (-len(item[1]), item[0]))
    )
