"""Ask a target what it reads and what it can hold: each of its primaries, for clusters of mixed versions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.backup.anywhere.values import SCRATCH_LINES
from understudy.errors import IntegrityError, UnderstudyError
from understudy.valkey.abilities import Abilities, abilities_of
from understudy.valkey.discovery import server_version
from understudy.valkey.payload import newest_readable, rdb_version, written_by
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot, name_in_slot
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import Reply, ReplyError, Wire

_ASKED_BEHIND_A_PROXY = range(0, SLOTS, 64)  # it hides how many servers there are: these slots are asked
_REFUSES = "version or checksum"


@dataclass(frozen=True)
class Holder:
    """One primary: what it is (`redis 6.2.14`), the RDB versions that it refuses, and what it can hold."""

    server: str
    newest: int | None
    refuses: frozenset[int]
    abilities: Abilities

    def as_data(self) -> dict[str, Any]:
        """Return plain data, for a worker."""
        return {
            "server": self.server,
            "newest": self.newest,
            "refuses": sorted(self.refuses),
            "abilities": self.abilities.as_data(),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Holder:
        """Read what `as_data` wrote."""
        return cls(data["server"], data["newest"], frozenset(data["refuses"]), Abilities.from_data(data["abilities"]))


class Owners:
    """Who holds which key: every primary that was asked, and those that became primaries since."""

    def __init__(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        self._holders = {address: Holder.from_data(data) for address, data in found.items()}
        self._refused = frozenset[int]().union(*(one.refuses for one in self._holders.values()))

    def of(self, router: Router, key: bytes) -> Holder:
        """Return who is to hold a key; one that was no primary before is asked."""
        slot = key_slot(key)
        address = router.owner(slot) or router.target.seeds[0]
        if str(address) not in self._holders:
            self._holders[str(address)] = _holder_at(router, address, (slot,), {}, always=True)
        return self._holders[str(address)]

    def refuse(self, router: Router, key: bytes, payload: bytes) -> bool:
        """Tell whether the key's owner is known to refuse its payload."""
        version = rdb_version(payload)
        return version in self._refused and version in self.of(router, key).refuses


def holders(router: Router, samples: Mapping[int, bytes]) -> dict[str, Holder]:
    """Return every primary by its address. `samples` is one payload of each RDB version in the set."""
    found = {}
    for shard in router.topology.shards:
        if shard.primary is not None:
            slots: Sequence[int] = (min(shard.slots, default=0),)
            if router.target.mode is Mode.ENTERPRISE:
                slots = _ASKED_BEHIND_A_PROXY
            found[str(shard.primary.address)] = _holder_at(router, shard.primary.address, slots, samples)
    return found


def _holder_at(
    router: Router, address: Address, slots: Sequence[int], samples: Mapping[int, bytes], always: bool = False
) -> Holder:
    """Ask one primary, or a proxy at so many slots: it is as able as the least able behind it.

    A payload is offered with an expiry long past: it is read in full, and no key is made. What a server can hold is
    asked only where it refuses one (or `always`).
    """
    wire = router.wire(address)
    names = [name_in_slot()[slot] for slot in slots]
    refuses = frozenset(
        number
        for number, payload in samples.items()
        if any(map(_refused, wire.pipeline([("RESTORE", name, 1, payload, "ABSTTL") for name in names])))
    )
    if not refuses and not always:
        return Holder("", None, refuses, Abilities())
    server, version = server_version(wire)
    able = abilities_of(address, wire.pipeline, names)
    return Holder(f"{server} {version}", newest_readable(server, version), refuses, able)


def _refused(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and _REFUSES in str(reply)


class Readers:
    """A scratch server that reads payloads for servers which do not; started when it is first needed.

    Each worker has a database of it to itself.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._target: Target | None = None
        self._is = ""

    def target(self, database: int = 0) -> Target:
        """Return how to reach it.

        Raises:
            NotFoundError: no server is installed that could be started.
        """
        if self._target is None:
            from understudy.lab.scratch import Scratch  # noqa: PLC0415 - the lab is an extra

            scratch = self._stack.enter_context(Scratch())
            self._target = scratch.server("values", lines=SCRATCH_LINES).target
            self._is = str(scratch.binary)
        return replace(self._target, db=database)

    def check(self, samples: Mapping[int, bytes], found: Mapping[str, Holder]) -> None:
        """Make sure that it reads what the target refuses.

        Raises:
            IntegrityError: it does not, or cannot be started: these keys cannot be brought to this target.
        """
        for address, holder in found.items():
            for version in sorted(holder.refuses):
                doing = f"restoring to {holder.server} at {address}"
                why = (
                    f"the set's payloads are of RDB version {version} (written by {written_by(version)}), "
                    f"and this server reads up to {holder.newest or 'an older one'}"
                )
                try:
                    reader = self.target()
                except UnderstudyError as error:
                    raise IntegrityError(
                        doing, f"{why}; a server that reads them could build the keys anew, but {error.why}",
                        error.hint or "Restore to a server at least as new as the one that was backed up.",
                    ) from error  # fmt: skip
                if not self._reads(reader, samples[version]):
                    raise IntegrityError(
                        doing, f"{why}; nor does {self._is} read them, which would build the keys anew",
                        "Name the server that wrote them, or a newer one of its kind, in UNDERSTUDY_SERVER; or restore "
                        "to a server at least as new as the one that was backed up.",
                    )  # fmt: skip

    @staticmethod
    def _reads(reader: Target, payload: bytes) -> bool:
        with Wire(reader.seeds[0], reader) as wire:
            reply, _ = wire.pipeline([("RESTORE", "sample", 0, payload, "REPLACE"), ("FLUSHDB",)])
        return not _refused(reply)

    def close(self) -> None:
        """End the scratch server, if it was started."""
        self._stack.close()
        self._target = None
