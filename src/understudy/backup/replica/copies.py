"""A copy: a scratch server that follows one primary as a replica does, with our rights and for as long as we need it.

It is no replica that anybody else should count on: it asks never to be promoted, and announces an address that is
none, so that no sentinel takes it for one of its own.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from understudy.backup.replica.tunnel import Tunnel
from understudy.errors import NotAuthorisedError, RefusedError, UnderstudyError, UnreachableError
from understudy.lab.complaint import complaint, said
from understudy.lab.scratch import Scratch, ScratchServer
from understudy.lab.servers.valkey import quoted
from understudy.progress import Progress, stage
from understudy.valkey.discovery import info, parse_info
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.wire import Reply, ReplyError, Wire, error_for, pack

ANNOUNCED = "understudy-copy"  # no IP address: a sentinel does not take such a replica up
_LOOK_EVERY_S = 0.02
_PATIENCE_S = 90.0  # without a byte; a diskless sync begins 5 s late by default, and a fork may take long
_MOST_SYNCS = 5
_WATCH_EVERY_S = 1.0
_IMPORTING = "clusterRDBLoadSlotImport"  # where a server that is no cluster dies: of a source with a slot on its way in
_REPORT = "BUG REPORT START"  # what follows tells of the server, not of what it was sent
_NO_ONE = pack(("REPLICAOF", "NO", "ONE"))
_STATS = (("INFO", "stats"), ("INFO", "commandstats"))
_COULD_NOT = re.compile(
    r"sending an error to its (?:master|primary): '(?P<why>.*?)(?:, with args .*)?' after processing the command"
    r" '(?P<command>[^']*)'"
)
# Of slots on their way: the bookkeeping of a cluster, which our copy is not. Their keys come and go as other commands.
_HARMLESS = ("cluster|syncslots", "cluster|setslot")
_SYNC_BEGAN = re.compile(r"Full resync from (?:master|primary)", re.IGNORECASE)
_COMPLAINT = re.compile(
    r"NOAUTH|WRONGPASS|NOPERM|unable to AUTH|error|can't handle|unexpected|refused|timeout|module|failed|aborted",
    re.IGNORECASE,
)
_NO_RIGHT = re.compile(r"NOAUTH|WRONGPASS|NOPERM|unable to AUTH", re.IGNORECASE)
_NEVER = re.compile(
    r"can't handle RDB format|RDB version|unknown command|unknown RDB|unknown type|module|not supported|corrupt",
    re.IGNORECASE,
)
ACL_HINT = "Give the user of REDIS_USERNAME what a replica needs: ACL SETUSER NAME +psync +replconf +ping."
_CUT_OFF_HINT = (
    "Is the source's client-output-buffer-limit for replicas large enough, and its repl-timeout? Its log says why it"
    " closed the connection. --engine scan needs neither."
)


class CutOffError(UnreachableError):
    """The source does not go on sending to a copy; a further try would end the same way."""


@dataclass(frozen=True)
class Sync:
    """How far a copy is.

    Attributes:
        link_up: it has everything up to `offset` and follows.
        offset: in the primary's stream, what it has applied.
        replid: which stream that is.
        syncing: a first copy of everything is on its way.
        left_bytes: of that; None where nobody knows (a source that sends without a file of its own).
        read_bytes: of that.
        role: `slave`, or `master` once it is detached.
    """

    link_up: bool
    offset: int
    replid: str
    syncing: bool
    left_bytes: int | None
    read_bytes: int = 0
    role: str = "slave"

    @classmethod
    def from_info(cls, facts: Mapping[str, str]) -> Sync:
        """Read `INFO replication` of a copy."""
        left = int(facts.get("master_sync_left_bytes", -1))
        syncing = facts.get("master_sync_in_progress") == "1"
        return cls(
            facts.get("master_link_status") == "up",
            int(facts.get("slave_repl_offset", facts.get("master_repl_offset", 0))),
            facts.get("master_replid", ""),
            syncing,
            left if syncing and left >= 0 else None,
            int(facts.get("master_sync_read_bytes", 0)),
            facts.get("role", ""),
        )


class Copy:
    """One of them; not safe for threads."""

    def __init__(self, server: ScratchServer, target: Target, primary: Address, secret: str) -> None:
        self.server, self.primary = server, primary
        self._target = target
        self._secret = secret
        self._tunnel: Tunnel | None = None
        self._wire: Wire | None = None
        self._log_from = 0

    @property
    def name(self) -> str:
        """Return its name among the copies."""
        return self.server.name

    @property
    def wire(self) -> Wire:
        """Return the connection over which it is asked and told; a new one where that broke."""
        if self._wire is None or self._wire.broken:
            plain = Target(self.server.target.seeds, Mode.STANDALONE, password=self.server.password)
            self._wire = Wire(self.server.address, plain)
        return self._wire

    def state(self) -> Sync:
        """Ask it how far it is. Raises `UnreachableError` where it has died."""
        return Sync.from_info(info(self.wire, "replication"))

    def refused(self) -> str | None:
        """Return what it could not do of what its primary did, in its words; None where it did everything.

        Its primary has commands of other names, of a module, of a cluster, or more databases: what such a command did
        there is missing here, though nothing else tells.
        """
        stats, commands = map(parse_info, self.wire.pipeline(_STATS))
        found = [re.search(r"failed_calls=(\d+)", commands.get(f"cmdstat_{name}", "")) for name in _HARMLESS]
        if int(stats.get("unexpected_error_replies", 0)) <= sum(int(one[1]) for one in found if one):
            return None
        lines = [line for line in _COULD_NOT.finditer(said(self.server.log)) if line["command"] not in _HARMLESS]
        why = lines[-1]["why"] if lines else "its log does not say which"
        why = why[:200] if why.isprintable() else repr(why[:200])
        return f"a replica of ours cannot do a command of {self.primary}: {why}"

    def follow(self, primary: Address) -> None:
        """Have it follow this primary: with what it missed where the primary still has that, else from the start."""
        self.unplug()
        self.primary = primary
        self._log_from = self.server.log.stat().st_size
        place = primary
        if self._target.tls is not None:
            self._tunnel = Tunnel(primary, self._target, self._secret)
            place = self._tunnel.address
        self.wire.call("REPLICAOF", place.host, place.port)

    def detach(self) -> None:
        """Have it follow nobody: from now on nothing of it changes."""
        self.begin_detach()
        self.end_detach()
        self.unplug()

    def begin_detach(self) -> None:
        """Tell it, and do not wait: several are told before the first one answers."""
        self.wire.send(_NO_ONE)

    def end_detach(self) -> None:
        """Wait until it is detached."""
        if isinstance(reply := self.wire.read(), ReplyError):
            raise error_for(self.server.address, ("REPLICAOF",), reply)

    def unplug(self) -> None:
        """End the relay of a copy that is detached; harmless to repeat."""
        if self._tunnel is not None:
            self._tunnel.close()
            self._tunnel = None

    def close(self) -> None:
        """Give connection and relay back; the server itself ends with its `Scratch`, or by `server.stop()`."""
        self.unplug()
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def said(self) -> str:
        """Return what it logged since it was told to follow, and no more than the last of it."""
        return said(self.server.log, self._log_from)

    def trouble(self) -> str:
        """Return why it does not follow, in its own words or the relay's; empty where neither complains."""
        lines = [
            re.split(r" [*#.-] ", line, maxsplit=1)[-1].strip() for line in self.said().split(_REPORT)[0].splitlines()
        ]
        relayed = self._tunnel.trouble if self._tunnel else ""
        return relayed or next((line for line in reversed(lines) if _complains(line)), "")


