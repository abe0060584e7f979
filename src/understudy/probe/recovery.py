"""`/redis/failover-recovery`: write and read again and again, with the client under test and fresh ones beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import asdict
from functools import partial

import anyio

from understudy.drill.operation import Operation, Outcome, Part
from understudy.errors import UnderstudyError
from understudy.http.problem import TooSlowError
from understudy.http.stream import Line
from understudy.probe.arrangement import look
from understudy.probe.clock import next_due, timestamp
from understudy.probe.connection import Connection
from understudy.probe.judgement import OWN_DRIFT_S, judgement
from understudy.probe.leftovers import remove
from understudy.probe.metrics import Metrics
from understudy.probe.plan import Plan
from understudy.probe.tries import NO_ANSWER, Attempt, Tries, microseconds_since, read_final
from understudy.probe.work import Pool, Work

_TRY_WITHIN_S = 12.0
_LOOK_WITHIN_S = 5.0
_FINAL_WITHIN_S = 8.0
_NAMES = {Part.BUSY: "long-lived", Part.FRESH: "fresh"}
Try = Callable[[int, int], Attempt]


async def recovery(
    connection: Connection, work: Work, metrics: Metrics, duration_s: float, interval_s: float,
    max_drift_s: float = OWN_DRIFT_S,
) -> AsyncGenerator[Line, None]:  # fmt: skip
    """Try every `interval_s` for `duration_s` seconds with each client, neither waiting for the other.

    Lines: `plan` (which keys, on how many shards), `observation` (a try of one client, the moment it ended), and
    `verdict` (see `Judgement`).
    """
    zero, began = timestamp(), time.monotonic()
    try:
        topology = await work.do("looking", partial(look, connection), _LOOK_WITHIN_S, Pool.STREAMS)
    except UnderstudyError:
        topology = None
    plan = Plan.of(topology, connection.mode, duration_s)
    began_trying = time.monotonic()
    tries = Tries(connection, plan, microseconds_since(began))
    done: list[Operation] = []
    times = (began, began_trying, began_trying + duration_s, interval_s)
    try:
        yield {
            "type": "plan", "at": zero, "mode": connection.mode, "client": connection.kind, "shards": len(plan.lanes),
            "keys": plan.keys, "duration_s": duration_s, "interval_s": interval_s,
        }  # fmt: skip
        async with aclosing(_attempts(work, tries, times)) as attempts:
            async for attempt in attempts:
                done += attempt.operations
                if attempt.error:
                    metrics.failed(_NAMES[attempt.part].replace("-", "_"), attempt.error)
                yield _observation(attempt)
    except (GeneratorExit, asyncio.CancelledError):  # whoever asked has hung up, or the probe ends
        work.beside(partial(remove, connection, plan, tries))
        raise
    ended_us = microseconds_since(began)()
    try:
        reading = partial(read_final, connection, plan)
        final = await work.do("reading what is there", reading, _FINAL_WITHIN_S, Pool.STREAMS)
    except TooSlowError:
        final = None
    judged = judgement(
        done, final, zero=zero, ended_us=ended_us, shards=len(plan.lanes),
        what=f"redis-py, {connection.kind} settings, {connection.mode}", mode=connection.mode,
        max_drift_s=max_drift_s,
    )  # fmt: skip
    yield {"type": "verdict", "at": timestamp(), **asdict(judged)}


async def _attempts(
    work: Work, tries: Tries, times: tuple[float, float, float, float]
) -> AsyncGenerator[Attempt, None]:
    """Give the tries of both clients as they end. Plain tasks: a task group must not stay open where we yield."""
    ended: asyncio.Queue[Attempt | None] = asyncio.Queue()
    loops = [
        asyncio.create_task(_again_and_again(ended, work, tries, part, act, times))
        for part, act in ((Part.BUSY, tries.long_lived), (Part.FRESH, tries.fresh))
    ]
    try:
        left = len(loops)
        while left:
            attempt = await ended.get()
            if attempt is None:
                left -= 1
            else:
                yield attempt
        for loop in loops:
            await loop
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def _again_and_again(
    ended: asyncio.Queue[Attempt | None], work: Work, tries: Tries, part: Part, act: Try,
    times: tuple[float, float, float, float],
) -> None:  # fmt: skip
    zero, began, ends, interval_s = times
    due, number = began, 0
    try:
        while due < ends:
            await anyio.sleep(max(0.0, due - time.monotonic()))
            number += 1
            due_us = int((due - zero) * 1_000_000)
            try:
                attempt = await work.do("trying", partial(act, number, due_us), _TRY_WITHIN_S, Pool.STREAMS)
            except TooSlowError as error:
                attempt = tries.given_up(part, number, due_us, NO_ANSWER, error.why)
            ended.put_nowait(attempt)
            due = next_due(began, interval_s, time.monotonic())
    finally:
        ended.put_nowait(None)


def _observation(attempt: Attempt) -> Line:
    good = {one.shard + 1 for one in attempt.operations} - {
        one.shard + 1 for one in attempt.operations if one.outcome is not Outcome.OK
    }
    begun = min(one.begun_us for one in attempt.operations)
    ended = max(one.ended_us for one in attempt.operations)
    return {
        "type": "observation", "at": timestamp(), "elapsed_s": round(ended / 1e6, 3), "client": _NAMES[attempt.part],
        "try": attempt.number, "ok": attempt.ok, "latency_ms": round((ended - begun) / 1000, 3),
        "shards_ok": sorted(good), "error": attempt.error, "why": attempt.why,
    }  # fmt: skip
