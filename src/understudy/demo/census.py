"""Look at every key of a cluster as the servers themselves see it: its type, its expiry and a digest of its value."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf

from understudy.errors import IncompleteError
from understudy.progress import Progress, stage
from understudy.sale.run import EVENT
from understudy.valkey.keyspace import list_slots
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import Command, Reply, ReplyError

_STEP_KEYS = 2000
SALE = f"{{{EVENT}-".encode()  # in the name of every key of the event
_GONE = b"0" * 40  # the digest of a key that is not there


@dataclass
class Census:
    """Every key with its digest, and how many there are of each type and kind.

    `kinds` counts the kinds of `lab.sample`, which stand in the names that it gives, and the keys of the sale.
    `ends` has the moment (seconds since 1970) at which a key expires, for those that do; `taken_s` is when we looked.
    """

    digests: dict[bytes, bytes] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    ends: dict[bytes, float] = field(default_factory=dict)
    taken_s: float = 0.0
    functions: list[bytes] = field(default_factory=list)

    def expired(self, later: Census) -> frozenset[bytes]:
        """Return the keys that are not there any more when looked at later, and whose time was over by then."""
        gone = self.digests.keys() - later.digests.keys()
        return frozenset(key for key in gone if self.ends.get(key, inf) <= later.taken_s)


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
    census.taken_s = time.time()
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
        if ttl_ms >= 0:
            census.ends[name] = time.time() + ttl_ms / 1000
        census.kinds[_kind(name)] += 1


def _kind(name: bytes) -> str:
    origin, _, rest = name.partition(b":")
    if origin == b"sample":
        return rest.split(b":")[0].decode()
    return "the sale" if name.startswith(b"waitingroom:") or SALE in name else "odd names"


def functions(router: Router) -> list[bytes]:
    """Return name and code of each library on each primary; nothing where the server is too old for functions."""
    found: list[bytes] = []
    for shard in router.topology.shards:
        if shard.primary:
            reply: Reply = router.wire(shard.primary.address).pipeline([("FUNCTION", "LIST", "WITHCODE")])[0]
            if not isinstance(reply, ReplyError):
                # the order of a library's functions is each server's own
                told = (dict(zip(library[::2], library[1::2], strict=True)) for library in reply)
                found += [one[b"library_name"] + b"\n" + one[b"library_code"] for one in told]
    return sorted(found)


def key_count(router: Router) -> int:
    """Return `DBSIZE` of all primaries together."""
    primaries = [shard.primary for shard in router.topology.shards if shard.primary]
    return sum(int(router.wire(primary.address).call("DBSIZE")) for primary in primaries)
