"""Whose view of a cluster counts: that with the highest epoch, whoever tells it and in whatever order."""

from __future__ import annotations

import time
from itertools import permutations

import pytest

from understudy.valkey.batched.clock import Clock
from understudy.valkey.batched.owners import Owners
from understudy.valkey.target import Address, Mode
from understudy.valkey.topology import SLOTS, Node, Shard, Topology

A, B, C = (Address("host", port) for port in (1, 2, 3))


def view(**claims: tuple[int, range]) -> Topology:
    """What one node sees: `a=(epoch, slots)`."""
    places = {"a": A, "b": B, "c": C}
    return Topology(
        Mode.OSS_CLUSTER,
        tuple(
            Shard(Node(places[name], "primary", name, epoch), slots=frozenset(slots))
            for name, (epoch, slots) in claims.items()
        ),
    )


EVERY = range(SLOTS)
BEFORE = view(a=(1, EVERY), b=(0, range(0)))
PROMOTED = view(b=(2, EVERY), a=(1, range(0)))
MIGRATED = view(b=(2, range(100, SLOTS)), a=(3, range(100)))


@pytest.mark.parametrize("order", [*permutations([BEFORE, PROMOTED, MIGRATED])])
def test_old_views_change_nothing_in_whatever_order_they_come(order: tuple[Topology, ...]) -> None:
    owners = Owners()
    for one in order:
        owners.see(one, {A, B})
    assert owners.by_slot == [A] * 100 + [B] * (SLOTS - 100)


def test_moved_counts_from_the_owner_and_until_an_epoch_says_otherwise() -> None:
    owners = Owners()
    owners.see(BEFORE, {A})
    assert not owners.moved(7, B, C), "B does not own it, so far as we know"
    assert owners.moved(7, A, B)
    assert not owners.see(BEFORE, {A, B})
    assert owners.by_slot[7:9] == [B, A]
    assert owners.see(view(a=(5, EVERY), b=(2, range(0))), {A, B})
    assert owners.by_slot[7] == A


def test_a_cluster_that_was_built_anew_is_believed_once_the_old_one_is_gone() -> None:
    owners = Owners()
    owners.see(view(b=(9, EVERY)), {B})
    assert not owners.see(view(a=(1, EVERY)), {B})
    assert owners.see(view(a=(1, EVERY)), set())
    assert set(owners.by_slot) == {A}


def test_a_clock_takes_the_surest_measurement_and_notices_that_the_other_was_set() -> None:
    clock = Clock()
    here_s = time.monotonic()

    def ahead_s() -> float:
        return clock.now_ms() / 1000 - time.monotonic() + here_s

    clock.measure(here_s - 0.002, here_s, (b"5000", b"0"))
    assert ahead_s() == pytest.approx(5000, abs=0.1)
    clock.measure(here_s - 1, here_s, (b"4999", b"300000"))  # it took a second: this says less
    assert ahead_s() == pytest.approx(5000, abs=0.1)
    clock.measure(here_s - 1, here_s, (b"9000", b"0"))
    assert ahead_s() == pytest.approx(9000, abs=1)
