"""What `understudy archive` kept of a cluster under writes is, second by second, what the writers' log says."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conftest import Typed
from pitr_log import Log, State, read_lanes, writing
from support import eventually, started
from understudy import lab
from understudy.backup.pitr.catalog import read_archive
from understudy.backup.pitr.objects import LocalObjects
from understudy.backup.pitr.stream import root_of
from understudy.backup.pitr.windows import Windows
from understudy.lab import Lab
from understudy.lab.reshard import move_slot
from understudy.valkey.router import Router
from understudy.valkey.slots import from_ranges, key_slot
from understudy.valkey.target import Target

pytestmark = [pytest.mark.long(20), pytest.mark.timeout(600)]
_MOVED = re.compile(r"\d+ slots? \(([-\d, ]+)\) moved between shards")
_NAMES = [f"lane{number}" for number in range(4_000)]


def lanes_of(cluster: Lab, each: int = 2) -> list[list[str]]:
    """Names for each shard's lanes."""
    with Router(cluster.target()) as router:
        shards = [shard.slots for shard in router.topology.shards]
    return [[name for name in _NAMES if key_slot(name.encode()) in slots][:each] for slots in shards]


@dataclass
class Archiver:
    """`understudy archive`, as a process."""

    env: dict[str, str]
    directory: Path
    process: subprocess.Popen[str] | None = field(default=None)

    def start(self) -> None:
        """Begin."""
        self.process = started("archive", "--every", "1", env=self.env)

    def end(self, how: int = signal.SIGTERM) -> str:
        """End it, and return what it wrote."""
        assert self.process is not None
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=60)
        self.process = None
        return out + err

    def windows(self) -> Windows:
        """What can be restored now."""
        return read_archive(LocalObjects(self.directory), root_of(None, "local")).windows

    def reaches(self, second: int, within_s: float = 60) -> None:
        """Wait until a second can be restored, or one behind it."""
        eventually(lambda: (spans := self.windows().spans) and spans[-1].last >= second, within_s)


@contextlib.contextmanager
def archiving(cluster: Lab, folder: Path) -> Iterator[Archiver]:
    """Archive a cluster while the block runs."""
    nodes = ",".join(map(str, cluster.target().seeds))
    env = {"BACKUP_DIR": str(folder), "REDIS_NODES": nodes, "UNDERSTUDY_HOME": str(folder / "home")}
    archiver = Archiver(env, folder)
    archiver.start()
    try:
        yield archiver
    finally:
        if archiver.process:
            archiver.end()


@dataclass
class Check:
    """Restores seconds of an archive to a server, and compares every lane with the log."""

    typed: Typed
    archiver: Archiver
    into: Target
    log: Log
    tags: list[list[str]]
    killed_ms: float = float("inf")
    steady: bool = True  # no slot moved, and nothing was lost
    moved: int = 0

    def problems(self, second: int) -> list[str]:
        """What is wrong with a second."""
        lanes, keys, moving = self.restored(second)
        found = [line for line in self.log.problems(second, lanes, self.killed_ms) if line.split(":")[0] not in moving]
        if self.steady:
            found += [line for writer in self.log.writers for line in writer.out_of_order(lanes)]
        expected = sum(state.keys for state in lanes.values())
        if expected != keys and not moving:
            found.append(f"{keys} keys are there, and the lanes have {expected}")
        self.moved += len(moving)
        return [f"{second}: {line}" for line in found]

    def restored(self, second: int) -> tuple[dict[str, State], int, set[str]]:
        """The lanes as they were, how many keys there are, and the lanes that were moving: nothing is said of those."""
        with Router(self.into) as router:
            router.on_primaries("FLUSHALL")
        env = {"BACKUP_DIR": str(self.archiver.directory), "REDIS_NODES": str(self.into.seeds[0])}
        done = self.typed("restore", "--at", str(second), env=env, timeout_s=120)
        assert done.returncode == 0, done.stderr
        every = [tag for row in self.tags for tag in row]
        told = _MOVED.search(done.stderr)
        slots = from_ranges(told[1].split(", ")) if told else set()
        return *read_lanes(self.into, every), {tag for tag in every if key_slot(tag.encode()) in slots}


def test_three_seconds_of_a_cluster_are_what_its_log_says(typed: Typed, tmp_path: Path, valkey_standalone: Lab) -> None:
    with lab.cluster(primaries=2, replicas=0) as cluster, archiving(cluster, tmp_path / "sets") as archiver:
        tags = lanes_of(cluster)
        eventually(lambda: archiver.windows().spans)
        began = int(time.time()) + 1

        def restorable() -> list[int]:
            windows = archiver.windows()
            return [second for second in range(began, int(time.time())) if windows.holds(second)]

        with writing(cluster.target(), tags, tmp_path / "log", pause_s=0.01) as log:
            written = eventually(lambda: seconds if len(seconds := restorable()) >= 6 else None, 120)
        check = Check(typed, archiver, valkey_standalone.target(), log, tags)
        picked = sorted(random.SystemRandom().sample(written, 3))
        assert [line for second in picked for line in check.problems(second)] == []
        lanes, _ = read_lanes(check.into, [tag for row in tags for tag in row])
        assert log.problems(picked[-1] - 2, lanes), "the check can fail: that is another second"


