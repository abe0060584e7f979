"""The bases of one copy, one after the other: which stream a base begins, and when it is time for a new one.

A base that we asked for continues the stream before it. Any other is that of a full resync, and nothing leads up to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from understudy.backup.pitr.journal import Facts, Manifest, base_path, increment_path, read_manifest
from understudy.backup.pitr.ledger import Ledger, Local
from understudy.backup.pitr.meter import Troubles
from understudy.backup.pitr.stream import stream_id
from understudy.backup.replica.copies import Copy

_EMPTY_BASE = "appendonly.aof.1.base.rdb"  # what a server begins with, before it has anything
_AGAIN_S = 60.0
_LEAST_COMPACTED_BYTES = 64 << 20
RESYNC = "a full resync of the copy"


@dataclass(frozen=True)
class Rhythm:
    """When a stream gets a new base: after so long, or when its increments are twice the base and 64 MiB."""

    base_every_s: float
    least_compacted_bytes: int = _LEAST_COMPACTED_BYTES

    def due(self, age_s: float, base_bytes: int, increment_bytes: int) -> bool:
        """Tell whether it is time."""
        large = increment_bytes > max(2 * base_bytes, self.least_compacted_bytes)
        return age_s >= self.base_every_s or large


class Generations:
    """Notes in the ledger what becomes of one copy's base and increments. Used by one thread.

    `has_room` tells whether so many bytes more may lie on this disk; `requested` asks for a new base out of turn.
    """

    def __init__(
        self,
        ledger: Ledger,
        troubles: Troubles,
        rhythm: Rhythm,
        first_why: str,
        has_room: Callable[[int], bool],
    ) -> None:
        self.requested = False
        self._ledger, self._troubles, self._rhythm, self._has_room = ledger, troubles, rhythm, has_room
        self._why = first_why
        self._copy: Copy | None = None
        self._current: Local | None = None
        self._successor: Local | None = None
        self._base, self._base_bytes, self._based_at, self._rewrites = _EMPTY_BASE, 0, 0.0, 0
        self._not_before = 0.0

    @property
    def copy(self) -> Copy:
        """Return the copy that is looked after."""
        assert self._copy is not None  # noqa: S101
        return self._copy

    def attached(self, copy: Copy) -> None:
        """Begin with a new copy, which has nothing yet."""
        self._copy, self._base, self._rewrites = copy, _EMPTY_BASE, 0

    def end(self, why: str) -> None:
        """End every stream: the copy is no more."""
        self._forget_successor()
        self._ledger.end(why)
        self._current, self._why = None, why

    def counts(self, facts: Facts, manifest: Manifest) -> bool:
        """Tell whether what the copy has is in the files that we know of."""
        if facts.writes_fail:
            self._troubles.have("the copy's disk", "the copy cannot write its journal: is the disk full?")
            return False
        self._troubles.over("the copy's disk")
        return (
            self._current is not None
            and manifest.base == self._base
            and facts.rewrites == self._rewrites
            and (not facts.rewriting or self._successor is not None)
        )

    def note(self, facts: Facts, manifest: Manifest, primary: str) -> None:
        """See whether a base or an increment is new."""
        if not manifest.base:
            return
        directory = self.copy.server.directory
        if manifest.base != self._base:
            successor = self._successor
            if successor and manifest.increments[:1] == (min(successor.starts),):
                successor.base, self._current, self._successor = base_path(directory, manifest.base), successor, None
            else:
                self._begin(facts, manifest, primary)
            self._base, self._rewrites = manifest.base, facts.rewrites
            self._base_bytes = base_path(directory, manifest.base).stat().st_size
            self._based_at = time.monotonic()
        elif self._successor is not None and not facts.rewriting:
            self._forget_successor()
            self._not_before = time.monotonic() + _AGAIN_S
            self._troubles.have(
                "a new base", "the copy could not write it; its log says why. The old one still counts."
            )

    def _begin(self, facts: Facts, manifest: Manifest, primary: str) -> None:
        """Begin a stream with a base that a synchronisation brought."""
        self._forget_successor()
        self._ledger.end(self._why)
        starts, size = {}, 0
        for number in manifest.increments:
            starts[number] = size
            size += increment_path(self.copy.server.directory, number).stat().st_size
        stream = self._stream(facts, starts, primary)
        stream.base, stream.gap_why = base_path(self.copy.server.directory, manifest.base), self._why
        self._ledger.begin(stream)
        self._current, self._why = stream, RESYNC
        self._troubles.over("room")

    def _stream(self, facts: Facts, starts: dict[int, int], primary: str) -> Local:
        """Return a stream that begins now."""
        begins_ms = int(time.time() * 1000)
        begins_ms += begins_ms % 1000 == 0  # the end of a second is vouched for by a look, not by a base
        return Local(
            stream_id(begins_ms), self.copy.server.directory, begins_ms, primary, facts.replid, facts.offset, starts
        )

    def _forget_successor(self) -> None:
        if self._successor is not None:
            self._ledger.end("its base was never written", [self._successor])
            self._successor = None

    def tend(self, facts: Facts, manifest: Manifest, size: int, primary: str) -> None:
        """Remove what is not needed, and have a new base begun when it is time."""
        for path in self._ledger.unneeded():
            path.unlink(missing_ok=True)
        current = self._current
        if current is None or self._successor is not None or not current.published or facts.rewriting:
            return
        increments = current.starts.get(manifest.last, 0) + size
        age_s = time.monotonic() - self._based_at
        backlog_ms = (current.until_ms or 0) - (current.shipped.at_ms or 0)
        due = self.requested or self._rhythm.due(age_s, self._base_bytes, increments)
        if not due or time.monotonic() < self._not_before:
            return
        if backlog_ms > _AGAIN_S * 1000:  # the repository is away: a base more would only take room
            return
        if not self._has_room(self._base_bytes * 2):
            self._troubles.have("a new base", "there is no room for it (ARCHIVE_MOST_DISK, or the disk)")
            self._not_before = time.monotonic() + _AGAIN_S
            return
        self.requested = False
        self._rewrite(facts, manifest, current, primary)

    def _rewrite(self, facts: Facts, manifest: Manifest, current: Local, primary: str) -> None:
        """Have the copy write a new base; the stream goes on meanwhile, in the increment that begins with it."""
        directory = self.copy.server.directory
        self.copy.wire.call("BGREWRITEAOF")
        self._rewrites = facts.rewrites + 1
        now = read_manifest(directory)
        at_work = now.base == manifest.base and now.increments == (*manifest.increments, manifest.last + 1)
        done = now.base != manifest.base and now.increments == (manifest.last + 1,)
        if not at_work and not done:  # a full resync came between: the next look begins a stream with it
            self._not_before = time.monotonic() + _AGAIN_S
            self._troubles.have("a new base", "the copy did not begin to write one")
            return
        self._troubles.over("a new base")
        before = increment_path(directory, manifest.last).stat().st_size
        self._ledger.grew(now.last, manifest.last, before)
        self._successor = self._stream(facts, {now.last: 0}, primary)
        self._successor.previous = current.id
        self._ledger.begin(self._successor)

    def drop(self, why: str) -> None:
        """Let go of the journal, and begin a new one with what the copy holds now."""
        self.copy.wire.call("CONFIG", "SET", "appendonly", "no")
        self._forget_successor()
        self._ledger.drop(why)
        self._current, self._why = None, why
        manifest = read_manifest(self.copy.server.directory)
        base_path(self.copy.server.directory, manifest.base).unlink(missing_ok=True)
        for path in self._ledger.unneeded():
            path.unlink(missing_ok=True)
        self.copy.wire.call("CONFIG", "SET", "appendonly", "yes")
        self._troubles.have("room", f"{why}: what was not shipped is given up, and a new base begins")
