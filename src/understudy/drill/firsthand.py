"""The plainest things an application does, tried once by hand: before a fault, and after it."""

from __future__ import annotations

from typing import cast

from redis.cluster import RedisCluster

from understudy.errors import IntegrityError, UnreachableError
from understudy.valkey.connect import call_with_deadline, connect
from understudy.valkey.discovery import discover
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import ReplyError, Wire

_DEADLINE_S = 15.0


def try_crud(target: Target, key: str) -> str:
    """Create, read, update and delete a key that nobody else uses, waiting out a failover; say what worked.

    Raises:
        IntegrityError: an answer was not what had been written.
        redis.RedisError: not within the deadline.
    """
    client = connect(target, decode_responses=True)
    try:
        for wrote in ("created", "updated"):
            call_with_deadline(lambda wrote=wrote: client.set(key, wrote), _DEADLINE_S)  # type: ignore[misc]
            found = call_with_deadline(lambda: client.get(key), _DEADLINE_S)
            if found != wrote:
                raise IntegrityError(f"reading {key} from {target}", f"{wrote!r} was written, and {found!r} is there")
        call_with_deadline(lambda: client.delete(key), _DEADLINE_S)
        if (found := call_with_deadline(lambda: client.get(key), _DEADLINE_S)) is not None:
            raise IntegrityError(f"reading {key} from {target}", f"it was deleted, and {found!r} is there")
    finally:
        client.close()
    return f"create, read, update and delete work in {target.mode} mode"


def follow_moved(target: Target, key: str) -> str:
    """Send a client of a cluster to a primary that does not own a key, and say how it got to the one that does.

    Raises:
        UnreachableError: the wrong primary did not send us away, or there is only one.
        redis.RedisError: the client did not follow.
    """
    topology = discover(target)
    slot = key_slot(key.encode())
    primaries = {shard.primary.address: slot in shard.slots for shard in topology.shards if shard.primary}
    wrong = next((address for address, owns in primaries.items() if not owns), None)
    if wrong is None:
        raise UnreachableError(f"asking the wrong node for {key}", "there is only one primary")
    with Wire(wrong, target) as wire:
        said = wire.pipeline([("GET", key)])[0]
    if not isinstance(said, ReplyError) or not str(said).startswith("MOVED"):
        raise UnreachableError(f"asking {wrong} for {key}, which it does not own", f"it answered {said!r}, not MOVED")
    client = cast(RedisCluster, connect(target, decode_responses=True))
    try:
        node = client.get_node(host=wrong.host, port=wrong.port)  # type: ignore[no-untyped-call]
        client.execute_command("SET", key, "followed", target_nodes=node)  # type: ignore[no-untyped-call]
        if client.get(key) != "followed":
            raise IntegrityError(f"reading {key} from {target}", "what was written is not there")
        client.delete(key)
    finally:
        client.close()
    return f"a client of its own, sent to {wrong} on purpose, was answered {said}, and followed"
