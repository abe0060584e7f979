"""The cut: copies of all primaries, detached at one instant of the whole stack.

Why no effect stands in it without its cause. Say that a client saw `c` acknowledged on one primary and then sent `e`
to another. Every primary held its writes from P to U, two moments of its own, and the last P came before the first U:
the time from the first request to the last detachment was less than the bound of each pause, and afterwards each said
that it still held (where it can say so: Valkey 8.1), its stream grown by nothing but pings. Each copy was detached
between its primary's P and U, at an offset that the primary told after P; so it holds what was written before P, all of
it and nothing else. If `e` is in its copy, then `e` came before its own P, hence before every U; `c` came before `e`,
hence before its own U, and, as nothing is written from P to U, before its own P. So `c` is in its copy.

That takes for granted that the primaries that were held were all there were. Everybody is asked, before and after
(`source.py`): a replica that is promoted needs the votes of most primaries, and each that votes raises its epoch
first. So where no epoch has moved, no slot and no role, nobody else took a write for these slots before the last P.
Whatever else is found, that attempt is abandoned, said and repeated. What a source itself loses (a write acknowledged
by a primary that died before its replica had it) is in no cut.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from understudy.backup.frozen import Frozen
from understudy.backup.replica.copies import Copy, CutOffError, Sync, attach, await_in_sync
from understudy.backup.replica.pause import Pause, Position, may_release, positions
from understudy.backup.replica.source import MIGRATIONS, Primary, Source, Standing, UnsettledError, migrations
from understudy.errors import IncompleteError, RefusedError, UnreachableError
from understudy.lab.scratch import Scratch
from understudy.lab.servers.valkey import version_of
from understudy.pages.figures import count
from understudy.progress import Progress
from understudy.valkey.discovery import parse_info
from understudy.valkey.router import Router
from understudy.valkey.target import Address, Mode
from understudy.valkey.wire import Wire, pack

ATTEMPTS = 10
PATIENCE_S = 60.0  # for a source that is on the move
_FIRST_REST_S, _LONGEST_REST_S = 0.05, 2.0
_CATCHES_UP_WITHIN_S = 30.0
_OF_THE_BOUND = 0.6  # by then the copies must have caught up, or writes go on
_SURE = 0.9  # of the bound: two clocks do not run alike
_POLL_S = 0.0002
_INFO = pack(("INFO", "replication"))


@dataclass(frozen=True)
class Detached:
    """One shard of a cut: where in which primary's stream, when, and for how long at most its writes were held."""

    primary: Primary
    position: Position
    at: datetime
    paused_ms: float

    def as_data(self) -> dict[str, Any]:
        """Return it as the metadata of a set has it."""
        return {
            "node": str(self.primary.address),
            "replid": self.position.replid,
            "offset": self.position.offset,
            "instant": self.at.isoformat(timespec="milliseconds"),
            "paused_ms": round(self.paused_ms, 3),
        }


@dataclass(frozen=True)
class Cut:
    """Copies that stand still. `abandoned` says why each attempt before it was not published."""

    copies: tuple[Copy, ...]
    shards: tuple[Detached, ...]
    server: tuple[str, str]
    one_instant: bool
    abandoned: tuple[str, ...]

    @property
    def paused_ms(self) -> float:
        """Return the longest time that a primary held its writes, at most."""
        return max(shard.paused_ms for shard in self.shards)

    @property
    def frozen(self) -> list[Frozen]:
        """Return them as `read_frozen` takes them."""
        return [
            Frozen(copy.server.target, shard.primary.slots)
            for copy, shard in zip(self.copies, self.shards, strict=True)
        ]

    def as_data(self) -> dict[str, Any]:
        """Return it as the metadata of a set has it."""
        return {
            "instant": max(shard.at for shard in self.shards).isoformat(timespec="milliseconds"),
            "one_instant": self.one_instant,
            "paused_ms": round(self.paused_ms, 3),
            "shards": [shard.as_data() for shard in self.shards],
            "abandoned": list(self.abandoned),
        }


@contextlib.contextmanager
def cut(
    router: Router,
    folder: Path,
    progress: Progress,
    *,
    pause: bool = True,
    attempts: int = ATTEMPTS,
    patience_s: float = PATIENCE_S,
    in_sync: Callable[[], object] = lambda: None,
) -> Iterator[Cut]:
    """Give frozen copies of every primary, which end with the block; `folder` is where they live meanwhile.

    Without `pause` (and where there is one primary only) nothing is held: each copy stands at an instant of its own.
    `in_sync` is called whenever all copies follow, right before the source is looked at for the last time.

    Raises:
        IncompleteError: every attempt was abandoned; `items` says why each.
        NotAuthorisedError, RefusedError: a primary does not let us, or sends what our server cannot read.
    """
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(Scratch(folder))
        source = Source(router)
        stack.callback(source.close)
        maker = _Maker(scratch, source, progress, pause, in_sync)
        stack.callback(maker.close)
        yield maker.make(attempts, patience_s)


