"""Hold the writes of several primaries for a moment that all of them share, and let them go.

`CLIENT PAUSE <bound> WRITE` ends by itself: nothing waits for us where we die. Everything is sent to all before
anything is read, so that the pause lasts as long as the slowest primary's answer, not as the sum of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from understudy.backup.replica.source import UnsettledError
from understudy.errors import NotAuthorisedError, UnderstudyError, UnreachableError
from understudy.valkey.discovery import parse_info
from understudy.valkey.wire import Command, Reply, ReplyError, Wire, error_for, pack

BOUND_MS = 1000
PAUSE_RIGHT = "To hold writes: ACL SETUSER NAME +client|pause +client|unpause; or use --no-pause."
_BOUND_WITHOUT_RELEASE_MS = 300
_SURELY_OVER_S = 0.05
# All that a primary writes into its stream while clients are held: a ping each second at most. No write is as short as
# one; two together are as long as `SET k vv`. Acknowledgements it asks for afterwards.
_PING_BYTES = 14


@dataclass(frozen=True)
class Position:
    """Where a primary's stream stood: its replication id and offset."""

    replid: str
    offset: int

    @classmethod
    def read(cls, wire: Wire, reply: Reply) -> Position:
        """Read INFO replication of a primary, or of a replica that passes the same stream on."""
        if isinstance(reply, ReplyError):
            raise error_for(wire.address, ("INFO", "replication"), reply)
        facts = parse_info(reply)
        return cls(facts["master_replid"], int(facts["master_repl_offset"]))


def positions(wires: Sequence[Wire]) -> list[Position]:
    """Return where each stream stands now."""
    packed = pack(("INFO", "replication"))
    for wire in wires:
        wire.send(packed)
    return [Position.read(wire, wire.read()) for wire in wires]


def may_release(wires: Sequence[Wire]) -> bool:
    """Tell whether a pause of ours may be ended: CLIENT UNPAUSE ends everybody's, so nobody else may hold writes.

    Valkey tells it since 8.1. Elsewhere a script that does nothing is run: it waits where writes wait. Who may not run
    one cannot know, and gets False.

    Raises:
        UnsettledError: somebody holds them.
    """
    for wire in wires:
        wire.send(pack(("INFO", "clients")))
    reasons = {wire: _facts(wire.read()).get("paused_reason") for wire in wires}
    silent = [wire for wire, reason in reasons.items() if reason is None]
    for wire in silent:
        wire.send(pack(("EVAL", "return 1", 0)))
    answers = []
    for wire in silent:
        try:
            answers.append(wire.read())
        except UnreachableError:
            reasons[wire] = "a script waits there, as writes do"
    for wire, reason in reasons.items():
        if reason not in (None, "none"):
            raise UnsettledError(f"asking {wire.address}", f"the clients of {wire.address} are held already ({reason})")
    return all(answer == 1 for answer in answers)


def _facts(reply: Reply) -> dict[str, str]:
    return {} if isinstance(reply, ReplyError) else parse_info(reply)


