"""`/redis/monitor`: the topology again and again, a line for every look."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from functools import partial

import anyio

from understudy.errors import UnderstudyError
from understudy.http.stream import Line
from understudy.probe.arrangement import changes, look, shards_of
from understudy.probe.clock import next_due, timestamp
from understudy.probe.connection import Connection
from understudy.probe.work import Pool, Work
from understudy.valkey.topology import Topology

_LOOK_WITHIN_S = 8.0


async def monitor(
    connection: Connection, work: Work, duration_s: float, interval_s: float
) -> AsyncGenerator[Line, None]:
    """Look every `interval_s` for `duration_s` seconds, and tell what changed.

    Lines: `topology` (the first look, and whenever something changed, with what changed), `heartbeat` (nothing did),
    `unreachable` (nobody answered, and why), and `end` with how many changes there were.
    """
    began = time.monotonic()
    seen: Topology | None = None
    reached = True
    total, looks = 0, 0
    while True:
        looks += 1
        head = {"at": timestamp(), "elapsed_s": round(time.monotonic() - began, 3)}
        try:
            now = await work.do("looking", partial(look, connection, seen), _LOOK_WITHIN_S, Pool.STREAMS)
        except UnderstudyError as error:
            reached = False
            yield {"type": "unreachable", **head, "why": error.why, "try": error.hint}
        else:
            found = changes(seen, now) if seen else ()
            total += len(found)
            if seen is None or found or not reached:
                told = {"mode": now.mode, "changes": found, "shards": shards_of(now)}
                yield {"type": "topology", **head, **told, "uncovered": len(now.missing_slots)}
            else:
                yield {"type": "heartbeat", **head, "nodes": len(now.nodes)}
            seen, reached = now, True
        due = next_due(began, interval_s, time.monotonic())
        if due - began >= duration_s:
            break
        await anyio.sleep(max(0.0, due - time.monotonic()))
    await anyio.sleep(max(0.0, began + duration_s - time.monotonic()))
    yield {"type": "end", "at": timestamp(), "looks": looks, "total_changes": total, "why": "the duration is over"}