# -- soak


def nothing(cluster: Lab, archiver: Archiver, check: Check) -> None:
    """Let them write."""
    time.sleep(75)


def failover(cluster: Lab, archiver: Archiver, check: Check) -> None:
    """Kill a primary; its replica takes over, without what it had not got."""
    time.sleep(10)
    check.steady, check.killed_ms = False, time.time() * 1000
    cluster.kill("node-1")
    time.sleep(25)


def reshard(cluster: Lab, archiver: Archiver, check: Check) -> None:
    """Send the slots of all lanes of one shard to another, key by key."""
    check.steady = False
    time.sleep(5)
    with Router(cluster.target()) as router:
        goal = next(s.primary for s in router.topology.shards if key_slot(check.tags[1][0].encode()) in s.slots)
        assert goal
        for tag in check.tags[0]:
            move_slot(router, key_slot(tag.encode()), goal, keys_a_step=1)
            time.sleep(4)
    time.sleep(10)


def reshard_at_once(cluster: Lab, archiver: Archiver, check: Check) -> None:
    """Have the servers move the slots of all lanes of one shard themselves, each in one step."""
    check.steady = False
    time.sleep(5)
    with Router(cluster.target()) as router:
        shards = {s: s.primary for s in router.topology.shards if s.primary}
        source, goal = (
            next(p for s, p in shards.items() if key_slot(row[0].encode()) in s.slots) for row in check.tags[:2]
        )
        for tag in check.tags[0]:
            slot = key_slot(tag.encode())
            wire = router.wire(source.address)
            wire.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", goal.node_id)
            eventually(lambda slot=slot: slot in next(iter(_served(router, goal.node_id))), 30)
            time.sleep(3)
    time.sleep(8)


def _served(router: Router, node_id: str) -> list[frozenset[int]]:
    return [s.slots for s in router.refresh().shards if s.primary and s.primary.node_id == node_id]


def killed_archiver(cluster: Lab, archiver: Archiver, check: Check) -> None:
    """Kill the archiver as nothing else can, and start it again."""
    time.sleep(12)
    archiver.end(signal.SIGKILL)
    time.sleep(5)
    archiver.start()
    time.sleep(25)


def outage(cluster: Lab, archiver: Archiver, check: Check) -> None:
    """Have the repository away for a while."""
    time.sleep(10)
    place, away = archiver.directory / "archive", archiver.directory / "away"
    place.rename(away)
    place.touch()
    time.sleep(20)
    place.unlink()
    away.rename(place)
    time.sleep(10)


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("event", "seconds"),
    [(nothing, 50), (failover, 25), (reshard, 25), (reshard_at_once, 25), (killed_archiver, 25), (outage, 25)],
)
def test_random_seconds_are_what_the_log_says(
    event: Callable[[Lab, Archiver, Check], None], seconds: int, typed: Typed, tmp_path: Path
) -> None:
    with (
        lab.standalone() as into,
        lab.cluster(replicas=1) as cluster,
        archiving(cluster, tmp_path / "sets") as archiver,
    ):
        tags = lanes_of(cluster, 3)
        eventually(lambda: archiver.windows().spans, 60)
        began = int(time.time())
        with writing(cluster.target(), tags, tmp_path / "log", pause_s=0.003) as log:
            check = Check(typed, archiver, into.target(), log, tags)
            event(cluster, archiver, check)
        ended = int(time.time())
        archiver.reaches(ended, 120)
        told = archiver.end()
        windows = archiver.windows()
        possible = [second for second in range(began, ended) if windows.holds(second)]
        chance = random.SystemRandom()
        edges = [second for gap in windows.gaps for second in (gap.first - 1, gap.last + 1) if second in possible]
        picked = sorted({*chance.sample(possible, min(seconds, len(possible))), *edges})
        wrong = [line for second in picked for line in check.problems(second)]
        gaps = [(gap.last - gap.first + 1, gap.why) for gap in windows.gaps]
        steps = sum(len(writer.order) for writer in log.writers)
        print(f"{event.__name__}: {len(picked)} of {ended - began} s, {steps} steps, {check.moved} lanes on the move")
        print(f"gaps: {gaps}; problems: {len(wrong)}")
        assert not wrong, "\n".join(wrong) + f"\n{told}"
        for gap in windows.gaps:
            second = chance.randrange(gap.first, gap.last + 1)
            env = {"BACKUP_DIR": str(archiver.directory), "REDIS_NODES": str(into.target().seeds[0])}
            refused = typed("restore", "--at", str(second), env=env)
            assert refused.returncode == 11 and gap.why[0] in refused.stderr
        reasons = {why for _, why in gaps}
        assert any("restarted" in why[0] for why in reasons) or event is not killed_archiver
        assert all("lagged" in why[0] for why in reasons) or event not in (nothing, outage, reshard, reshard_at_once)