@dataclass
class Pause:
    """Writes are held while the block runs; what was found out stands here afterwards.

    `releases` is off for servers before Redis 7.0, where CLIENT UNPAUSE would also end the pause of a manual failover
    under way, and lose writes, and where nobody knows whether others hold them (`may_release`): there the pause is
    shorter, and runs out.

    Attributes:
        at: where each stream stood while writes were held, by address.
        held_ms: for how long at most, by address: from before we asked until it answered that they go on.
    """

    wires: Sequence[Wire]
    releases: bool = True
    at: dict[Wire, Position] = field(default_factory=dict)
    held_ms: dict[Wire, float] = field(default_factory=dict)
    _asked_at: dict[Wire, float] = field(default_factory=dict)
    _owed: dict[Wire, int] = field(default_factory=dict)  # replies that were not read yet
    _after: dict[Wire, list[Reply]] = field(default_factory=dict)

    @property
    def bound_s(self) -> float:
        """Return after how many seconds it ends by itself."""
        return (BOUND_MS if self.releases else _BOUND_WITHOUT_RELEASE_MS) / 1000

    @property
    def age_s(self) -> float:
        """Return how long ago the first primary was asked."""
        return time.monotonic() - min(self._asked_at.values())

    def __enter__(self) -> Pause:
        try:
            self._hold()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _hold(self) -> None:
        packed = pack(("CLIENT", "PAUSE", int(self.bound_s * 1000), "WRITE")) + pack(("INFO", "replication"))
        for wire in self.wires:
            self._asked_at[wire] = time.monotonic()
            wire.send(packed)
            self._owed[wire] = 2
        for wire in self.wires:
            held, facts = self._read(wire), self._read(wire)
            if isinstance(held, ReplyError):
                raise _not_let(wire, ("CLIENT PAUSE",), held)
            self.at[wire] = Position.read(wire, facts)
            if parse_info(facts).get("role") != "master":
                raise UnsettledError(f"asking {wire.address}", f"{wire.address} is no primary any more")

    def _read(self, wire: Wire) -> Reply:
        reply = wire.read()
        self._owed[wire] -= 1
        return reply

    def _release(self) -> None:
        """Let writes go on everywhere, also where an answer never came; ask first how it went, in the same packet."""
        commands: list[Command] = [("INFO", "replication"), ("INFO", "clients")]
        commands += [("CLIENT", "UNPAUSE")] if self.releases else []
        packed = b"".join(map(pack, commands))
        for wire in self._asked_at:
            late = wire.broken
            with contextlib.suppress(UnreachableError):
                wire.send(packed)
                self._owed[wire] = -1 if late else self._owed[wire] + len(commands)
        for wire, asked_at in self._asked_at.items():
            if wire.broken or self._owed.get(wire, -1) < 0:
                continue
            with contextlib.suppress(UnreachableError):
                replies = [self._read(wire) for _ in range(self._owed[wire])]
                self._after[wire] = replies[-len(commands) :]
                self.held_ms[wire] = (time.monotonic() - asked_at) * 1000 if self.releases else self.bound_s * 1000

    def run_out(self) -> None:
        """Wait until a pause is over that we do not end: a look would take it for somebody else's."""
        if not self.releases:
            time.sleep(max(0.0, self.bound_s - self.age_s) + _SURELY_OVER_S)

    def refute(self) -> str:
        """Return, when it is over, why it may not have held throughout; empty where it did.

        Raises:
            NotAuthorisedError: we may hold writes, and not let them go on.
        """
        for wire, before in self.at.items():
            replies = self._after.get(wire)
            if replies is None:
                return f"{wire.address} did not answer any more"
            problem = _refuted(wire, before, replies)
            if problem:
                return problem
        return ""

    def end(self, wire: Wire) -> int:
        """Return the offset of a primary's stream when writes went on."""
        return Position.read(wire, self._after[wire][0]).offset


def _refuted(wire: Wire, before: Position, replies: Sequence[Reply]) -> str:
    facts, clients, *released = replies
    if isinstance(facts, ReplyError) or isinstance(clients, ReplyError):
        return f"{wire.address} did not say whether it held writes to the end"
    if released and isinstance(released[0], ReplyError):
        raise _not_let(wire, ("CLIENT UNPAUSE",), released[0])
    after: Mapping[str, str] = parse_info(facts)
    if after.get("role") != "master" or after.get("master_replid") != before.replid:
        return f"{wire.address} is no primary any more, or of another stream"
    if not only_chatter(int(after["master_repl_offset"]) - before.offset):
        return f"{wire.address} took writes while they were to be held"
    held = parse_info(clients)
    if "paused_reason" in held and held["paused_reason"] == "none":
        return f"{wire.address} ended the pause before we did"
    return ""


def _not_let(wire: Wire, command: Command, reply: ReplyError) -> UnderstudyError:
    error = error_for(wire.address, command, reply)
    if isinstance(error, NotAuthorisedError):
        error.hint = PAUSE_RIGHT
    return error


def only_chatter(grown_bytes: int) -> bool:
    """Tell whether a stream has grown by a ping at most; who is wrong about two of them tries again."""
    return grown_bytes in (0, _PING_BYTES)
