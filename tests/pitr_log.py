"""A writer that logs what it wrote when, and a check that a restored shard is exactly a beginning of that log.

    python pitr_log.py        (its standard input: what to do, as JSON; it ends when that closes)

Each lane is a hash tag: all its keys are in one slot. Step n of a lane is one script, which looks whether step n-1 was
the last, and changes several keys at once. What step n leaves behind is a function of n and of the branch that it is
on: after a failover has lost steps, the lane goes on from what is left as a new branch.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from understudy.errors import UnderstudyError
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Command, ReplyError

ALLOWED_LAG_MS = 200  # what was acknowledged so long before a second's end is in it
START = "0:0"
_STRINGS, _FIELDS = 7, 5
_YEAR_MS = 365 * 24 * 3600 * 1000
# KEYS: last, log, hash, queue, string. ARGV: the step before, this step, and what to do
_SCRIPT = """
local last = redis.call('GET', KEYS[1]) or '0:0'
if last ~= ARGV[1] then return last end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[2])
if ARGV[3] == '0' then redis.call('SET', KEYS[5], ARGV[2]) end
if ARGV[3] == '1' then redis.call('DEL', KEYS[5]) end
if ARGV[3] == '2' then redis.call('HSET', KEYS[3], ARGV[4], ARGV[2]) end
if ARGV[3] == '3' then redis.call('HDEL', KEYS[3], ARGV[4]) end
if ARGV[3] == '4' then redis.call('RPUSH', KEYS[4], ARGV[2]) end
if ARGV[3] == '5' then redis.call('LPOP', KEYS[4]) end
if ARGV[3] == '6' then redis.call('SET', KEYS[5], ARGV[2], 'PXAT', ARGV[5]) end
return ARGV[2]
"""


@dataclass
class State:
    """What stands in a lane."""

    last: str = START
    log: list[str] = field(default_factory=list)
    strings: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    queue: list[str] = field(default_factory=list)

    def do(self, step: str) -> None:
        """Change it as the script does."""
        kind, string, of_hash = chosen(step)
        self.last = step
        self.log.append(step)
        if kind in (0, 6):
            self.strings[string] = step
        elif kind == 1:
            self.strings.pop(string, None)
        elif kind == 2:
            self.fields[of_hash] = step
        elif kind == 3:
            self.fields.pop(of_hash, None)
        elif kind == 4:
            self.queue.append(step)
        elif self.queue:
            self.queue.pop(0)

    @property
    def keys(self) -> int:
        """How many keys that is."""
        return 2 * (self.last != START) + len(self.strings) + bool(self.fields) + bool(self.queue)


def chosen(step: str) -> tuple[int, str, str]:
    """What a step does, to which string and which field."""
    dice = random.Random(step)
    return dice.randrange(7), f"s{dice.randrange(_STRINGS)}", f"f{dice.randrange(_FIELDS)}"


def keys_of(tag: str, string: str = "s0") -> list[str]:
    """The keys of a lane, in the script's order."""
    return [f"last:{{{tag}}}", f"log:{{{tag}}}", f"hash:{{{tag}}}", f"queue:{{{tag}}}", f"{string}:{{{tag}}}"]


# -- writing


