"""The archiver against real servers: what it ships is exactly what was written, and what it cannot know is a gap."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiving import (
    AwayObjects,
    Counter,
    Running,
    archiving,
    infos,
    last_second,
    windows,
    wrong_seconds,
)
from s3 import BUCKET, s3_server
from support import eventually
from understudy import lab
from understudy.backup.pitr.follow import Follower
from understudy.backup.pitr.objects import open_objects
from understudy.lab import Lab
from understudy.valkey.discovery import discover, info
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import Wire


@pytest.fixture(scope="module")
def server() -> Iterator[Lab]:
    """One server for the tests of this file."""
    with lab.standalone() as found:
        yield found


@pytest.fixture
def target(server: Lab) -> Target:
    """Where it is."""
    return server.target().with_mode(Mode.STANDALONE)


@pytest.fixture
def objects(tmp_path: Path) -> AwayObjects:
    """A repository."""
    return AwayObjects(tmp_path / "backups")


def follower(running: Running) -> Follower:
    """The one shard's."""
    return next(iter(running.service._shards.values())).follower


def test_each_second_shows_what_was_written_by_then_across_a_new_base_and_a_repository_that_is_away(
    target: Target, objects: AwayObjects, tmp_path: Path
) -> None:
    with Counter(target) as counter, archiving(target, objects, tmp_path / "copies") as running:
        eventually(lambda: last_second(objects))
        began = last_second(objects)
        objects.keeps_bases_waiting = True
        follower(running).request_base()
        eventually(lambda: len(follower(running).ledger.streams()) == 2)
        asked = int(time.time())
        eventually(lambda: last_second(objects) > asked)  # the old stream does not wait for the new base
        assert len(running.streams()) == 1
        objects.keeps_bases_waiting = False
        eventually(lambda: len(running.streams()) == 2)
        eventually(lambda: len(follower(running).ledger.streams()) == 1)
        assert not running.heard("trouble with a new base"), running.said
        objects.away = True
        eventually(lambda: running.heard("trouble with shipping: writing to the test's place: it is away"))
        went = last_second(objects)
        time.sleep(2)
        assert last_second(objects) == went
        objects.away = False
        back = int(time.time())
        eventually(lambda: last_second(objects) > back)
    assert running.heard("shipping works again")
    assert running.lost() == []
    assert windows(objects).spans[0].first <= began
    assert wrong_seconds(objects, counter) == []
    first, second = infos(objects)
    assert (first.gap, first.previous, second.gap, second.previous) == (None, None, None, first.id)


def test_where_there_is_no_room_the_newest_wins_and_the_rest_is_a_gap(
    target: Target, objects: AwayObjects, tmp_path: Path
) -> None:
    with (
        Counter(target) as counter,
        archiving(target, objects, tmp_path / "copies", most_disk=1 << 20) as running,
        Wire(target.seeds[0], target) as wire,
    ):
        eventually(lambda: last_second(objects))
        objects.away = True
        for _ in range(20):
            wire.call("SET", "large", b"x" * 100_000)
        eventually(lambda: running.heard("what was not shipped is given up"))
        objects.away = False
        back = int(time.time())
        eventually(lambda: last_second(objects) > back)
        eventually(lambda: running.service.meters[0].held_bytes < 1 << 20)
        objects.away = True
        eventually(lambda: waiting(running))
        for path in waiting(running):
            path.unlink(missing_ok=True)
        objects.away = False
        eventually(lambda: running.heard("is gone from this disk: what was not shipped is given up"))
        back = int(time.time())
        eventually(lambda: last_second(objects) > back)
    assert [why for gap in windows(objects).gaps for why in gap.why if "is gone from this disk" in why]
    assert [why for gap in windows(objects).gaps for why in gap.why if "the repository was away for too long" in why]
    assert running.lost()
    assert wrong_seconds(objects, counter) == []


def waiting(running: Running) -> list[Path]:
    """What is packed and not shipped."""
    return list(running.service._work.glob("*/*.piece"))


def copy_pid(running: Running) -> int:
    """The process of the one shard's copy."""
    copy = follower(running)._copy
    assert copy is not None
    with copy.server.wire() as wire:
        return int(info(wire)["process_id"])