def attach(scratch: Scratch, target: Target, primary: Address, name: str, lines: Sequence[str] = ()) -> Copy:
    """Start a copy of this primary and have it follow; `await_in_sync` waits for it.

    `target` says how to get in; user and password stand in a file of the copy that only we can read, or, with TLS, in
    no file at all. `lines` are added to its configuration.

    Raises:
        UnreachableError, NotAuthorisedError: the primary does not answer us.
        StartError: the copy did not come up.
    """
    with Wire(primary, target.at(primary)) as wire:
        policy = _policy(wire.pipeline([("INFO", "memory")])[0])
    secret = secrets.token_hex(16)
    login = [f"masterauth {quoted(secret)}"]
    if target.tls is None:
        # without a masterauth it says nothing of who it is: a user that needs no password takes any
        password = "-" if target.username and target.password is None else target.password
        login = [f"masterauth {quoted(password)}"] if password is not None else []
        login += [f"masteruser {quoted(target.username)}"] if target.username else []
    server = scratch.server(
        name,
        lines=[
            *login,
            "replica-priority 0",
            "replica-announced no",
            f"replica-announce-ip {ANNOUNCED}",
            "repl-diskless-load on-empty-db",
            *([f"maxmemory-policy {policy}"] if policy else []),
            *lines,
        ],
    )
    copy = Copy(server, target, primary, secret)
    try:
        copy.follow(primary)
    except BaseException:
        copy.close()
        server.stop()
        raise
    return copy


