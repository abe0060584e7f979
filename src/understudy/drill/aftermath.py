"""What is there when it is over: every key that was written, read from the servers that hold it now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from understudy.drill.history import Final
from understudy.drill.operation import Kind, Operation
from understudy.errors import IncompleteError
from understudy.lab.deadline import Deadline
from understudy.lab.layout import of_kind
from understudy.lab.live import Lab
from understudy.valkey.keyspace import scan
from understudy.valkey.router import Routed, Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Mode
from understudy.valkey.topology import Topology
from understudy.valkey.wire import ReplyError

_BATCH = 1000
_PATIENCE_S = 15.0


def read_all(lab: Lab, operations: Iterable[Operation]) -> Final:
    """Return what stands in every key that an operation wrote.

    Raises:
        UnreachableError: some shard could not be read.
        IncompleteError: a server refused to tell.
    """
    written = {one.key: one.kind for one in operations if one.kind is not Kind.GET}
    final: Final = {}
    with _router(lab) as router:
        for batch in _batches(list(written)):
            routed: list[Routed] = [
                (key_slot(key.encode()), ("LRANGE", key, 0, -1) if written[key] is Kind.APPEND else ("GET", key))
                for key in batch
            ]
            for key, reply in zip(batch, router.execute(routed).values, strict=True):
                if isinstance(reply, ReplyError):
                    raise IncompleteError(f"reading {key} after the drill", str(reply))
                if isinstance(reply, list):
                    final[key] = [one.decode() for one in reply]
                else:
                    final[key] = None if reply is None else reply.decode()
    return final


def await_agreement(lab: Lab, within_s: float = 30.0) -> None:
    """Wait until every server says the same of who is primary of what: one that was paused has an old view.

    Raises:
        StartError: not in time.
    """
    Deadline(within_s).until("waiting for the servers to agree on who is primary", lambda: _agree(lab))


def _agree(lab: Lab) -> bool:
    data = of_kind(lab.nodes, "valkey")
    if lab.layout in {"cluster", "enterprise"}:
        views = {_owners(str(lab.call(node, "CLUSTER", "NODES")), node.address) for node in data}
        return len(views) == 1
    roles = [(node.address, lab.call(node, "ROLE")) for node in data]
    primaries = {address for address, role in roles if role[0] == "master"}
    followed = {Address(role[1], int(role[2])) for _, role in roles if role[0] == "slave"}
    return len(primaries) == 1 and followed <= primaries


def _owners(nodes: str, seed: Address) -> frozenset[tuple[Address, frozenset[int]]]:
    shards = Topology.from_cluster_nodes(nodes, seed).shards
    return frozenset((shard.primary.address, shard.slots) for shard in shards if shard.primary and shard.slots)


def remove(lab: Lab, prefix: str) -> None:
    """Remove every key that begins so: what a drill wrote into a lab that goes on."""
    with _router(lab) as router:
        for address in router.primaries:
            for batch in scan(router, address, f"{prefix}*"):
                for name in batch.names:
                    router.wire(address).call("UNLINK", name)


def keys_per_shard(lab: Lab) -> list[tuple[str, int, int]]:
    """Return each primary's address, how many slots it serves, and how many keys it holds."""
    with _router(lab) as router:
        counts = router.on_primaries("DBSIZE")
        shards = [shard for shard in router.topology.shards if shard.primary and shard.primary.healthy]
        return [
            (str(shard.primary.address), len(shard.slots), int(count))
            for shard, count in zip(shards, counts, strict=True)
            if shard.primary
        ]


def _router(lab: Lab) -> Router:
    return Router(lab.target(Mode.OSS_CLUSTER if lab.layout == "enterprise" else None), _PATIENCE_S)


def _batches(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH))