@dataclass
class _Maker:
    """Copies by the address of their primary, and the attempts that were made with them."""

    scratch: Scratch
    source: Source
    progress: Progress
    pause: bool
    in_sync: Callable[[], object]
    abandoned: list[str] = field(default_factory=list)
    _copies: dict[Address, Copy] = field(default_factory=dict)
    _following: dict[Address, Primary] = field(default_factory=dict)
    _made: int = 0

    def make(self, attempts: int, patience_s: float) -> Cut:
        """Look, attach what is not attached, and try, until one attempt holds."""
        settled_at, rest_s, said = time.monotonic(), _FIRST_REST_S, ""
        while True:
            try:
                standing = self.source.look()
            except (UnsettledError, UnreachableError) as error:
                if error.why != said:
                    said = error.why
                    self.progress.say(f"Waiting for the source to come to rest: {said}.")
                if time.monotonic() - settled_at > patience_s:
                    raise self._given_up(error.why) from error
                time.sleep(rest_s)
                rest_s = min(rest_s * 2, _LONGEST_REST_S)
                continue
            settled_at, rest_s, said = time.monotonic(), _FIRST_REST_S, ""
            try:
                if self._attach(standing):
                    settled_at = time.monotonic()
                    continue  # that took a while: look again
                return self._attempt(standing)
            except CutOffError:
                raise
            except (UnsettledError, UnreachableError) as error:
                self.abandoned.append(error.why)
                if len(self.abandoned) >= attempts:
                    raise self._given_up(error.why) from error
                self.progress.say(f"Cut abandoned: {error.why}. Trying again.")
            self._drop_what_does_not_follow()
            time.sleep(_FIRST_REST_S)

    def _given_up(self, why: str) -> IncompleteError:
        tries = count(len(self.abandoned), "attempt")
        return IncompleteError(
            f"making a cut of {self.source.target}", f"{tries} abandoned; the last word: {why}",
            "Try again when the source has come to rest, or use --engine scan.", list(dict.fromkeys(self.abandoned)),
        )  # fmt: skip

    def _attach(self, standing: Standing) -> bool:
        """Have a copy of every primary, and only of those; return whether there is a new one."""
        wanted = {primary.address: primary for primary in standing.primaries}
        for address, was in list(self._following.items()):
            now = wanted.get(address)
            # not its stream's name: a primary that never had a replica gives it a new one at the first
            if now is None or now.run_id != was.run_id:
                self._drop(address)
        missing = [primary for primary in standing.primaries if primary.address not in self._copies]
        for primary in missing:
            self._made += 1
            copy = attach(self.scratch, self.source.target, primary.address, f"copy-{self._made:03d}")
            self._copies[primary.address], self._following[primary.address] = copy, primary
        if missing:
            await_in_sync(list(self._copies.values()), self.progress, watch=lambda: self._still_worth_it(standing))
        return bool(missing)

    def _still_worth_it(self, standing: Standing) -> None:
        """Raise where a primary that is being copied is none any more; what else moves can wait until all is copied."""
        try:
            now = {(one.address, one.run_id) for one in self.source.look().primaries}
        except (UnsettledError, UnreachableError):
            return  # on the move; what it comes to is seen when it has come to rest
        for one in standing.primaries:
            if (one.address, one.run_id) not in now:
                raise UnsettledError(f"copying {one.address}", f"{one.address} is no primary any more")

    def _attempt(self, before: Standing) -> Cut:
        copies = [self._copies[primary.address] for primary in before.primaries]
        target = self.source.target
        paused = self.pause and len(copies) > 1
        if paused:
            _refuse_without_write_pause(before)
        with contextlib.ExitStack() as stack:
            held = Pause([], version_of(before.server[1]) >= (7, 0))
            held.wires = [
                stack.enter_context(Wire(one.address, target.at(one.address), held.bound_s / 2))
                for one in before.primaries
            ]
            for wire, copy in zip(held.wires, copies, strict=True):
                _await_reached([copy], positions([wire]), _CATCHES_UP_WITHIN_S)
            self.in_sync()
            shards = self._together(before, copies, held) if paused else self._one_by_one(before, copies, held.wires)
        if changed := before.changed_to(self.source.look()):
            raise UnsettledError("looking at the source after the cut", changed)
        return Cut(tuple(copies), tuple(shards), before.server, paused or len(copies) == 1, tuple(self.abandoned))

    def _together(self, before: Standing, copies: Sequence[Copy], held: Pause) -> list[Detached]:
        if self.source.target.mode is Mode.OSS_CLUSTER:
            _refuse_moving(held.wires)
        held.releases = held.releases and may_release(held.wires)
        with held:
            now = datetime.now(UTC)
            stood = [held.at[wire] for wire in held.wires]
            _await_reached(copies, stood, held.bound_s * _OF_THE_BOUND - held.age_s)
            for copy in copies:
                copy.begin_detach()
            for copy in copies:
                copy.end_detach()
            age_s = held.age_s
        for copy in copies:
            copy.unplug()
        if age_s > held.bound_s * _SURE:
            raise UnsettledError(
                "detaching the copies", f"it took {age_s * 1000:.0f} ms, and the pause may have ended before"
            )
        if refuted := held.refute():
            raise UnsettledError("looking back at the pause", refuted)
        shards = []
        for primary, copy, wire in zip(before.primaries, copies, held.wires, strict=True):
            position = held.at[wire]
            _check(copy, position, primary, held.end(wire))
            shards.append(Detached(primary, position, now, held.held_ms[wire]))
        held.run_out()
        return shards

    @staticmethod
    def _one_by_one(before: Standing, copies: Sequence[Copy], wires: Sequence[Wire]) -> list[Detached]:
        shards = []
        for primary, copy, wire in zip(before.primaries, copies, wires, strict=True):
            _await_reached([copy], positions([wire]), _CATCHES_UP_WITHIN_S)
            now = datetime.now(UTC)
            copy.detach()
            shards.append(Detached(primary, _check(copy, Position(primary.replid, 0), primary), now, 0.0))
        return shards

    def _drop_what_does_not_follow(self) -> None:
        for address, copy in list(self._copies.items()):
            try:
                state = copy.state()
            except UnreachableError:
                self._drop(address)
            else:
                if state.role != "slave" or not state.link_up:
                    self._drop(address)

    def _drop(self, address: Address) -> None:
        self._following.pop(address, None)
        if copy := self._copies.pop(address, None):
            copy.close()
            copy.server.stop()

    def close(self) -> None:
        """Give the copies' connections back; their servers end with the scratch."""
        for copy in self._copies.values():
            copy.close()


