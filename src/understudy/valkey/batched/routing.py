"""Which node a call goes to, and what becomes of one that was not answered: sent elsewhere, or again, or later."""

from __future__ import annotations

import asyncio

from understudy.errors import UnreachableError
from understudy.valkey.batched.call import Lost, RoutedCall
from understudy.valkey.batched.commit import AcknowledgedCall, no_wait
from understudy.valkey.batched.connection import TICK_S
from understudy.valkey.batched.greeting import Door
from understudy.valkey.batched.node import Node
from understudy.valkey.batched.watch import Watch
from understudy.valkey.router import NOT_NOW
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import SLOTS
from understudy.valkey.wire import ReplyError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.25
_UNTIL_RELEASED = float("inf")  # until another server owns something, or a connection comes up
_MOST_HOPS = 5  # redirections followed at once; then a pause, for the nodes disagree
_LANES = 8  # a proxy answers in order: one stopped shard must not hold up all the others
# what a proxy says when a server did not answer it: nobody knows whether it did what was asked
_PROXY_SAID = ("upstream failure", "no upstream host", "upstream protocol error", "MOVED", "ASK")
_NOT_NOW = (*NOT_NOW, "UNBLOCKED")


class Routing:
    """The nodes of a target, the map from slots to them, and the calls that wait for better times."""

    def __init__(self, target: Target, most_pending: int, ack_connections: int) -> None:
        self.by_slot: list[Node | None] = [None] * SLOTS
        self.primaries: list[Node] = []
        self._target = target
        self._most_pending = most_pending
        self._ack_connections = ack_connections
        self._whole = False
        self._loop = asyncio.get_running_loop()
        self._nodes: dict[tuple[Address, int], Node] = {}
        self._leaving: list[Node] = []
        self._parked: list[RoutedCall] = []
        self._released = False
        self._closed = False
        self._door = Door(target)
        self._primaries_door = Door(target, primaries_only=True)
        self.watch = Watch(target, self._door, self._connected, self._remap)
        self._remap()
        self._timer = self._loop.call_later(TICK_S, self._tick)

    @property
    def mode(self) -> Mode:
        """Return the mode; `auto` until a server answered."""
        return self.watch.mode

    @property
    def reachable(self) -> bool:
        """Return whether each slot has an owner, and all of them are connected."""
        return self._whole and all(node.connection for node in self.primaries)

    def route(self, call: RoutedCall) -> None:
        """Send a call to the owner of its slot, or keep it until there is one."""
        node = self._node_for(call)
        connection = node.connection if node else None
        if node is None or connection is None:
            self._park(call, node)
        elif isinstance(call, AcknowledgedCall):
            if self.mode is Mode.ENTERPRISE:
                call.settle(no_wait(call.wanted))
            else:
                node.commit(call)
        elif len(connection.unanswered) < self._most_pending:  # callers who gave up are not counted elsewhere
            connection.send(call)
        else:
            call.settle(too_many(self._target))

    def _node_for(self, call: RoutedCall) -> Node | None:
        asked, call.asked = call.asked, None
        call.asking = asked is not None
        if asked:
            return self._node(asked)
        if call.slot is not None:
            return self.by_slot[call.slot]
        return next((node for node in self.primaries if node.connection), self.primaries[0] if self.primaries else None)

    def _park(self, call: RoutedCall, node: Node | None) -> None:
        trouble = node.trouble if node else self.watch.refusal
        if self._closed:
            call.settle(Lost("the client was closed"))
            return
        if trouble and not trouble.retryable:
            call.settle(trouble)
            return
        if trouble:
            call.why = trouble.why
        elif not call.why:
            call.why = f"{node.address} is not connected yet" if node else "no primary is known yet"
        call.again_at_s = _UNTIL_RELEASED
        self.watch.trouble()
        self._parked.append(call)

    def refused(self, call: RoutedCall, reply: ReplyError, by: Address) -> None:
        """Follow a redirection, wait out what passes, and let the caller have every other error."""
        text = str(reply)
        word, _, rest = text.partition(" ")
        if word in ("MOVED", "ASK") and self.mode is Mode.OSS_CLUSTER:
            slot, _, place = rest.partition(" ")
            host, _, port = place.rpartition(":")
            other = Address(host or by.host, int(port))
            self.watch.trouble()
            if word == "ASK":
                call.asked = other
            elif self.watch.cluster.owners.moved(int(slot), by, other):
                self._take(int(slot), other)
            call.hops += 1
            if call.hops % _MOST_HOPS:
                self.route(call)
            else:
                self._later(call, text)
        elif self.passing(text):
            if word == "READONLY" and self.mode is Mode.SENTINEL and (node := self._nodes.get((by, 0))):
                node.drop(f"{by} is no primary any more")
            self._later(call, text)
        else:
            call.by = by
            call.settle(reply)

    def passing(self, text: str) -> bool:
        """Return whether an error reply means "not now": the same command may succeed a little later."""
        return text.startswith(_NOT_NOW) or (self.mode is Mode.ENTERPRISE and text.startswith(_PROXY_SAID))

    def again(self, call: RoutedCall, why: str) -> None:
        """Send a call again after a pause that grows."""
        self._later(call, why)

    def _later(self, call: RoutedCall, why: str) -> None:
        if call.future.done():
            return
        call.why = why
        call.again_at_s = self._loop.time() + call.pause_s
        self._parked.append(call)
        self.watch.trouble()
        if not call.pause_s:
            self._release()
        call.pause_s = min(max(call.pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)

    def _release(self) -> None:
        if not self._released and not self._closed:
            self._released = True
            self._loop.call_soon(self._send_parked)

    def _send_parked(self) -> None:
        everyone, self._released = self._released, False
        now_s = self._loop.time()
        parked, self._parked = self._parked, []
        for call in parked:
            call.expire(now_s)
            if call.future.done():
                continue
            if call.again_at_s <= now_s or (everyone and call.again_at_s == _UNTIL_RELEASED):
                self.route(call)
            else:
                self._parked.append(call)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        now_s = self._loop.time()
        nodes = [*self._nodes.values(), *self._leaving]
        for node in nodes:
            node.tick(now_s)
        self._leaving = [node for node in self._leaving if not node.ended]
        if not self.primaries or any(node.connection is None for node in self._nodes.values()):
            self.watch.trouble()
        self.watch.tick()
        if self._parked:
            self._send_parked()

    def _connected(self) -> set[Address]:
        return {address for (address, _), node in self._nodes.items() if node.connection}

    def _node(self, address: Address, lane: int = 0) -> Node:
        node = self._nodes.get((address, lane))
        if node is None:
            single = self.mode is Mode.SENTINEL
            node = self._nodes[address, lane] = Node(
                self._primaries_door if single else self._door,
                address,
                self._release,
                self.watch.confirm if single else _nothing,
                tells_time=self.mode is not Mode.ENTERPRISE,
                ack_connections=self._ack_connections,
            )
        return node

    def _take(self, slot: int, address: Address) -> None:
        """Have one slot go to another node, ahead of the next look."""
        node = self.by_slot[slot] = self._node(address)
        if node not in self.primaries:
            self.primaries.append(node)
        self._release()

    def _remap(self) -> None:
        """Take over what the watch knows, and leave the nodes that own nothing any more."""
        owners = self.watch.owners
        if self.mode is Mode.ENTERPRISE:
            lanes = [self._node(owners[0], lane) for lane in range(_LANES) if owners[0]]
            self.by_slot = [lanes[slot * _LANES // SLOTS] for slot in range(SLOTS)]
            self.primaries = lanes[:1]
        else:
            nodes = {owner: self._node(owner) for owner in dict.fromkeys(owners) if owner}
            found = [nodes[owner] if owner else None for owner in owners]
            self.by_slot = found if len(found) == SLOTS else found * SLOTS
            self.primaries = list(nodes.values())
            for key in [key for key in self._nodes if key[0] not in nodes]:
                node = self._nodes.pop(key)
                self._leaving.append(node)
                # what a primary that the sentinels replaced says counts for nothing: it is asked of the new one
                node.leave(at_once=self.mode is Mode.SENTINEL)
        self._whole = None not in self.by_slot
        self._release()

    async def close(self) -> None:
        """End everything; whoever still waits is told."""
        self._closed = True
        self._timer.cancel()
        nodes = [*self._nodes.values(), *self._leaving]
        await asyncio.gather(self.watch.close(), *(node.close() for node in nodes))
        for call in self._parked:
            call.settle(Lost("the client was closed"))


async def _nothing() -> None:
    """In a cluster a node that is no primary any more says so itself."""


def too_many(target: Target) -> UnreachableError:
    """Return the error for a caller whom we cannot even let wait."""
    return UnreachableError(f"running a command on {target}", "too many requests wait for the server", "Try again.")
