"""A cut: copies of every primary at one instant, whatever is written, promoted or moved meanwhile."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from breaking import replica_of
from chains import Chains, values_of
from conftest import Typed
from understudy import lab
from understudy.backup.replica.copies import ANNOUNCED, Copy
from understudy.backup.replica.cut import cut
from understudy.backup.replica.pause import BOUND_MS, Pause, only_chatter
from understudy.backup.replica.strays import Strays
from understudy.backup.replica.tunnel import Tunnel
from understudy.drill.promote import promote
from understudy.errors import IncompleteError, NotAuthorisedError, RefusedError
from understudy.lab import Lab
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire

pytestmark = pytest.mark.long(25)
PASSWORD = "a 'quoted\" pass word"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """A cluster of its own, with a password: its primaries fail over and are paused."""
    with lab.cluster(password=PASSWORD, node_timeout_ms=1000) as running:
        yield running


@pytest.fixture
def router(cluster: Lab) -> Iterator[Router]:
    with Router(cluster.target()) as found:
        yield found


def test_no_effect_stands_in_a_cut_without_its_cause(
    cluster: Lab, router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Copy.begin_detach

    def slow(copy: Copy) -> None:
        time.sleep(0.02)  # time enough for a write that is not held to fall between two detachments
        quick(copy)

    with Chains(cluster.target(), pause_s=0.002) as chains:
        for detach in (quick, slow, slow, slow, quick):
            monkeypatch.setattr(Copy, "begin_detach", detach)
            before = list(chains.steps)
            with cut(router, tmp_path, Silent()) as made:
                values = values_of(made)
            assert chains.torn(values) == []
            # what was acknowledged before it began is in it
            newest = [max(values[chains.key(one, tag)] for tag in range(3)) for one in range(len(before))]
            assert all(now >= then for now, then in zip(newest, before, strict=True))
            assert made.one_instant
            assert 0 < made.paused_ms < BOUND_MS
            assert not made.abandoned
    assert chains.slowest_s < BOUND_MS / 1000 + 5
    assert list(tmp_path.iterdir()) == []


def test_without_a_pause_each_shard_has_an_instant_of_its_own(cluster: Lab, router: Router, tmp_path: Path) -> None:
    with Chains(cluster.target(), writers=1) as chains:
        for _ in range(10):  # the checker can tell: it is torn as soon as a write falls between two detachments
            with cut(router, tmp_path, Silent(), pause=False) as made:
                torn = chains.torn(values_of(made))
            assert not made.one_instant
            assert made.paused_ms == 0
            if torn:
                return
    raise AssertionError("ten cuts without a pause, and none was torn: does the checker look?")


def test_a_failover_between_sync_and_cut_is_noticed_and_that_attempt_abandoned(
    cluster: Lab, router: Router, tmp_path: Path
) -> None:
    old = router.primaries[0]
    done: list[str] = []

    def fail_over() -> None:
        if not done:
            done.append("once")
            promote(cluster, replica_of(cluster, old))

    with Chains(cluster.target(), pause_s=0.002) as chains, cut(router, tmp_path, Silent(), in_sync=fail_over) as made:
        assert chains.torn(values_of(made)) == []
    assert len(made.abandoned) == 1, made.abandoned
    assert "primary" in made.abandoned[0]
    assert old not in {shard.primary.address for shard in made.shards}


def test_a_failover_after_the_pause_is_noticed_by_the_epoch(
    cluster: Lab, router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.backup.replica import cut as module

    old = router.primaries[1]
    begun = module._Maker._together
    done: list[str] = []

    def together(self: object, *words: object) -> object:
        shards = begun(self, *words)  # type: ignore[arg-type]
        if not done:
            done.append("once")
            promote(cluster, replica_of(cluster, old))
        return shards

    monkeypatch.setattr(module._Maker, "_together", together)
    with cut(router, tmp_path, Silent()) as made:
        pass
    assert made.abandoned == (f"{old} is no primary any more: a failover",)


def test_a_slot_that_is_on_its_way_is_waited_for_and_then_said(cluster: Lab, router: Router, tmp_path: Path) -> None:
    here, there = (shard.primary for shard in router.topology.shards[:2])
    assert here
    assert there
    slot = min(router.topology.shards[0].slots)
    router.wire(there.address).call("CLUSTER", "SETSLOT", slot, "IMPORTING", here.node_id)
    try:
        with (
            pytest.raises(IncompleteError, match=f"slot {slot} is on its way into {there.address}"),
            cut(router, tmp_path, Silent(), patience_s=0.2),
        ):
            pass
    finally:
        router.wire(there.address).call("CLUSTER", "SETSLOT", slot, "STABLE")

    def to_and_fro() -> None:  # a replica of a cluster hears of it, and a copy cannot do it
        router.wire(there.address).call("CLUSTER", "SETSLOT", slot, "IMPORTING", here.node_id)
        router.wire(there.address).call("CLUSTER", "SETSLOT", slot, "STABLE")

    with cut(router, tmp_path, Silent(), in_sync=to_and_fro) as made:
        assert not made.abandoned


def test_somebody_elses_pause_is_not_ended(cluster: Lab, router: Router, tmp_path: Path) -> None:
    wire = router.wire(router.primaries[0])
    wire.call("CLIENT", "PAUSE", 60_000, "WRITE")
    try:
        with (
            pytest.raises(IncompleteError, match="held already"),
            cut(router, tmp_path, Silent(), patience_s=0.2),
        ):
            pass
        assert b"paused_reason:client_pause" in wire.call("INFO", "clients")
    finally:
        wire.call("CLIENT", "UNPAUSE")


HOLD = """
import sys, json, time
from understudy.backup.replica.pause import Pause
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire
target = Target.from_data(json.loads(sys.stdin.readline()))
with Pause([Wire(seed, target) for seed in target.seeds]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_writes_go_on_within_the_bound_where_we_are_killed_while_they_are_held(cluster: Lab, router: Router) -> None:
    target = cluster.target().at(*router.primaries)
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    child.stdin.write(orjson.dumps(target.as_data()).decode() + "\n")
    child.stdin.flush()
    assert child.stdout.readline() == "held\n"
    held_at = time.monotonic()
    child.kill()
    child.communicate()
    for shard in router.topology.shards:
        assert shard.primary
        slot = min(shard.slots)
        key = next(f"k:{{{tag}}}" for tag in range(10**6) if key_slot(b"{%d}" % tag) == slot)
        with Wire(shard.primary.address, target) as wire:
            wire.call("SET", key, "1")
    waited_s = time.monotonic() - held_at
    assert waited_s < BOUND_MS / 1000 + 2
    assert waited_s > BOUND_MS / 1000 / 2, "were writes held at all?"


@contextmanager
def user(cluster: Lab, name: str, *rules: str) -> Iterator[Target]:
    """A user on every node, with these rules."""
    for node in cluster.nodes:
        cluster.call(node, "ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
    yield dataclasses.replace(cluster.target(), username=name, password="secret")
    for node in cluster.nodes:
        cluster.call(node, "ACL", "DELUSER", name)


LEAST = (
    "+psync +replconf +ping +info +command +client|id +client|pause +client|unpause"
    " +cluster|info +cluster|nodes +cluster|getslotmigrations"
)  # as docs/replica.md has it


def test_a_user_with_the_rights_of_the_page_and_no_other_makes_a_set(
    cluster: Lab, typed: Typed, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "replica.md").read_text()
    assert f"ACL SETUSER backup on >SECRET {LEAST}" in page
    cluster.flush()
    with Router(cluster.target()) as router:
        router.execute([(key_slot(b"k%d" % one), ("SET", b"k%d" % one, "v")) for one in range(50)])
    with user(cluster, "least", *LEAST.split()) as target:
        env = {**cluster.env(), "REDIS_USERNAME": "least", "REDIS_PASSWORD": "secret", "BACKUP_DIR": str(tmp_path)}
        done = typed("backup", "--engine", "replica", env=env)
        assert done.returncode == 0, done.stderr
        assert "Cut: 3 shards at one instant" in done.stdout
        assert "(50 keys)" in done.stdout
        made = next(tmp_path.glob("redis-backup-*/metadata.json"))
        redis = orjson.loads(made.read_bytes())["components"]["redis"]
        assert redis["engine"] == "replica"
        assert {shard["node"] for shard in redis["cut"]["shards"]} == {str(one) for one in Router(target).primaries}
        assert redis["slots"]["covered"] == 16384
        refused = typed("backup", "--engine", "scan", env=env)
        assert refused.returncode == 10, "this user may read keys?"


def test_a_user_who_may_not_replicate_is_told_so_and_auto_scans_and_says_why(
    cluster: Lab, typed: Typed, tmp_path: Path
) -> None:
    with user(cluster, "reader", "~*", "+@all", "-psync"):
        env = {**cluster.env(), "REDIS_USERNAME": "reader", "REDIS_PASSWORD": "secret", "BACKUP_DIR": str(tmp_path)}
        refused = typed("backup", "--engine", "replica", env=env)
        assert refused.returncode == 10
        assert "PSYNC: NOPERM" in refused.stderr
        assert "+psync" in refused.stderr
        done = typed("backup", "--engine", "auto", env=env)
        assert done.returncode == 0, done.stderr
        assert "Engine scan, not replica: PSYNC: NOPERM" in done.stderr


def test_a_user_who_may_not_let_writes_go_on_holds_them_once_and_is_told(
    cluster: Lab, router: Router, tmp_path: Path
) -> None:
    with user(cluster, "jailer", "~*", "+@all", "-client|unpause") as target, Router(target) as its:
        with pytest.raises(NotAuthorisedError, match="unpause") as caught, cut(its, tmp_path, Silent()):
            pass
        assert "+client|unpause" in caught.value.hint


def test_sentinels_do_not_take_a_copy_for_a_replica_and_a_cut_of_their_primary_holds_nothing(
    valkey_sentinel: Lab, tmp_path: Path
) -> None:
    target = valkey_sentinel.target()
    with Router(target) as router, cut(router, tmp_path, Silent()) as made:
        router.execute([(None, ("SET", "later", "1"))])
        wire = router.wire(router.primaries[0])
        assert made.paused_ms == 0
        assert made.one_instant
        with made.copies[0].server.wire() as copy:
            assert copy.call("EXISTS", "later") == 0
        held = valkey_sentinel.nodes[-1]
        assert ANNOUNCED not in str(valkey_sentinel.call(held, "SENTINEL", "REPLICAS", "mymaster"))
        assert ANNOUNCED.encode() not in wire.call("INFO", "replication")


def test_a_source_with_tls_is_copied_through_a_port_that_only_the_copy_enters(tmp_path: Path) -> None:
    with lab.standalone(password=PASSWORD, tls=True) as running, Router(running.target()) as router:
        router.execute([(None, ("SET", "k", "v"))])
        with cut(router, tmp_path, Silent()) as made, made.copies[0].server.wire() as wire:
            assert wire.call("GET", "k") == b"v"
        address = router.primaries[0]
        tunnel = Tunnel(address, router.target.at(address), "ours")
        try:
            with pytest.raises(NotAuthorisedError, match="a copy's own"):
                Wire(tunnel.address, Target((tunnel.address,), password=PASSWORD))
            with Wire(tunnel.address, Target((tunnel.address,), password="ours")) as wire:
                assert wire.call("GET", "k") == b"v"
        finally:
            tunnel.close()


def test_a_copy_that_could_not_do_what_its_primary_did_is_no_set(tmp_path: Path) -> None:
    def write(router: Router) -> None:
        target = dataclasses.replace(router.target, db=10_000)
        with Wire(router.primaries[0], target) as wire:
            wire.call("SET", "beyond", "the copy's databases")

    with (
        lab.standalone(databases=10_001) as running,
        Router(running.target()) as router,
        pytest.raises(RefusedError, match="DB index is out of range"),
        cut(router, tmp_path, Silent(), in_sync=lambda: write(router)),
    ):
        pass


def test_a_stream_that_grew_by_a_ping_took_no_write() -> None:
    assert only_chatter(0)
    assert only_chatter(14)
    assert not only_chatter(-14)
    assert not only_chatter(27)  # SET k v
    assert not only_chatter(28)  # SET k vv
    assert not only_chatter(1000)


def test_writes_that_somebody_let_through_meanwhile_are_noticed(cluster: Lab, router: Router) -> None:
    """Whoever ends the pause and begins another, as a second backup does, leaves nothing to see but the stream."""
    address = router.primaries[0]
    slot = min(router.topology.shards[0].slots)
    key = next(f"k:{{{tag}}}" for tag in range(10**6) if key_slot(b"{%d}" % tag) == slot)
    other = router.wire(router.owner(slot) or address)
    with Wire(other.address, router.target) as wire:
        held = Pause([wire])
        with held:
            other.call("CLIENT", "UNPAUSE")
            for _ in range(20):
                other.call("SET", key, "x" * 40)
            other.call("CLIENT", "PAUSE", 1000, "WRITE")
        assert "took writes while they were to be held" in held.refute()


def test_a_primary_that_holds_keys_of_anothers_slot_is_known_by_it(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = b"stray"
    before = router.refresh()
    shards = [replace(one, slots=one.slots - {key_slot(key)}) for one in before.shards]  # as if that had moved away
    router.execute([(key_slot(key), ("SET", key, "1"))])
    address = router.owner(key_slot(key))
    monkeypatch.setattr(router, "refresh", lambda: replace(before, shards=tuple(shards)))
    strays = Strays(router)
    strays.look()
    found = {one.primary.address: strays.none_at(one.primary.address, one.slots) for one in shards if one.primary}
    assert found == {one: one != address for one in found}
    assert address in found
    router.execute([(key_slot(key), ("DEL", key))])
    strays.look()
    assert all(strays.none_at(one.primary.address, one.slots) for one in shards if one.primary)
    assert not strays.none_at(address, before.shards[0].slots), "of other slots than those it knows nothing"