def _refuse_without_write_pause(standing: Standing) -> None:
    name, version = standing.server
    if name == "redis" and version_of(version) < (6, 2):
        raise RefusedError(
            "making a cut", f"Redis {version} cannot hold writes alone (CLIENT PAUSE … WRITE came with 6.2)",
            "Use --no-pause: an instant of its own for each shard.",
        )  # fmt: skip


def _refuse_moving(wires: Sequence[Wire]) -> None:
    """Look once more, right before writes are held: Valkey 9.1 dies where an import fails while its clients are paused.

    Raises:
        UnsettledError: slots are on the move.
    """
    packed = pack(MIGRATIONS)
    for wire in wires:
        wire.send(packed)
    moving = [line for wire in wires for line in migrations(wire.read(), wire.address)]
    if moving:
        raise UnsettledError("looking at the source before the pause", moving[0])


def _await_reached(copies: Sequence[Copy], stood: Sequence[Position], within_s: float) -> None:
    """Wait until every copy has applied its primary's stream up to there.

    Raises:
        UnsettledError: one of them did not get there in time, or follows another stream.
    """
    give_up_at = time.monotonic() + within_s
    waiting = list(zip(copies, stood, strict=True))
    while True:
        for copy, _ in waiting:
            copy.wire.send(_INFO)
        states = [(copy, position, Sync.from_info(parse_info(copy.wire.read()))) for copy, position in waiting]
        for copy, position, state in states:
            if state.link_up and state.replid != position.replid:
                raise UnsettledError(
                    f"comparing {copy.primary}", f"the copy of {copy.primary} follows another stream than it"
                )
        waiting = [(one, at) for one, at, state in states if not (state.link_up and state.offset >= at.offset)]
        if not waiting:
            return
        if time.monotonic() > give_up_at:
            copy, position, state = next(row for row in states if row[0] is waiting[0][0])
            behind = f"{position.offset - state.offset:,} bytes behind" if state.link_up else "not connected"
            raise UnsettledError(f"waiting for the copy of {copy.primary}", f"the copy of {copy.primary} was {behind}")
        time.sleep(_POLL_S)


def _check(copy: Copy, position: Position, primary: Primary, end: int | None = None) -> Position:
    """Return where a detached copy stands in its primary's stream: it says so itself.

    Raises:
        UnsettledError: it stands in another stream, before `position`, or after `end`.
        RefusedError: it could not do what its primary did, and so does not hold what that holds.
    """
    if why := copy.refused():
        raise RefusedError(f"copying {primary.address}", why, "Use --engine scan, or --engine auto.")
    facts = parse_info(copy.wire.call("INFO", "replication"))
    stands = Position(facts.get("master_replid2", ""), int(facts.get("second_repl_offset", 0)) - 1)
    if (
        facts.get("role") != "master"
        or stands.replid != position.replid
        or stands.offset < position.offset
        or (end is not None and stands.offset > end)
    ):
        raise UnsettledError(
            f"checking the copy of {primary.address}", f"the copy of {primary.address} was not detached there"
        )
    return stands
