"""Reports of drills that never ran: measured from histories of a shard that fails over, with two clients."""

from __future__ import annotations

from random import Random

from histories import FAILED, INDETERMINATE, OK, history, operation
from understudy.drill.findings import Budget, DrillReport, LegFindings, LegReport
from understudy.drill.history import Event, History
from understudy.drill.measure import measure
from understudy.drill.operation import Kind, Operation, Outcome, Part
from understudy.drill.verdict import judge, overall, spreads

S = 1_000_000
FAULT_US, ENDED_US = 10 * S, 30 * S
BUDGET = Budget(max_downtime_s=5, max_lost=0, max_stale=0, max_doubled=0)
EVENTS = (
    Event(FAULT_US, "fault", "node-1", 0, "kill -9 of node-1, the primary of shard 0"),
    Event(FAULT_US + 8_000, "applied", "node-1", 0, "node-1 is gone"),
    Event(FAULT_US + 40_000, "gone", "node-1", 0, "node-1 stopped answering"),
    Event(FAULT_US + 2_430_000, "promoted", "node-4", 0, "node-4 is a primary now"),
    Event(FAULT_US + 12_000_000, "undone", "node-1", 0, "node-1 was started again"),
    Event(FAULT_US + 12_300_000, "back", "node-1", 0, "node-1 answers"),
)


def failover(
    *, back_s: float = 2.61, naive_s: float = 9.4, lost: int = 0, broken: bool = True, seed: int = 1
) -> History:
    """Return 30 s in which `recommended` is back after `back_s`, `naive` after `naive_s`, and its idle one never."""
    random = Random(seed)
    operations: list[Operation] = []
    for name, gone_s in (("recommended", back_s), ("naive", naive_s)):
        operations += [_busy(random, name, number, gone_s if broken else 0.0) for number in range(30 * 120)]
        down_s = 2.5 if broken else 0.0
        operations += [_quiet(name, Part.FRESH, number * S // 2, number % 3, down_s) for number in range(60)]
        for number in (0, 1, 2, *(range(50, 60) if broken else range(3, 60))):
            never = 99.0 if name == "naive" and broken else 0.0
            operations.append(_quiet(name, Part.IDLE, number * S // 2, number % 3, never, every_shard=True))
    final: dict[str, str | list[str] | None] = {}
    for one in operations:
        if one.kind is Kind.SET:
            final[one.key] = one.value if one.outcome is OK else None
        elif one.kind is Kind.APPEND:
            final.setdefault(one.key, [])
            if one.outcome is OK or (one.outcome is INDETERMINATE and one.begun_us % 3 == 0):
                final[one.key].append(one.value)
    naive = [one for one in operations if one.client == "naive" and one.kind is Kind.SET and one.outcome is OK]
    for one in [one for one in naive if one.due_us < FAULT_US and one.shard == 0][-lost:] if lost else []:
        final[one.key] = None
    judged = history(operations, final, EVENTS if broken else (), ENDED_US)
    judged.header["clients"] = {
        "recommended": "redis-py RedisCluster with a deadline retry and dynamic_startup_nodes=False",
        "naive": "redis-py RedisCluster as it comes",
    }
    return judged


def _busy(random: Random, client: str, number: int, gone_s: float) -> Operation:
    due_us, shard = number * S // 120, number % 3
    kind = (Kind.SET, Kind.GET, Kind.APPEND)[number // 3 % 3]
    key = f"{client}:{kind}:{number % 36 if kind is Kind.APPEND else number}"
    value = None if kind is Kind.GET else f"{client}-{number}"
    took_us = int(400 + random.expovariate(1 / 300))
    outcome: Outcome = OK
    error = ""
    since_s = (due_us - FAULT_US) / S
    if shard == 0 and 0 <= since_s < gone_s:
        outcome, error, took_us = FAILED, "ConnectionError", int(2_000 + random.expovariate(1 / 3_000))
        if since_s < 0.3 or (client == "naive" and number % 2):
            outcome, error, took_us = INDETERMINATE, "TimeoutError", 1_000_000 + random.randrange(90_000)
        elif since_s > gone_s - 0.4:
            error = "ClusterDownError"
    elif since_s > 0 and since_s < gone_s:
        took_us *= random.choice((1, 1, 8))
    begun_us = due_us + random.randrange(200)
    moved = int(shard == 0 and outcome is OK and gone_s <= since_s < gone_s + 0.2)
    return operation(
        kind, key, value, begun_us, due_us + 200 + took_us, outcome,
        client=client, shard=shard, due_us=due_us, error=error, moved=moved, attempts=1 + moved,
    )  # fmt: skip


def _quiet(client: str, part: Part, due_us: int, shard: int, gone_s: float, *, every_shard: bool = False) -> Operation:
    down = 0 <= due_us - FAULT_US < gone_s * S and (every_shard or shard == 0)
    return operation(
        Kind.GET, f"{client}:{part}", None, due_us, due_us + (5_000 if down else 900), FAILED if down else OK,
        client=client, part=part, shard=shard, error="ConnectionError" if down else "",
    )  # fmt: skip


def leg(runs: list[LegFindings], budget: Budget = BUDGET, judged: tuple[str, ...] = ("recommended",)) -> LegReport:
    """Return a leg of one or several runs with its verdict."""
    each = [(f"run {n}" if len(runs) > 1 else "", judge(run, budget, judged)) for n, run in enumerate(runs, 1)]
    return LegReport(tuple(runs), overall(each), spreads(runs))


def report(*legs: LegReport, budget: Budget = BUDGET, **changes: str) -> DrillReport:
    """Return a report of these legs."""
    texts = {
        "scenario": "kill-primary",
        "about": "A primary is killed and a replica takes over.",
        "when": "2026-11-21T03:34:14.000000Z",
        "servers": "Valkey 9.1.2, 3 primaries and 3 replicas",
        "command": "understudy drill kill-primary --runs 3",
        **changes,
    }
    verdict = overall((one.worst.name if len(legs) > 1 else "", one.verdict) for one in legs)
    return DrillReport(**texts, budget=budget, judged=("recommended",), verdict=verdict, legs=legs)


def measured(name: str = "cluster", fault: str = "kill a primary", **how: float) -> LegFindings:
    """Return the findings of a failover."""
    notes = ("Shard 0 held 34 % of the keys.",)
    return measure(failover(**how), name=name, layout=name.split(",", maxsplit=1)[0], fault=fault, notes=notes)  # type: ignore[arg-type]


def matrix() -> DrillReport:
    """Return a report of several legs: passed, failed, unknown, and one in several runs."""
    each = [(2.61, 9.4, 0), (2.8, 15.1, 3), (2.55, 8.8, 0)]
    runs = [
        measured(back_s=back_s, naive_s=naive_s, lost=lost, seed=seed)
        for seed, (back_s, naive_s, lost) in enumerate(each)
    ]
    unseen = measured("enterprise, paused", "pause a primary", back_s=0.4, naive_s=0.4)
    unseen = LegFindings(**{**vars(unseen), "applied": False})
    return report(
        leg(runs),
        leg([measured("sentinel", "kill the primary", back_s=6.31, naive_s=12.0, lost=40)]),
        leg([unseen]),
        leg([measured("cluster, control", "", broken=False)]),
    )