def write(target: Target, tags: Sequence[str], out: TextIO, pause_s: float, over: threading.Event) -> None:
    """Take steps in all lanes in turn, each acknowledged before the next begins, until `over`."""
    lasts = dict.fromkeys(tags, START)
    branches = dict.fromkeys(tags, 0)
    router: Router | None = None
    while not over.is_set():
        for tag in tags:
            step = f"{branches[tag]}:{int(lasts[tag].partition(':')[2]) + 1}"
            kind, string, of_hash = chosen(step)
            keys = keys_of(tag, string)
            expire_at_ms = int(time.time() * 1000) + _YEAR_MS
            command: Command = ("EVAL", _SCRIPT, len(keys), *keys, lasts[tag], step, kind, of_hash, expire_at_ms)
            sent_ms = time.time() * 1000
            try:
                router = router or Router(target, patience_s=3)
                found = router.execute([(key_slot(keys[0].encode()), command)]).values[0]
            except UnderstudyError:
                if router:
                    router.close()
                router = None
                found = None
            acked_ms = time.time() * 1000
            if isinstance(found, ReplyError):
                raise AssertionError(f"{tag} {step}: {found}")
            if found is not None and (last := found.decode()) != step:  # steps were lost: go on from what is left
                out.write(f"{tag} branch {branches[tag] + 1} {last} {acked_ms:.0f}\n")
                branches[tag] += 1
                lasts[tag] = last
            elif found is not None:
                out.write(f"{tag} step {step} {sent_ms:.3f} {acked_ms:.3f}\n")
                lasts[tag] = step
            else:
                out.write(f"{tag} unsure {step} {sent_ms:.3f}\n")
            out.flush()
            over.wait(pause_s)
    if router:
        router.close()


