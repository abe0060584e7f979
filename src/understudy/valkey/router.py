"""Send commands to whoever owns them, and follow the cluster while it changes."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from understudy.errors import UnreachableError
from understudy.valkey.discovery import detect_mode, discover
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import Topology
from understudy.valkey.wire import Command, Reply, ReplyError, Wire, pack

PATIENCE_S = 60.0  # how long nothing may move forward before we give up; a failover takes 2 to 15 s
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_MOST_REDIRECTIONS = 5
# answers that mean "not now" or "not here any more": ask again after a look at the topology
_WAIT = ("TRYAGAIN", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "BUSY ", "NOREPLICAS", "UNKILLABLE")
NOT_NOW = _WAIT
_ASKING = pack(("ASKING",))


Routed = tuple[int | None, Command | bytes]  # a slot (None: no key) and a command, which may be packed already


@dataclass
class Replies:
    """One reply a command, in order; `resent` holds the indices whose first try broke off half-way."""

    values: list[Reply]
    resent: set[int] = field(default_factory=set)


class Router:
    """Connections to every node of a target, and the map of who owns which slot.

    Not safe for threads; every worker has its own.
    """

    def __init__(self, target: Target, patience_s: float = PATIENCE_S) -> None:
        self.target = target if target.mode is not Mode.AUTO else target.with_mode(detect_mode(target))
        self.patience_s = patience_s
        self._wires: dict[Address, Wire] = {}
        self._owners: dict[int, Address] = {}
        self._primary: Address | None = None
        self.topology = self._look()

    def refresh(self) -> Topology:
        """Look at the topology again. Raises `UnreachableError` when nobody answers."""
        self.topology = self._look(tuple(node.address for node in self.topology.nodes))
        return self.topology

    def reachable_target(self) -> Target:
        """Return the target with every known node as a seed: the one that was asked first may be the one that dies."""
        if self.target.mode is not Mode.OSS_CLUSTER:
            return self.target
        return self.target.at(*dict.fromkeys((*self.target.seeds, *(node.address for node in self.topology.nodes))))

    def _look(self, known: tuple[Address, ...] = ()) -> Topology:
        topology = discover(self.target, known)
        shards = [shard for shard in topology.shards if shard.primary and shard.primary.healthy]
        self._primary = shards[0].primary.address if shards and shards[0].primary else None
        self._owners = {slot: shard.primary.address for shard in shards if shard.primary for slot in shard.slots}
        for address in set(self._wires) - {node.address for node in topology.nodes}:
            self.drop(address)
        return topology

    @property
    def primaries(self) -> list[Address]:
        """Return the primaries that serve, as far as we know."""
        return [shard.primary.address for shard in self.topology.shards if shard.primary and shard.primary.healthy]

    def owner(self, slot: int | None) -> Address | None:
        """Return who owns a slot, as far as we know; outside a cluster that is the one primary."""
        if self.target.mode is Mode.OSS_CLUSTER and slot is not None:
            return self._owners.get(slot)
        return self._primary

    def wire(self, address: Address) -> Wire:
        """Return the open connection to a node, opening it if need be."""
        wire = self._wires.get(address)
        if wire is None or wire.broken:
            self.drop(address)
            wire = self._wires[address] = Wire(address, self.target)
        return wire

    def drop(self, address: Address) -> None:
        """Forget a connection that broke, or whose replies we no longer want."""
        if wire := self._wires.pop(address, None):
            wire.close()

    def on_primaries(self, *command: bytes | str | int) -> list[Reply]:
        """Run one command on every primary, and return the replies, error replies as values.

        Broken connections are waited out, and then every primary of the new topology is asked: the command must be
        safe to repeat.

        Raises:
            UnreachableError: some primary was away for `patience_s` seconds.
        """
        give_up_at = time.monotonic() + self.patience_s
        while True:
            replies: list[Reply] = []
            try:
                for address in self.primaries:
                    replies += self.wire(address).pipeline([command])
                why = next(
                    (str(one) for one in replies if isinstance(one, ReplyError) and str(one).startswith(_WAIT)), ""
                )
            except UnreachableError as error:
                why = error.why
            if not why:
                return replies
            self._wait(give_up_at, _FIRST_PAUSE_S, why, 1)

    def execute(self, commands: Sequence[Routed]) -> Replies:
        """Run commands, each on the owner of its slot, in pipelines; return one reply each.

        MOVED and ASK are followed; TRYAGAIN, LOADING, CLUSTERDOWN and broken connections are waited out and the
        command is sent again, so commands must be safe to repeat. Other error replies are returned as values.

        Raises:
            UnreachableError: nothing moved forward for `patience_s` seconds.
        """
        replies = Replies([None] * len(commands))
        pending = list(range(len(commands)))
        asked: dict[int, Address] = {}
        pause_s = _FIRST_PAUSE_S
        give_up_at = time.monotonic() + self.patience_s
        redirections = 0
        while True:
            left, why = self._round(commands, pending, asked, replies)
            if not left:
                return replies
            if len(left) < len(pending):
                give_up_at, pause_s, redirections = time.monotonic() + self.patience_s, _FIRST_PAUSE_S, 0
            pending = left
            redirections += 1
            if not why and redirections > _MOST_REDIRECTIONS:
                why = "the nodes send us in circles"
            if why:  # something is wrong or on the move: give it a moment, then look again
                self._wait(give_up_at, pause_s, why, len(pending))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _wait(self, give_up_at: float, pause_s: float, why: str, pending: int) -> None:
        while True:
            if time.monotonic() + pause_s > give_up_at:
                raise UnreachableError(
                    f"running {pending} command(s) on {self.target}",
                    f"no progress for {self.patience_s:.0f} s ({why})",
                    "Is every shard served? `understudy status` and CLUSTER INFO tell.",
                )
            time.sleep(pause_s)
            try:
                self.refresh()
            except UnreachableError as error:
                why = error.why
            else:
                return

    def _round(
        self,
        commands: Sequence[Routed],
        pending: Sequence[int],
        asked: dict[int, Address],
        replies: Replies,
    ) -> tuple[list[int], str]:
        """Send everything pending once; return the indices to send again, and why we should wait, if we should."""
        groups: dict[Address, list[int]] = {}
        redirected = asked.copy()
        asked.clear()
        left: list[int] = []
        why = ""
        owners = self._owners if self.target.mode is Mode.OSS_CLUSTER else {}
        for index in pending:
            slot = commands[index][0]
            address = owners.get(slot) if owners and slot is not None else self._primary
            if redirected:
                address = redirected.get(index, address)
            if address is None:
                left.append(index)
                why = f"nobody serves slot {slot}"
            elif address in groups:
                groups[address].append(index)
            else:
                groups[address] = [index]
        sent: list[Address] = []
        for address, group in groups.items():
            try:
                self.wire(address).send(self._packed(commands, group, redirected))
                sent.append(address)
            except UnreachableError as error:
                why = error.why
                self.drop(address)
                left += group
                replies.resent.update(group)
        for address in sent:
            group = groups[address]
            got: list[Reply] = []
            try:
                # a command that was sent with ASKING has two replies, the first of which says nothing
                self._wires[address].read_into(got, len(group) + sum(at in redirected for at in group))
            except UnreachableError as error:
                why = error.why
                self.drop(address)
            if redirected:
                got = _without_asking(got, [at in redirected for at in group])
            if ReplyError not in set(map(type, got)):
                for index, reply in zip(group, got, strict=False):
                    replies.values[index] = reply
                left += group[len(got) :]
                replies.resent.update(group[len(got) :])
                continue
            for index, reply in zip(group, got, strict=False):
                if isinstance(reply, ReplyError) and (again := self._redirected(index, reply, address, asked)):
                    left.append(index)
                    why = why or ("" if again == "elsewhere" else again)
                else:
                    replies.values[index] = reply
            left += group[len(got) :]
            replies.resent.update(group[len(got) :])
        return left, why

    @staticmethod
    def _packed(commands: Sequence[Routed], group: list[int], asking: Container[int]) -> bytes:
        packed = [one if isinstance(one := commands[at][1], bytes) else pack(one) for at in group]
        if asking:
            packed = [_ASKING + one if at in asking else one for at, one in zip(group, packed, strict=True)]
        return b"".join(packed)

    def _redirected(self, index: int, reply: ReplyError, address: Address, asked: dict[int, Address]) -> str:
        """Return "" for a final answer, "elsewhere" when another node was named, else why to wait."""
        text = str(reply)
        word, _, rest = text.partition(" ")
        if word in ("MOVED", "ASK"):
            slot, _, place = rest.partition(" ")
            host, _, port = place.rpartition(":")
            other = Address(host or address.host, int(port))
            if word == "ASK":
                asked[index] = other
            elif self._owners.get(int(slot)) == other:
                return text  # the map says so already: two nodes disagree, wait for them
            else:
                self._owners[int(slot)] = other
            return "elsewhere"
        return text if text.startswith(_WAIT) else ""

    def close(self) -> None:
        """Close every connection."""
        for address in list(self._wires):
            self.drop(address)

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _without_asking(got: list[Reply], asking: list[bool]) -> list[Reply]:
    """Drop the replies to ASKING: one before each reply to a command that was sent with it."""
    replies = iter(got)
    kept: list[Reply] = []
    for was_asked in asking:
        try:
            if was_asked:
                next(replies)
            kept.append(next(replies))
        except StopIteration:
            break
    return kept
