"""What is seen of the servers while they fail over."""

from __future__ import annotations

import time

from support import eventually
from understudy import lab
from understudy.drill.promote import sentinels_promote
from understudy.drill.shards import Shards
from understudy.drill.watch import Watch


def test_the_moment_at_which_the_sentinels_name_another_primary_is_noted_once() -> None:
    with lab.sentinel(password="secret") as stack, Watch(stack, Shards.of_lab(stack), time.monotonic_ns()) as watch:
        time.sleep(0.5)  # everyone has been asked who is primary
        new = sentinels_promote(stack, coordinated=False)
        assert eventually(lambda: {"promoted", "switched"} <= {event.kind for event in watch.events})
        time.sleep(0.5)  # whatever the other sentinels say now says nothing new
    (switched,) = [event for event in watch.events if event.kind == "switched"]
    assert (switched.node, switched.shard, switched.text) == (new.name, 0, f"the sentinels name {new.name}")
    (promoted,) = [event for event in watch.events if event.kind == "promoted"]
    assert promoted.node == new.name
