"""Look at every key of a cluster as the servers themselves see it: its type, its expiry and a digest of its value."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from understudy.errors import IncompleteError
from understudy.progress import Progress, stage
from understudy.valkey.keyspace import list_slots
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import Command, Reply, ReplyError

_STEP_KEYS = 2000
_GONE = b"0" * 40  # the digest of a key that is not there


@dataclass
class Census:
    """Every key with its digest, and how many there are of each type and kind; `expiring` have an expiry.

    `kinds` counts the kinds of `lab.sample`, which stand in the names that it gives.
    """

    digests: dict[bytes, bytes] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    expiring: int = 0
    functions: list[bytes] = field(default_factory=list)


def take_census(router: Router, progress: Progress, total: int) -> Census:
    """Ask for every key's type, expiry and `DEBUG DIGEST-VALUE`.

    Raises:
        IncompleteError: a server would not say.
    """
    census = Census(functions=functions(router))
    with stage(progress, "Recording digests", total, "keys"):
        for names, _ in list_slots(router, range(SLOTS)):
            for start in range(0, len(names), _STEP_KEYS):
                some = names[start : start + _STEP_KEYS]
                _record(router, some, census)
                progress.advance(len(some))
    return census


def _record(router: Router, names: list[bytes], census: Census) -> None:
    commands: list[tuple[int | None, Command]] = []
    for name in names:
        slot = key_slot(name)
        commands += [(slot, ("DEBUG", "DIGEST-VALUE", name)), (slot, ("TYPE", name)), (slot, ("PTTL", name))]
    replies = router.execute(commands).values
    for name, digest, kind, ttl_ms in zip(names, replies[::3], replies[1::3], replies[2::3], strict=True):
        for reply in (digest, kind, ttl_ms):
            if isinstance(reply, ReplyError):
                raise IncompleteError(
                    f"asking for the digest of {name!r}", str(reply), "Does this server allow the DEBUG command?"
                )
        if digest[0] == _GONE:
            continue  # it expired meanwhile
        census.digests[name] = digest[0]
        census.types[kind.decode()] += 1
        census.expiring += ttl_ms >= 0
        origin, _, rest = name.partition(b":")
        census.kinds[rest.split(b":")[0].decode() if origin == b"sample" else "odd names"] += 1


def functions(router: Router) -> list[bytes]:
    """Return what `FUNCTION LIST` says on each primary; empty where the server is too old for functions."""
    found: list[bytes] = []
    for shard in router.topology.shards:
        if shard.primary:
            reply: Reply = router.wire(shard.primary.address).pipeline([("FUNCTION", "LIST", "WITHCODE")])[0]
            if not isinstance(reply, ReplyError):
                found += [repr(library).encode() for library in reply]
    return sorted(found)


def key_count(router: Router) -> int:
    """Return `DBSIZE` of all primaries together."""
    primaries = [shard.primary for shard in router.topology.shards if shard.primary]
    return sum(int(router.wire(primary.address).call("DBSIZE")) for primary in primaries)
