"""Whether every primary takes what a join needs: a write, acknowledged by replicas. It changes nothing."""

from __future__ import annotations

import asyncio

from understudy.errors import UnderstudyError, UnreachableError
from understudy.valkey.batched import BatchedClient, UnacknowledgedError
from understudy.valkey.discovery import parse_info
from understudy.valkey.wire import ReplyError
from understudy.waitingroom import keys


class FewReplicasError(UnacknowledgedError):
    """Primaries have fewer replicas connected than must acknowledge."""


async def why_refused(client: BatchedClient, *, replicas: int, within_s: float) -> UnderstudyError | None:
    """Return why some primary does not take writes; None where all do. Of several reasons the one that stays."""

    async def write(key: str) -> UnderstudyError | None:
        try:  # the key is not there, and is not made
            await client.execute(("SET", key, "", "XX"), key, within_s=within_s, acknowledged_by=replicas)
        except UnderstudyError as error:
            return error
        return None

    found = await asyncio.gather(*map(write, client.keys_on_primaries(keys.CHECKED)))
    error = min((one for one in found if one), key=lambda one: one.retryable, default=None)
    if isinstance(error, UnacknowledgedError):
        return await _few_replicas(client, replicas, within_s) or error
    return error


async def _few_replicas(client: BatchedClient, wanted: int, within_s: float) -> FewReplicasError | None:
    """Return which primaries have fewer replicas than wanted; None where they do not tell."""
    try:
        told = await client.on_primaries(("INFO", "replication"), within_s=within_s)
    except UnreachableError:
        return None
    few = []
    for address, info in told.items():
        facts = {} if isinstance(info, ReplyError) else parse_info(info)
        has = sum("state=online" in value for name, value in facts.items() if name.startswith("slave"))
        if facts and has < wanted:
            few.append(f"{address} has {has} of {wanted} replicas connected")
    if not few:
        return None
    return FewReplicasError("waiting for replicas", ", ".join(few), "Start replicas, or ask for fewer (--replicas).")
