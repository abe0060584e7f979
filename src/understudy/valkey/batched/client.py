"""A client for a server of HTTP requests: one or two commands each, thousands at once, and a deadline for everyone."""

from __future__ import annotations

import asyncio
import time

from understudy.errors import UnderstudyError, UnreachableError, UsageError
from understudy.valkey.batched.call import Call, Lost, RoutedCall
from understudy.valkey.batched.commit import AcknowledgedCall, UnacknowledgedError, no_wait
from understudy.valkey.batched.node import Node
from understudy.valkey.batched.routing import Routing, too_many
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.wire import Command, Reply, ReplyError, error_for, pack

_AGAIN_AFTER_S = 0.05
_KEYS_TRIED = 2000
_HINT = "Is every shard served? `understudy status` and CLUSTER INFO tell."


class BatchedClient:
    """Runs commands of many concurrent callers on a standalone server, under sentinels, on a cluster or behind a proxy.

    What is asked in one turn of the event loop goes to each node in one write. A command is sent again when its fate is
    not known (a broken connection, a silent server) or a server says "not now" or "not here", until the time of the
    caller is up: commands must be safe to repeat. Deadlines are kept to within `connection.TICK_S`.

    `most_pending` commands may wait for a reply; more are refused at once. `ack_connections` are kept to each node for
    commands that replicas must acknowledge. Belongs to one event loop.
    """

    def __init__(self, target: Target, *, most_pending: int = 20_000, ack_connections: int = 4) -> None:
        self._target = target
        self._most_pending = most_pending
        self._ack_connections = ack_connections
        self._pending = 0
        self._routing: Routing | None = None

    async def start(self) -> None:
        """Begin to connect, in the background: a server that does not answer is no error here.

        Raises:
            UsageError: the TLS certificates cannot be read.
        """
        self._loop = asyncio.get_running_loop()
        self._routing = Routing(self._target, self._most_pending, self._ack_connections)

    async def close(self) -> None:
        """End every connection; callers that still wait get `UnreachableError`."""
        if self._routing:
            await self._routing.close()

    async def execute(self, command: Command, key: str | None, *, within_s: float, acknowledged_by: int = 0) -> Reply:
        """Run a command on the owner of a key (None: on any primary) and return its reply.

        With `acknowledged_by` the reply counts, and is returned, once so many replicas have what it rests on.

        Raises:
            UnreachableError: nobody answered `within_s`, or too many wait already.
            UnacknowledgedError: the primary answered, and too few replicas have it.
            NotAuthorisedError: the server refused who we are.
            ServerSaidError: any other error reply; `why` is its text.
            UsageError: a proxy cannot have replicas acknowledge, and nobody can without a key.
        """
        if self._pending >= self._most_pending:
            raise too_many(self._target)
        routing, future = self._started(), self._loop.create_future()
        deadline_s = self._loop.time() + within_s
        call: RoutedCall
        if acknowledged_by:
            call = self._acknowledged(routing, command, key, future, deadline_s, acknowledged_by)
        else:
            slot = None if key is None else key_slot(key.encode())
            call = RoutedCall(pack(command), future, deadline_s, slot, routing)
        self._pending += 1
        try:
            routing.route(call)
            reply = await future
        finally:
            self._pending -= 1
        if isinstance(reply, Lost | ReplyError | UnderstudyError):
            raise self._error(call, command, reply, within_s)
        return reply

    def _started(self) -> Routing:
        if self._routing is None:
            raise RuntimeError("start the client first")
        return self._routing

    def _owner(self, key: str) -> Node | None:
        return self._routing.by_slot[key_slot(key.encode())] if self._routing else None

    def _acknowledged(
        self,
        routing: Routing,
        command: Command,
        key: str | None,
        future: asyncio.Future[Reply],
        deadline_s: float,
        wanted: int,
    ) -> AcknowledgedCall:
        if self.mode is Mode.ENTERPRISE:
            raise no_wait(wanted)
        if key is None:
            raise UsageError(f"having replicas acknowledge {command[0]!s}", "it has no key", "Name the key.")
        return AcknowledgedCall(pack(command), future, deadline_s, routing, key.encode(), wanted)

    def _error(
        self, call: RoutedCall, command: Command, reply: Lost | ReplyError | UnderstudyError, within_s: float
    ) -> UnderstudyError:
        if isinstance(reply, ReplyError):
            return error_for(call.by or self._target.seeds[0], command, reply)
        if isinstance(reply, UnderstudyError):
            return type(reply)(reply.doing, reply.why, reply.hint)  # one for each caller, with its own traceback
        doing, after = f"running {command[0]!s} on {self._target}", f"within {within_s:g} s"
        if isinstance(call, AcknowledgedCall) and call.acknowledged is not None:
            return UnacknowledgedError(
                doing, f"{call.acknowledged} of {call.wanted} replicas acknowledged it {after}",
                "Are the replicas up and in sync? INFO replication tells.",
            )  # fmt: skip
        return UnreachableError(doing, f"no answer {after}{f' ({reply.why})' if reply.why else ''}", _HINT)

    async def on_primaries(self, command: Command, *, within_s: float) -> dict[Address, Reply]:
        """Run a command once on every primary and return their replies, error replies included as values.

        A proxy is asked once: whom it passes the command on to is its own affair.

        Raises:
            UnreachableError: some primary did not answer in time.
        """
        routing = self._started()
        deadline_s = self._loop.time() + within_s
        replies: dict[Address, Reply] = {}
        why = "no primary is known yet"
        while self._loop.time() < deadline_s:
            if refusal := routing.watch.refusal:
                why = refusal.why
            nodes = {node.address: node for node in routing.primaries}
            left = [node for address, node in nodes.items() if address not in replies]
            if nodes and not left:
                return {address: replies[address] for address in nodes}
            calls: dict[Address, Call] = {}
            for node in left:
                if node.connection:
                    calls[node.address] = Call(pack(command), self._loop.create_future(), deadline_s)
                    node.connection.send(calls[node.address])
                else:
                    why = node.trouble.why if node.trouble else f"{node.address} is not connected"
            for address, call in calls.items():
                reply = await call.future
                if isinstance(reply, Lost):
                    why = reply.why
                elif isinstance(reply, ReplyError) and routing.passing(str(reply)):
                    why = str(reply)
                else:
                    replies[address] = reply
            if not set(nodes) <= set(replies) or not nodes:
                await asyncio.sleep(_AGAIN_AFTER_S)
        raise UnreachableError(f"running {command[0]!s} on every primary of {self._target}", why, _HINT)

    def keys_on_primaries(self, prefix: str) -> list[str]:
        """Return keys that begin so, one on each primary that owns more than a few slots; one where none is known."""
        routing = self._started()
        left, found = set(routing.primaries), []
        for number in range(_KEYS_TRIED):
            if not left:
                break
            key = f"{prefix}{number}"
            owner = routing.by_slot[key_slot(key.encode())]
            if owner in left:
                left.remove(owner)
                found.append(key)
        return found or [f"{prefix}0"]

    def now_ms(self, key: str) -> int:
        """Return the time on the server that owns a key, in milliseconds since the epoch, without asking it.

        Our own clock's where no server has told its time: before the first connection, and behind a proxy.
        """
        node = self._owner(key)
        return node.clock.now_ms() if node else time.time_ns() // 1_000_000

    @property
    def mode(self) -> Mode:
        """Return how the servers are reached; `auto` until one has answered what it is."""
        return self._routing.mode if self._routing else self._target.mode

    @property
    def reachable(self) -> bool:
        """Return whether every key could be reached now: each slot has an owner, and the connection to it is up."""
        return self._routing is not None and self._routing.reachable

    def reachable_for(self, key: str) -> bool:
        """Return whether the connection to a key's owner is up now."""
        node = self._owner(key)
        return node is not None and node.connection is not None