def _complains(line: str) -> bool:
    """Tell whether a line is a complaint; an older primary that does not know a word of the greeting is none."""
    return bool(_COMPLAINT.search(line)) and ("Non critical" not in line or "NOPERM" in line)


def _policy(reply: Reply) -> str:
    """Return the source's eviction policy: idle time and frequency are only kept under one of the same kind."""
    return parse_info(reply).get("maxmemory_policy", "") if isinstance(reply, bytes) else ""


def await_in_sync(
    copies: Sequence[Copy],
    progress: Progress,
    patience_s: float = _PATIENCE_S,
    watch: Callable[[], object] = lambda: None,
) -> None:
    """Wait until every copy has everything and follows; `watch` is called each second, and may end it by raising.

    Raises:
        NotAuthorisedError: the primary does not let a replica in; `why` has its words.
        RefusedError: the copy cannot read what the primary sends.
        UnreachableError: it ended because slots came into the primary meanwhile; to be tried again.
        CutOffError: nothing came for `patience_s` seconds, or it was cut off again and again.
    """
    read = dict.fromkeys((copy.name for copy in copies), 0)
    moved_at = watched_at = time.monotonic()
    with stage(progress, "Copying the primaries", None, "bytes"):
        waiting = list(copies)
        while waiting:
            for copy in list(waiting):
                state = _state(copy)
                if state.link_up and not state.syncing:
                    waiting.remove(copy)
                    moved_at = time.monotonic()
                    continue
                if state.read_bytes != read[copy.name]:
                    moved_at = time.monotonic()
                progress.advance(max(0, state.read_bytes - read[copy.name]))
                read[copy.name] = state.read_bytes
                _raise_what_never_mends(copy)
            if waiting and time.monotonic() - moved_at > patience_s:
                why = waiting[0].trouble() or "it does not say why"
                raise CutOffError(
                    f"copying {waiting[0].primary}", f"nothing came for {patience_s:.0f} s: {why}", _CUT_OFF_HINT
                )
            if waiting and time.monotonic() - watched_at > _WATCH_EVERY_S:
                watch()
                watched_at = time.monotonic()
            progress.advance(0)
            time.sleep(_LOOK_EVERY_S if waiting else 0)


def _state(copy: Copy) -> Sync:
    try:
        return copy.state()
    except UnreachableError as error:
        if copy.server.alive:  # it is busy loading
            return Sync(False, 0, "", True, None)
        if _IMPORTING in copy.said():
            raise UnreachableError(
                f"copying {copy.primary}", f"{copy.primary} took slots in while it was copied"
            ) from error
        why = complaint(copy.server.log)
        raise RefusedError(
            f"copying {copy.primary}", f"the copy ended: {why}", "Use --engine scan, or look at this machine's memory."
        ) from error


def _raise_where_slots_came_in(copy: Copy) -> None:
    if _IMPORTING in copy.said():
        raise UnreachableError(f"copying {copy.primary}", f"{copy.primary} took slots in while it was copied")


def _raise_what_never_mends(copy: Copy) -> None:
    """Raise what no further try would change."""
    _raise_where_slots_came_in(copy)
    why = copy.trouble()
    if _NO_RIGHT.search(why):
        raise NotAuthorisedError(f"copying {copy.primary}", why, ACL_HINT)
    if _NEVER.search(why):
        raise _never(copy, why)
    if len(_SYNC_BEGAN.findall(copy.said())) > _MOST_SYNCS:
        last = copy.trouble() or "the primary closed the connection"
        raise CutOffError(f"copying {copy.primary}", f"it was cut off {_MOST_SYNCS} times: {last}", _CUT_OFF_HINT)


def _never(copy: Copy, why: str) -> UnderstudyError:
    return RefusedError(
        f"copying {copy.primary}", f"a replica of ours cannot follow it: {why}", "Use --engine scan, or --engine auto."
    )
