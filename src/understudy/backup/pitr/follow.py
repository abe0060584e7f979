"""Follow one shard: a copy that keeps a journal, looked at twice a second's end, over failovers and lost connections.

Whoever reads this should know what `journal.py` says of exactness. Every look reads the copy's manifest, too: a base
that we did not ask for is that of a full resync, and begins a new stream.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from understudy.backup.pitr.generations import Generations, Rhythm
from understudy.backup.pitr.journal import (
    LAG_MS,
    LINES,
    Facts,
    PrimaryFacts,
    boundary_after,
    increment_path,
    read_manifest,
)
from understudy.backup.pitr.ledger import Ledger, Mark
from understudy.backup.pitr.meter import Meter, Troubles
from understudy.backup.replica.copies import Copy, attach
from understudy.errors import NotAuthorisedError, RefusedError, UnderstudyError, UnreachableError, out_of_room
from understudy.lab.scratch import Scratch, ScratchServer
from understudy.valkey.target import Address, Target
from understudy.valkey.wire import ReplyError, Wire

_ANSWERS_WITHIN_S = 1.0
_LOOK_EVERY_S = 0.01
_WRITTEN_WITHIN_S = 5.0  # a server that waits for its disk holds back what it would write for up to 2 s
_CLOCK_SET_MS = LAG_MS
_AHEAD_MS = 500
_UNCONNECTED_S = 5.0
_REFUSED_S = 1.0
_MOST_BACKOFF_S = 10.0
_AFTER_REFUSAL_S = 60.0  # each new copy costs the source a full synchronisation
_REFUSED = re.compile(r"NOAUTH|WRONGPASS|NOPERM|unable to AUTH", re.IGNORECASE)
_RIGHTS = (
    "Give the user of REDIS_USERNAME its rights: ACL SETUSER NAME +psync +replconf +ping +info +time (docs/archive.md)."
)
_RENAMED = (
    "A new base begins in a minute, with what it did. Renamed commands (rename-command), modules and databases from"
    " 10,000 on cannot be archived: use `understudy backup --engine scan` for them."
)


class Follower:
    """One shard's copy, in a thread of its own: `run` until `stop`. What it finds stands in the ledger.

    `has_room` tells whether so many bytes more may lie on this disk. `primary` is whom it is to follow: whoever looks
    after the topology sets it. `bug` is what ended it, where that was none of our errors.
    """

    def __init__(
        self,
        scratch: Scratch,
        target: Target,
        primary: Address,
        name: str,
        ledger: Ledger,
        meter: Meter,
        troubles: Troubles,
        rhythm: Rhythm,
        first_why: str,
        has_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.primary, self.name, self.ledger, self.meter = primary, name, ledger, meter
        self.suspect = False  # what it follows is no primary any more: look at the topology
        self.bug: BaseException | None = None
        self._scratch, self._target, self._troubles = scratch, target, troubles
        self._generations = Generations(ledger, troubles, rhythm, first_why, has_room)
        self._over = threading.Event()
        self._dropping: str | None = None
        self._copy: Copy | None = None
        self._copies = 0
        self._graves: list[ScratchServer] = []
        self._wire: Wire | None = None
        self._told_of_clock = False
        self._down_since: float | None = None
        self._forgiven = 0
        self._thread = threading.Thread(target=self._run, name=f"follow-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the second that it is looking at."""
        self._over.set()

    def join(self, within_s: float) -> None:
        """Wait for the end."""
        self._thread.join(within_s)

    def drop(self, why: str) -> None:
        """Give up what is not shipped, and begin anew with a base, as soon as the second is over."""
        self._dropping = why

    def request_base(self) -> None:
        """Have the next look begin a new base."""
        self._generations.requested = True

    @property
    def directories(self) -> list[Path]:
        """Return where its files lie."""
        servers = [*self._graves, *([self._copy.server] if self._copy else [])]
        return [server.directory for server in servers]

    def _run(self) -> None:
        backoff_s = 0.5
        try:
            while not self._over.is_set():
                try:
                    self._second(self._attached())
                except (UnderstudyError, OSError) as error:
                    told = out_of_room(error) if isinstance(error, OSError) else error
                    self.meter.connected = False
                    self._troubles.have("following", told)
                    self._close_wire()
                    self._over.wait(backoff_s)
                    backoff_s = min(_MOST_BACKOFF_S, backoff_s * 2)
                else:
                    backoff_s = 0.5
                    if self.meter.connected:
                        self._troubles.over("following")
        except BaseException as error:  # noqa: BLE001 - raised again by whoever started us
            self.bug = error
        finally:
            self._close_wire()
            if self._copy:
                self._copy.close()

    def _attached(self) -> Copy:
        if self._copy is not None and not self._copy.server.alive:
            self._bury("the copy's server ended")
        if self._copy is None:
            self._copies += 1
            self._copy = attach(self._scratch, self._target, self.primary, f"{self.name}-{self._copies}", LINES)
            self._generations.attached(self._copy)
            self._forgiven = 0
            self._down_since = time.monotonic()
        elif self._copy.primary != self.primary:
            self._copy.follow(self.primary)
            self._close_wire()
        self.meter.primary = str(self.primary)
        for server in list(self._graves):
            if not any(one.directory == server.directory for one in self.ledger.streams()):
                server.stop()
                self._graves.remove(server)
        return self._copy

    def _bury(self, why: str) -> None:
        """End a copy; its files stay until what is exact of them is shipped."""
        assert self._copy is not None  # noqa: S101
        self._generations.end(why)
        with contextlib.suppress(UnderstudyError):
            self._copy.wire.call("SHUTDOWN", "NOSAVE")
        self._copy.close()
        self._graves.append(self._copy.server)
        self._copy = None

    def _second(self, copy: Copy) -> None:
        """Look at one second's end."""
        began, began_wall = time.monotonic(), time.time()
        end_ms = boundary_after(began_wall * 1000)
        self._wait_until(end_ms - LAG_MS)
        exact = self._caught_up(copy, end_ms)
        self._wait_until(end_ms)
        set_ms = ((time.time() - began_wall) - (time.monotonic() - began)) * 1000
        if set_ms < -_CLOCK_SET_MS:  # the server writes no times again before its clock is where it was
            self._bury("the clock of this machine was set back")
            return
        self._look(copy, end_ms, exact and abs(set_ms) <= _CLOCK_SET_MS)

    def _wait_until(self, moment_ms: float) -> None:
        self._over.wait(max(0.0, moment_ms / 1000 - time.time()))

    def _caught_up(self, copy: Copy, end_ms: int) -> bool:
        """Tell whether the copy has, before the second is over, everything that its primary has now."""
        primary = self._ask_primary()
        first = True
        while not self._over.is_set():
            facts = _facts(copy)
            self._note_link(copy, facts.link_up)
            if primary is None or not primary.is_primary:
                return False
            behind = max(0, primary.offset - facts.offset) if facts.replid == primary.replid else primary.offset
            if first:
                self.meter.lag_bytes, first = behind, False
            if facts.at_ms >= end_ms:
                return False
            if facts.link_up and facts.replid == primary.replid and not behind:
                self.meter.lag_ms = max(0, int(facts.at_ms - (end_ms - LAG_MS)))
                return True
            if not facts.link_up:
                return False
            time.sleep(_LOOK_EVERY_S)
        return False

    def _ask_primary(self) -> PrimaryFacts | None:
        """Ask whom we follow how far it is; None where it does not say."""
        try:
            if self._wire is None or self._wire.broken or self._wire.address != self.primary:
                self._close_wire()
                self._wire = Wire(self.primary, self._target.at(self.primary), _ANSWERS_WITHIN_S)
            asked_ms = time.time() * 1000
            facts, moment = self._wire.pipeline([("INFO", "replication"), ("TIME",)])
        except UnreachableError as error:
            self.suspect = True
            self._troubles.have("its primary", error)
            self._close_wire()
            return None
        for reply in (facts, moment):
            if isinstance(reply, ReplyError):
                self._troubles.have("its primary", NotAuthorisedError(f"asking {self.primary}", str(reply), _RIGHTS))
                return None
        self._troubles.over("its primary")
        found = PrimaryFacts.from_replies(facts, moment, asked_ms, time.time() * 1000)
        self.suspect = not found.is_primary
        self.meter.ahead_ms = found.ahead_ms
        if abs(found.ahead_ms) > _AHEAD_MS and not self._told_of_clock:
            self._troubles.have(
                "clocks",
                f"that of {self.primary} is {found.ahead_ms / 1000:+.1f} s from ours; seconds are told by ours",
            )
        elif self._told_of_clock and abs(found.ahead_ms) <= _AHEAD_MS:
            self._troubles.over("clocks")
        self._told_of_clock = abs(found.ahead_ms) > _AHEAD_MS
        return found

    def _note_link(self, copy: Copy, up: bool) -> None:
        self.meter.connected = up
        if up:
            self._down_since = None
            return
        self._down_since = self._down_since or time.monotonic()
        down_s = time.monotonic() - self._down_since
        if down_s > _REFUSED_S:
            why = _why_not(copy)
            if down_s > _UNCONNECTED_S or isinstance(why, NotAuthorisedError):
                self._troubles.have("following", why)

    def _look(self, copy: Copy, end_ms: int, exact: bool) -> None:
        """Note up to where the journal reaches at the end of a second, and what became of its files."""
        directory = copy.server.directory
        give_up_at = time.monotonic() + _WRITTEN_WITHIN_S
        while True:
            facts = _facts(copy)
            if facts.at_ms < end_ms:
                time.sleep(max(0.0, (end_ms - facts.at_ms) / 1000))
                continue
            if facts.refusals != self._forgiven and not self._forgive(copy, facts):
                return
            manifest = read_manifest(directory)
            self._generations.note(facts, manifest, str(self.primary))
            counted = exact and self._generations.counts(facts, manifest)
            if not counted or self._written(copy, facts, give_up_at):
                break
            if time.monotonic() > give_up_at:
                return
        size = increment_path(directory, manifest.last).stat().st_size if manifest.last else 0
        if counted and read_manifest(directory) == manifest:
            self.ledger.mark(Mark(end_ms, manifest.last, size))
            self.meter.exact_ms = end_ms
        why, self._dropping = self._dropping, None
        if why is not None:
            self._generations.drop(why)
        else:
            self._generations.tend(facts, manifest, size, str(self.primary))

    def _forgive(self, copy: Copy, facts: Facts) -> bool:
        """See what a copy could not do; where that is more than a word of the cluster's, it is none any more."""
        why = copy.refused()
        if why is None:
            self._forgiven = facts.refusals
            return True
        self._bury(why)
        self.meter.connected = False
        self._troubles.have("following", RefusedError(f"archiving {copy.primary}", why, _RENAMED))
        self._over.wait(_AFTER_REFUSAL_S)
        return False

    def _written(self, copy: Copy, before: Facts, give_up_at: float) -> bool:
        """Wait until everything that the copy held back then is in its file; False where a new base came between."""
        facts = before
        while facts.written < before.written + before.buffered:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(_LOOK_EVERY_S)
            facts = _facts(copy)
            if not facts.counts_on_from(before):
                return False
        return True

    def _close_wire(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


def _why_not(copy: Copy) -> UnderstudyError:
    """Return why a copy does not follow: what it lacks a right for, or what it complained of last."""
    doing = f"following {copy.primary}"
    refused = [line for line in copy.said().splitlines() if _REFUSED.search(line)]
    if refused:
        return NotAuthorisedError(doing, re.split(r" [*#.-] ", refused[-1], maxsplit=1)[-1].strip(), _RIGHTS)
    return UnreachableError(doing, copy.trouble() or "the copy has no connection yet")


def _facts(copy: Copy) -> Facts:
    facts, moment = copy.wire.pipeline([("INFO", "replication", "persistence", "stats"), ("TIME",)])
    for reply in (facts, moment):
        if isinstance(reply, ReplyError):
            raise UnreachableError(f"asking the copy {copy.name}", str(reply))
    return Facts.from_replies(facts, moment)