@contextlib.contextmanager
def writing(target: Target, lanes: Sequence[Sequence[str]], folder: Path, pause_s: float = 0.005) -> Iterator[Log]:
    """Have a process write the lanes of each row while the block runs; the log is complete when it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    log = Log([folder / f"lane-{number}.log" for number in range(len(lanes))])
    writers = []
    for path, tags in zip(log.paths, lanes, strict=True):
        plan = {"target": target.as_data(), "tags": [*tags], "log": str(path), "pause_s": pause_s}
        writer = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, text=True)
        assert writer.stdin is not None
        writer.stdin.write(json.dumps(plan) + "\n")
        writer.stdin.flush()
        writers.append(writer)
    try:
        yield log
    finally:
        for writer in writers:
            writer.stdin.close()  # type: ignore[union-attr]
        codes = [writer.wait(30) for writer in writers]
    assert not any(codes), f"writers ended with {codes}"


# -- checking


@dataclass(frozen=True)
class Step:
    """One line of the log: begun and acknowledged (ms; None: nobody knows whether it was done)."""

    tag: str
    step: str
    sent_ms: float
    acked_ms: float | None


@dataclass
class Log:
    """What writers logged, one file for each of them."""

    paths: list[Path]

    @cached_property
    def writers(self) -> list[Written]:
        """What each writer did; read when all have ended."""
        return [Written.read(path) for path in self.paths]

    def began(self) -> bool:
        """Tell whether every writer has written something."""
        return all(path.exists() and path.stat().st_size > 0 for path in self.paths)

    def problems(self, second: int, lanes: dict[str, State], killed_ms: float = float("inf")) -> list[str]:
        """What is wrong with these lanes as the state at the end of a second: nothing, if all is well.

        `killed_ms` is when a primary was killed: until then also those steps must be there that were lost later.
        """
        return [line for writer in self.writers for line in writer.problems(second, lanes, killed_ms)]


@dataclass
class Written:
    """What one writer did, in order, lane by lane."""

    steps: dict[str, list[Step]]
    parents: dict[str, dict[int, str]]  # by lane and branch: the step that the branch goes on from
    order: list[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> Written:
        """Read a log."""
        steps: dict[str, list[Step]] = {}
        parents: dict[str, dict[int, str]] = {}
        order = []
        for line in path.read_text().splitlines():
            tag, what, *rest = line.split(" ")
            if what == "branch":
                parents.setdefault(tag, {})[int(rest[0])] = rest[1]
                continue
            mine = steps.setdefault(tag, [])
            if mine and mine[-1].step == rest[0]:  # it was not known whether it was done: sent again
                sent_ms = mine.pop().sent_ms
            else:
                sent_ms = float(rest[1])
                order.append((tag, rest[0]))
            mine.append(Step(tag, rest[0], sent_ms, float(rest[2]) if what == "step" else None))
        return cls(steps, parents, order)

    def chain(self, tag: str, step: str) -> list[str]:
        """Every step that leads to this one, itself included."""
        branch, number = map(int, step.split(":"))
        before: list[str] = []
        if branch:
            parent = self.parents[tag][branch]
            before = self.chain(tag, parent)
        first = int(before[-1].split(":")[1]) if before else 0
        return before + [f"{branch}:{at}" for at in range(first + 1, number + 1)]

    def lost(self, tag: str) -> set[str]:
        """Steps that no later branch goes on from."""
        lost: set[str] = set()
        for branch, parent in self.parents.get(tag, {}).items():
            kept = set(self.chain(tag, parent)) if parent != START else set()
            lost |= {one.step for one in self.steps[tag] if int(one.step.split(":")[0]) < branch} - kept
        return lost

    def problems(self, second: int, lanes: dict[str, State], killed_ms: float) -> list[str]:
        """See `Log.problems`."""
        end_ms = (second + 1) * 1000
        found: list[str] = []
        for tag, steps in self.steps.items():
            state = lanes.get(tag, State())
            names = [one.step for one in steps]
            if state.last != START and state.last not in names:
                found.append(f"{tag}: {state.last} was never written")
                continue
            chain = self.chain(tag, state.last) if state.last != START else []
            expected = State()
            for step in chain:
                expected.do(step)
            if state != expected:
                found.append(f"{tag}: at {state.last} it is {state}, and the log makes it {expected}")
            lost = self.lost(tag) if end_ms > killed_ms else set()
            at = names.index(state.last) if chain else -1
            for number, one in enumerate(steps):
                acked = one.acked_ms is not None and one.acked_ms <= end_ms - ALLOWED_LAG_MS
                if number > at and acked and one.step not in lost:
                    early_ms = end_ms - (one.acked_ms or 0)
                    found.append(f"{tag}: {one.step} is missing, acknowledged {early_ms:.0f} ms before the end")
                    break
                if number <= at and one.sent_ms >= end_ms:
                    found.append(f"{tag}: {one.step} is in, begun {one.sent_ms - end_ms:.0f} ms after the end")
                    break
        return found

    def out_of_order(self, lanes: dict[str, State]) -> list[str]:
        """What is in although something that the same writer wrote before it, to the same shard, is not.

        Only for writers whose lanes were on one shard all the time, with nothing lost.
        """
        found: list[str] = []
        missing: tuple[str, str] | None = None
        done = {tag: int(state.last.split(":")[1]) for tag, state in lanes.items()}
        for tag, step in self.order:
            if int(step.split(":")[1]) > done.get(tag, 0):
                missing = missing or (tag, step)
            elif missing:
                found.append(f"{tag} {step} is in, and {missing[0]} {missing[1]}, written before it, is not")
                break
        return found


def read_lanes(target: Target, tags: Sequence[str]) -> tuple[dict[str, State], int]:
    """What stands in each lane of a server now, and how many keys there are in all."""

    def text(found: Any) -> Any:
        return [text(one) for one in found] if isinstance(found, list) else found and found.decode()

    lanes = {}
    with Router(target) as router:
        for tag in tags:
            last, log, of_hash, queue, _ = keys_of(tag)
            strings = [f"s{at}" for at in range(_STRINGS)]
            commands: list[tuple[str | int, ...]] = [
                ("GET", last), ("LRANGE", log, 0, -1), ("HGETALL", of_hash), ("LRANGE", queue, 0, -1),
                *(("GET", keys_of(tag, one)[4]) for one in strings),
            ]  # fmt: skip
            slot = key_slot(last.encode())
            replies = text(router.execute([(slot, command) for command in commands]).values)
            pairs = replies[2]
            lanes[tag] = State(
                replies[0] or START, replies[1],
                {name: value for name, value in zip(strings, replies[4:], strict=True) if value is not None},
                dict(zip(pairs[::2], pairs[1::2], strict=True)), replies[3],
            )  # fmt: skip
        return lanes, sum(router.on_primaries("DBSIZE"))


def _main() -> None:
    plan = json.loads(sys.stdin.readline())
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    with Path(plan["log"]).open("a") as out:
        write(Target.from_data(plan["target"]), plan["tags"], out, plan["pause_s"], over)


if __name__ == "__main__":
    _main()
