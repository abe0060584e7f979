"""A hundred cuts under eight writers, alone and while primaries die and slots move: none is torn."""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from breaking import replica_of
from chains import Chains, apart, values_of
from understudy import lab
from understudy.backup.replica.cut import cut
from understudy.drill.promote import is_primary, promote
from understudy.errors import UnderstudyError
from understudy.lab import Lab
from understudy.lab.reshard import move_slot
from understudy.lab.server import LabNode
from understudy.progress import Lines, Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot

pytestmark = pytest.mark.soak
PASSWORD = "a 'quoted\" pass word"


@pytest.fixture
def cluster() -> Iterator[Lab]:
    with lab.cluster(password=PASSWORD, node_timeout_ms=1000) as running:
        yield running


class Chaos(threading.Thread):
    """Fails primaries over, kills them, and moves slots, over and over; never loses an acknowledged write itself.

    A primary is killed while the writers stand between two steps and its replica has everything: what a source loses
    is another question. A shard dies while the others move slots between them: both at once can leave slots to nobody.
    """

    def __init__(self, cluster: Lab, chains: Chains, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.chains, self.chance = cluster, chains, random.Random(seed)
        self.over = threading.Event()
        self.done: dict[str, int] = {}
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.wait(self.chance.uniform(1.0, 4.0)):
                act = self.chance.choice([self.fail_over, self.kill, self.move_by_key, self.move_at_once])
                until(self.whole)
                act()
                self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
        except BaseException as error:
            self.problem = error
            raise

    def whole(self) -> bool:
        """Tell whether every replica follows its primary."""
        told = [str(self.cluster.call(node, "INFO", "replication")) for node in self.cluster.nodes]
        return all("role:master" in one or "master_link_status:up" in one for one in told)

    def fail_over(self) -> None:
        with Router(self.cluster.target()) as router:
            address = self.chance.choice(router.primaries)
        promote(self.cluster, replica_of(self.cluster, address))

    def kill(self) -> None:
        with Router(self.cluster.target()) as router:
            address = self.chance.choice(router.primaries)
        victim, heir = self.cluster.node(str(address.port)), replica_of(self.cluster, address)
        with self.chains.held():
            until(lambda: _offset(self.cluster, victim) == _offset(self.cluster, heir))
            self.cluster.kill(victim)
        until(lambda: is_primary(self.cluster, heir))
        self.cluster.start(victim)
        until(lambda: "master_link_status:up" in str(self.cluster.call(victim, "INFO", "replication")))

    def move_by_key(self) -> None:
        with Router(self.cluster.target()) as router:
            slot = key_slot(b"{%s}" % self.chance.choice(self.chains.tags).encode())
            shards = [one for one in router.topology.shards if one.primary and slot not in one.slots]
            goal = self.chance.choice(shards).primary
            assert goal

            def moved() -> bool:
                try:
                    move_slot(router, slot, goal)
                except UnderstudyError:  # no replica has heard of it yet: gone on with
                    router.refresh()
                    return False
                return True

            until(moved)
            until(lambda: _agreed(router))

    def move_at_once(self) -> None:
        with Router(self.cluster.target()) as router:
            slot = key_slot(b"{%s}" % self.chance.choice(self.chains.tags).encode())
            source = router.topology.by_slot()[slot].primary
            shards = [one for one in router.topology.shards if one.primary and slot not in one.slots]
            goal = self.chance.choice(shards).primary
            assert goal
            assert source
            router.wire(source.address).call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", goal.node_id)
            until(lambda: _agreed(router) and router.owner(slot) == goal.address)


def until(holds: Callable[[], bool], within_s: float = 60) -> None:
    give_up_at = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def _offset(cluster: Lab, node: LabNode) -> int:
    text = str(cluster.call(node, "INFO", "replication"))
    return int(next(line for line in text.splitlines() if line.startswith("master_repl_offset:")).partition(":")[2])


def _agreed(router: Router) -> bool:
    views = {
        tuple((shard.primary.node_id, shard.slots) for shard in router.refresh().shards if shard.primary)
        for _ in range(3)
    }
    return len(views) == 1 and not router.topology.missing_slots


def _told(pauses: list[float], chains: Chains) -> str:
    ordered = sorted(pauses)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return (
        f"{len(pauses)} cuts; writes held: median {statistics.median(pauses):.2f} ms, p99 {p99:.2f} ms,"
        f" max {ordered[-1]:.2f} ms; {sum(chains.steps):,} writes, the slowest {chains.slowest_s * 1000:.0f} ms"
    )


def test_a_hundred_cuts_of_eight_chains_are_whole(cluster: Lab, tmp_path: Path) -> None:
    pauses: list[float] = []
    chains = Chains(cluster.target())
    with Router(cluster.target()) as router, apart(chains):
        for _ in range(100):
            with cut(router, tmp_path, Silent()) as made:
                assert chains.torn(values_of(made)) == []
            pauses.append(made.paused_ms)
    print(_told(pauses, chains))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_cuts_are_whole_while_primaries_die_and_slots_move(seed: int, cluster: Lab, tmp_path: Path) -> None:
    pauses: list[float] = []
    abandoned: dict[str, int] = {}
    with Router(cluster.target()) as router, Chains(cluster.target()) as chains:
        chaos = Chaos(cluster, chains, seed)
        chaos.start()
        while len(pauses) < 100:
            with cut(router, tmp_path, Lines(sys.stderr), attempts=100, patience_s=120) as made:
                assert chains.torn(values_of(made)) == []
            pauses.append(made.paused_ms)
            print(f"{len(pauses)} of 100", file=sys.stderr)
            for why in made.abandoned:
                kind = "".join(letter for letter in why if not letter.isdigit())
                abandoned[kind] = abandoned.get(kind, 0) + 1
            assert chaos.is_alive(), chaos.problem
        chaos.over.set()
        chaos.join()
    print(_told(pauses, chains))
    print(f"meanwhile: {chaos.done}; {sum(abandoned.values())} attempts abandoned: {abandoned}")
