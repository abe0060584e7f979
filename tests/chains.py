"""Writers whose every write is the effect of the one before, on another shard: what a consistent cut must not tear.

A writer has one key on each shard. Its step n writes n to the key of shard n mod 3, and the next step is taken when
that was acknowledged. So a state in which n stands, and not n-1 (or something newer of the same key), has an effect
without its cause.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from understudy.backup.replica.cut import Cut
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import ReplyError

WRITERS = 8


class Chains:
    """So many writers on one target, each in a thread of its own, until the block ends."""

    def __init__(self, target: Target, writers: int = WRITERS, pause_s: float = 0.0) -> None:
        self._target, self._pause_s = target, pause_s
        with Router(target) as router:
            shards = [min(shard.slots) for shard in router.topology.shards if shard.slots]
            owners = [router.owner(slot) for slot in shards]
            self.tags = [
                next(tag for tag in map(str, range(10_000)) if router.owner(_slot(tag)) == at) for at in owners
            ]
        self.steps = [0] * writers
        self.slowest_s = 0.0
        self.problems: list[BaseException] = []
        self._over = threading.Event()
        self._turn = [threading.Lock() for _ in range(writers)]
        self._threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(writers)]

    def key(self, writer: int, tag: int) -> bytes:
        """Return the key of a writer on a shard."""
        return f"chain:{writer}:{{{self.tags[tag]}}}".encode()

    def _write(self, number: int) -> None:
        try:
            with Router(self._target) as router:
                while not self._over.is_set():
                    with self._turn[number]:
                        step = self.steps[number] + 1
                        key = self.key(number, step % len(self.tags))
                        began = time.monotonic()
                        reply = router.execute([(key_slot(key), ("SET", key, step))]).values[0]
                        if isinstance(reply, ReplyError):
                            raise AssertionError(str(reply))
                        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                        self.steps[number] = step
                    time.sleep(self._pause_s)
        except BaseException as error:
            self.problems.append(error)
            raise

    @contextmanager
    def held(self) -> Iterator[None]:
        """Between steps, for the block: every write that was sent has been acknowledged."""
        for turn in self._turn:
            turn.acquire()
        try:
            yield
        finally:
            for turn in self._turn:
                turn.release()

    def __enter__(self) -> Chains:
        for thread in self._threads:
            thread.start()
        give_up_at = time.monotonic() + 30
        while min(self.steps) < 2 * len(self.tags) and time.monotonic() < give_up_at and not self.problems:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert not self.problems, self.problems

    def torn(self, values: Mapping[bytes, int]) -> list[str]:
        """Return, for each writer whose chain is torn in this state, what stands there."""
        count = len(self.tags)
        found = []
        for writer in range(len(self.steps)):
            stands = [values.get(self.key(writer, tag), 0) for tag in range(count)]
            last = max(stands)
            if any(stands[step % count] != step for step in range(max(1, last - count + 1), last + 1)):
                found.append(f"writer {writer}: {stands}")
        return found


@contextmanager
def apart(chains: Chains) -> Iterator[None]:
    """Have them write in a process of their own while the block runs: what is measured here shares no lock."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_write_apart, args=(chains, theirs), daemon=True)
    child.start()
    try:
        assert ours.poll(60), "they do not write"
        assert ours.recv() == "writing"
        yield
        ours.send("enough")
        chains.steps, chains.slowest_s = ours.recv()
    finally:
        child.kill()
        child.join()


def _write_apart(chains: Chains, theirs: Connection) -> None:
    with chains:
        theirs.send("writing")
        theirs.recv()
    theirs.send((chains.steps, chains.slowest_s))


def _slot(tag: str) -> int:
    return key_slot(f"{{{tag}}}".encode())


def values_of(cut: Cut) -> dict[bytes, int]:
    """Return what the chains' keys hold in the copies of a cut, each in the copy of the shard that it belongs to."""
    found: dict[bytes, int] = {}
    for copy, shard in zip(cut.copies, cut.shards, strict=True):
        with copy.server.wire() as wire:
            keys: Sequence[bytes] = wire.call("KEYS", "chain:*")
            own = [key for key in keys if shard.primary.slots is None or key_slot(key) in shard.primary.slots]
            found |= {key: int(wire.call("GET", key)) for key in own}
    return found