def test_seconds_in_which_the_copy_lagged_are_not_offered_and_a_full_resync_is_a_gap(
    target: Target, objects: AwayObjects, tmp_path: Path
) -> None:
    with Counter(target) as counter, archiving(target, objects, tmp_path / "copies") as running:
        eventually(lambda: last_second(objects))
        pid = copy_pid(running)
        time.sleep((0.2 - time.time()) % 1)  # so that most of a second is written while it stands
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2.2)
        os.kill(pid, signal.SIGCONT)
        reached = int(time.time())
        eventually(lambda: last_second(objects) > reached)
        assert len(infos(objects)) == 1
        missed = running.service.meters[0].missed_seconds
        with Wire(target.seeds[0], target) as wire:
            wire.call("DEBUG", "CHANGE-REPL-ID")
            wire.call("CLIENT", "KILL", "TYPE", "replica")
        eventually(lambda: len(running.streams()) == 2)
        reached = int(time.time())
        eventually(lambda: last_second(objects) > reached)
    reasons = [why for gap in windows(objects).gaps for why in gap.why]
    assert "the copy lagged behind its primary, or was not connected" in reasons
    assert "a full resync of the copy" in reasons
    assert missed >= 2
    assert running.lost() == []
    assert infos(objects)[1].previous is None
    assert wrong_seconds(objects, counter) == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """A cluster for the tests of this file."""
    with lab.cluster() as found:
        yield found


def test_a_failover_leaves_a_shards_stream_one(cluster: Lab, objects: AwayObjects, tmp_path: Path) -> None:
    target = cluster.target().with_mode(Mode.OSS_CLUSTER)
    with (
        Counter(target, (b"{b}", b"{c}", b"{a}")) as counter,
        archiving(target, objects, tmp_path / "copies") as running,
    ):
        eventually(lambda: last_second(objects))
        replica = next(node for shard in discover(target).shards for node in shard.replicas)
        with Wire(replica.address, target.at(replica.address)) as wire:
            wire.call("CLUSTER", "FAILOVER")
        eventually(lambda: running.heard(f"its primary is {replica.address} now"))
        reached = int(time.time())
        eventually(lambda: last_second(objects) > reached + 1)
    assert len(running.streams()) == 3
    assert [one.gap for one in infos(objects)] == [None] * 3
    assert wrong_seconds(objects, counter) == []


@pytest.mark.soak
@pytest.mark.parametrize("layout", ["cluster", "sentinel"])
def test_a_primary_that_is_killed_costs_seconds_that_are_said_to_be_missing(
    layout: str, objects: AwayObjects, tmp_path: Path
) -> None:
    with getattr(lab, layout)() as found:
        target = found.target()
        keys = (b"{b}", b"{c}", b"{a}") if layout == "cluster" else (b"counter",)
        with Counter(target, keys) as counter, archiving(target, objects, tmp_path / "copies") as running:
            eventually(lambda: last_second(objects), 60)
            time.sleep(2)
            primary = next(shard.primary for shard in discover(target).shards if shard.primary)
            found.kill(next(node.name for node in found.nodes if node.address == primary.address))
            eventually(lambda: running.heard("its primary is"), 60)
            reached = int(time.time())
            eventually(lambda: last_second(objects) > reached + 2, 60)
        assert wrong_seconds(objects, counter) == []
        assert len(windows(objects).spans) >= 2
        assert windows(objects).gaps[-1].why[0].startswith(("the copy lagged", "a full resync"))


@pytest.mark.soak
def test_a_store_that_hangs_loses_nothing(target: Target, tmp_path: Path) -> None:
    with s3_server(tmp_path) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        objects = open_objects(f"s3://{BUCKET}/archive")
        with Counter(target) as counter, archiving(target, objects, tmp_path / "copies") as running:
            eventually(lambda: last_second(objects))
            store.process.send_signal(signal.SIGSTOP)
            time.sleep(15)
            store.process.send_signal(signal.SIGCONT)
            back = int(time.time())
            eventually(lambda: last_second(objects) > back, 90)
        assert running.lost() == []
        assert wrong_seconds(objects, counter) == []


@pytest.mark.soak
def test_a_copy_that_dies_is_replaced_and_what_it_wrote_is_not_lost(
    target: Target, objects: AwayObjects, tmp_path: Path
) -> None:
    with Counter(target) as counter, archiving(target, objects, tmp_path / "copies") as running:
        eventually(lambda: last_second(objects))
        os.kill(copy_pid(running), signal.SIGKILL)
        eventually(lambda: len(running.streams()) == 2)
        reached = int(time.time())
        eventually(lambda: last_second(objects) > reached)
        eventually(lambda: len(list((tmp_path / "copies").glob("*/shard-1-*"))) == 1)
    assert [why for gap in windows(objects).gaps for why in gap.why if why == "the copy's server ended"]
    assert running.lost() == []
    assert wrong_seconds(objects, counter) == []
