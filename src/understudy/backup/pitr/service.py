"""`understudy archive`: every shard followed and shipped, for as long as it runs.

One loop looks at the topology each second, gives new shards a follower and a shipper, tells followers of a new
primary, and keeps an eye on the disk. What can take long (the repository) is done by other threads.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from understudy import __version__
from understudy.backup.encryption import Lock
from understudy.backup.pitr.follow import Follower
from understudy.backup.pitr.generations import Rhythm
from understudy.backup.pitr.journal import held_bytes
from understudy.backup.pitr.keeper import Keeper
from understudy.backup.pitr.lease import Lease
from understudy.backup.pitr.ledger import Ledger
from understudy.backup.pitr.meter import Meter, Say, Troubles
from understudy.backup.pitr.objects import Objects
from understudy.backup.pitr.retention import archived_before, survey
from understudy.backup.pitr.shards import Seen, matched, told
from understudy.backup.pitr.ship import About, Shipper
from understudy.backup.pitr.stream import DEFAULT_NAME, root_of
from understudy.errors import IncompleteError, UnderstudyError, UnreachableError, UsageError
from understudy.lab.scratch import DATABASES, Scratch
from understudy.valkey.discovery import discover
from understudy.valkey.target import Mode, Target
from understudy.valkey.topology import Shard, Topology
from understudy.valkey.wire import Wire

_LOOK_EVERY_S = 1.0
_GONE_AFTER_LOOKS = 5
_MOST_AHEAD_MS = 3_600_000
_LEAST_FREE_BYTES = 256 << 20  # a disk that is full stops others, too; docs/archive.md says so
_ENDS_WITHIN_S = 20.0
_TELLS_WITHIN_S = 2.0
RESTARTED = "the archiver was restarted"


@dataclass(frozen=True)
class Plan:
    """What was asked for; times in seconds, sizes in bytes."""

    name: str | None
    profile: str
    every_s: float
    keep_days: float
    base_every_s: float
    most_disk_bytes: int
    lock: Lock | None = None


@dataclass
class Archived:
    """One shard that is archived."""

    seen: Seen
    follower: Follower
    shipper: Shipper
    ledger: Ledger
    meter: Meter
    troubles: Troubles
    looked_ms: int
    missing_looks: int = 0
    ending: bool = field(default=False)


class Service:
    """Archives a target; `run` does until `stopped` is set.

    Raises (from `run`):
        UsageError: the target is reached in a way that hides its shards.
        RefusedError: somebody else writes this archive.
        UnreachableError, NotAuthorisedError: target or repository cannot be reached at the start.
        IncompleteError: what was archived last could not be shipped at the end.
    """

    def __init__(self, target: Target, objects: Objects, plan: Plan, say: Say) -> None:
        if target.mode is Mode.ENTERPRISE:
            raise UsageError(
                f"archiving {target}", "behind one endpoint for all shards no replica can be attached to any of them",
                "Use the product's own backups, or `understudy backup --engine scan`.",
            )  # fmt: skip
        self.target, self.objects, self.plan, self.say = target, objects, plan, say
        self.root = root_of(plan.name, plan.profile)
        self.stopped = threading.Event()
        self._shards: dict[str, Archived] = {}
        self._ended: list[Meter] = []
        self._numbers = 0
        self._meter = Meter("")
        self._troubles = Troubles(self._meter, say, "archive")
        self._looked: Topology | None = None

    @property
    def meters(self) -> list[Meter]:
        """Return what is known of each shard; last, of what concerns none."""
        return [*(one.meter for one in list(self._shards.values())), *self._ended, self._meter]

    @property
    def shards(self) -> list[str]:
        """Return the shards that are archived just now."""
        return [name for name, one in list(self._shards.items()) if not one.ending]

    def run(self, folder: Path, tick: Callable[[], None] = lambda: None) -> None:
        """Archive until `stopped`; copies lie in `folder`. `tick` is called each second."""
        topology = discover(self.target)
        with ExitStack() as stack:
            lease = Lease(self.objects, self.root)
            lease.take()
            stack.callback(self._quietly, lease.release)
            self._before = survey(self.objects, self.root)
            self._scratch = stack.enter_context(Scratch(folder))
            self._work = self._scratch.directory / "work"
            self._work.mkdir(mode=0o700)
            keeper = Keeper(
                self.objects,
                self.root,
                lease,
                self.plan.keep_days,
                self._before,
                self._live,
                self._healthy,
                self._troubles,
            )
            stack.enter_context(keeper)
            stack.enter_context(self._ending())
            self._note(topology, int(time.time() * 1000))
            while not self.stopped.wait(_LOOK_EVERY_S):
                self._look()
                if not self._work.is_dir():
                    raise UnreachableError(
                        f"keeping copies in {folder}", "that directory is gone",
                        "Start it again: it makes a new one, and a gap stands from what was shipped last.",
                    )  # fmt: skip
                self._watch_disk()
                for one in self._shards.values():
                    why, one.shipper.lost = one.shipper.lost, None
                    if why:
                        one.follower.drop(why)
                for bug in (keeper.bug, *(one.follower.bug or one.shipper.bug for one in self._shards.values())):
                    if bug is not None:
                        raise bug
                tick()

    def _look(self) -> None:
        """Look at the topology; where it cannot be seen, everything goes on as it was."""
        at_ms = int(time.time() * 1000)
        known = [*(node.address for node in self._looked.nodes)] if self._looked else []
        try:
            topology = discover(self.target, known)
        except UnderstudyError as error:
            self._troubles.have("the topology", error)
            return
        self._troubles.over("the topology")
        self._note(topology, at_ms)

    def _note(self, topology: Topology, at_ms: int) -> None:
        """Give each shard its follower, and note what it serves."""
        self._looked = topology
        clustered = topology.mode is Mode.OSS_CLUSTER
        shards = [self._own_view(shard) if clustered else shard for shard in topology.shards]
        now = [seen for shard in shards if (seen := Seen.from_shard(shard, clustered))]
        kept, new, gone = matched({name: one.seen for name, one in self._shards.items() if not one.ending}, now)
        for name, seen in kept.items():
            one = self._shards[name]
            for slots in told(one.seen, one.looked_ms, seen, at_ms):
                one.ledger.serves(slots)
            if seen.primary != one.follower.primary:
                self.say(f"{name}: its primary is {seen.primary} now.")
                one.follower.primary = seen.primary
            one.seen, one.looked_ms, one.ledger.looked_ms, one.missing_looks = seen, at_ms, at_ms, 0
        for seen in new:
            self._begin(seen, at_ms)
        for name in gone:
            one = self._shards[name]
            one.missing_looks += 1  # one in the middle of a failover comes back
            if one.missing_looks >= _GONE_AFTER_LOOKS and len(self.shards) > 1:
                self.say(f"{name}: there is no such shard any more.")
                self._end(one, "the shard was removed")
        self._bury()

    def _own_view(self, shard: Shard) -> Shard:
        """Return a shard as its own primary sees it, which knows first what comes and goes."""
        if shard.primary is None:
            return shard
        address = shard.primary.address
        try:
            with Wire(address, self.target.at(address), _TELLS_WITHIN_S) as wire:
                lines = wire.call("CLUSTER", "NODES").decode().splitlines()
        except UnderstudyError:
            return shard  # what the others see of it
        own = "\n".join(line for line in lines if "myself" in line.split(" ")[2])
        mine = Topology.from_cluster_nodes(own, address).shards
        if not mine or mine[0].primary is None:  # it serves nothing, or is a replica now
            return shard
        found = mine[0]
        return Shard(shard.primary, shard.replicas, found.slots, found.migrating, found.importing)

    def _begin(self, seen: Seen, at_ms: int) -> None:
        self._numbers += 1
        name = f"shard-{self._numbers}"
        ledger, meter = Ledger(), Meter(name, str(seen.primary))
        troubles = Troubles(meter, self.say, name)
        for slots in told(None, at_ms, seen, at_ms):
            ledger.serves(slots)
        ledger.looked_ms = at_ms
        follower = Follower(
            self._scratch, self.target, seen.primary, name, ledger, meter, troubles,
            Rhythm(self.plan.base_every_s), RESTARTED, self._has_room,
        )  # fmt: skip
        about = About(
            self.plan.name or DEFAULT_NAME, self.plan.profile, str(self.target.mode), str(self._scratch.binary),
            DATABASES, f"understudy {__version__}",
        )  # fmt: skip
        work = self._work / name
        work.mkdir(mode=0o700)
        shipper = Shipper(
            self.objects, self.root, about, self.plan.lock, self.plan.every_s, ledger, work, meter, troubles,
            archived_before(self._before, seen.slots),
        )  # fmt: skip
        self._shards[name] = Archived(seen, follower, shipper, ledger, meter, troubles, at_ms)
        self.say(f"{name}: archiving {seen.primary}.")
        follower.start()
        shipper.start()

    def _end(self, one: Archived, why: str) -> None:
        one.ending = True
        one.follower.stop()
        one.ledger.end(why)
        one.shipper.stop()

    def _bury(self) -> None:
        """Forget shards that have ended."""
        for name, one in list(self._shards.items()):
            if one.ending and one.shipper.join(0):
                one.follower.join(_ENDS_WITHIN_S)
                del self._shards[name]
                self._ended.append(one.meter)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Ship once more at the end, whatever it is."""
        try:
            yield
        finally:
            for one in self._shards.values():
                one.follower.stop()
            for one in self._shards.values():
                one.follower.join(_ENDS_WITHIN_S)
            self._look()  # so that it is known who served what up to now
            for one in self._shards.values():
                one.shipper.stop()
            give_up_at = time.monotonic() + _ENDS_WITHIN_S
            late = [
                one for one in self._shards.values() if not one.shipper.join(max(0.1, give_up_at - time.monotonic()))
            ]
            failed = [one for one in self._shards.values() if one in late or one.shipper.unshipped]
            left = [f"{one.meter.shard}: {one.shipper.unshipped or 'no answer in time'}" for one in failed]
            empty = [one for one in self._shards.values() if one.meter.shipped_ms is None and one.troubles.any]
            never = [f"{one.meter.shard}: {one.troubles.any[-1]}" for one in empty]
        if left:
            raise IncompleteError(
                f"shipping to {self.objects.where} at the end",
                "what was archived last is not there, and is a gap",
                "Is the repository reachable? `understudy list` shows what can be restored.", left,
            )  # fmt: skip
        if never:
            raise IncompleteError(
                f"archiving {self.target}", "of some shards nothing was archived",
                "Mend that, then start it again; what it needs is in docs/archive.md.", never,
            )  # fmt: skip

    def _live(self) -> set[str]:
        return {stream.id for one in list(self._shards.values()) for stream in one.ledger.streams()}

    def _healthy(self) -> bool:
        """Tell whether every shard is archived just now, by a clock that its primary has, too.

        One that is days ahead would have everything deleted as too old.
        """
        shards = list(self._shards.values())
        if any(abs(one.meter.ahead_ms) > _MOST_AHEAD_MS for one in shards):
            return False
        recent_ms = (time.time() - 60 - 2 * self.plan.every_s) * 1000
        return bool(shards) and all((one.meter.shipped_ms or 0) >= recent_ms for one in shards)

    def _held(self) -> int:
        total = 0
        for name, one in list(self._shards.items()):
            one.meter.held_bytes = sum(map(held_bytes, [*one.follower.directories, self._work / name]))
            total += one.meter.held_bytes
        return total

    def _has_room(self, more_bytes: int) -> bool:
        free = shutil.disk_usage(self._work).free
        held = sum(one.meter.held_bytes for one in list(self._shards.values()))
        return held + more_bytes <= self.plan.most_disk_bytes and more_bytes + _LEAST_FREE_BYTES <= free

    def _watch_disk(self) -> None:
        """Let go of the largest journal that is not shipped where there is no room for more."""
        held, free = self._held(), shutil.disk_usage(self._work).free
        if held <= self.plan.most_disk_bytes and free >= _LEAST_FREE_BYTES:
            self._troubles.over("room")
            return
        largest = max(self._shards.values(), key=lambda one: one.meter.held_bytes, default=None)
        full = held <= self.plan.most_disk_bytes
        why = (
            f"{free:,} bytes are free, and {_LEAST_FREE_BYTES:,} are left to others"
            if full
            else f"{held:,} bytes are held"
        )
        if largest is None or not self._worth_dropping(largest):
            self._troubles.have(
                "room",
                UnreachableError(
                    "keeping what is not shipped", f"{why}, and giving it up would free little: the bases need it",
                    "Free some space on the disk of BACKUP_DIR."
                    if full
                    else f"Raise ARCHIVE_MOST_DISK ({self.plan.most_disk_bytes:,} bytes).",
                ),
            )  # fmt: skip
            return
        reason = "the disk of the archiver was full" if full else "the repository was away for too long"
        largest.follower.drop(f"{reason}: {why}")

    def _worth_dropping(self, one: Archived) -> bool:
        """Tell whether a good part of what is held are increments that are not shipped."""
        unshipped = sum(
            max(0, (stream.points[-1].end if stream.points else 0) - stream.shipped.end)
            for stream in one.ledger.streams()
        )
        return unshipped * 4 > one.meter.held_bytes

    def _quietly(self, act: Callable[[], None]) -> None:
        try:
            act()
        except UnderstudyError as error:
            self.say(f"archive: {error}")
