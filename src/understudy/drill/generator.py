"""Open-loop load from one client: operations are due at fixed times, whatever became of those before.

A closed loop would wait with a stuck call and so hide everything that users would have asked meanwhile. Here one
thread at a time waits for the next due time, and hands the waiting on before it calls: there are always more threads
waiting than calls can get stuck, up to `MAX_WORKERS`.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from understudy.drill.client import Client, Trace, Watch
from understudy.drill.operation import Kind, Operation, Outcome, Part
from understudy.valkey.slots import key_slot

MAX_WORKERS = 1500
_SPARE_WORKERS = 8
_LISTS = 64
_RECENT = 1000  # how many acknowledged keys a read is chosen from

UNFINISHED = "Unfinished"  # the error of an operation that had not ended when the drill did
_WARM_UP = 12
_LOOK_UP_EVERY_NS = 50_000_000
_CATCH_UP = 3
_LONGEST_TEXT = 300

Connect = Callable[[], tuple[Client, Watch]]


@dataclass(frozen=True)
class Load:
    """What one of a client's lives does: `rate` operations a second, so many of them writes and appends of 1.

    `keys`: SET writes that many keys over and over; 0: every SET has a key of its own, so that no write can hide the
    loss of another. `tag` stands in every key and value, and nowhere else; `shard_of` has the shard of every slot.
    """

    client: str
    part: Part
    rate: float
    tag: str
    shard_of: bytes
    sets: float = 0.4
    appends: float = 0.2
    keys: int = 0


@dataclass(slots=True)
class _Call:
    """An operation under way."""

    kind: Kind
    key: str
    value: str | None
    due_ns: int
    begun_ns: int


class Generator:
    """Runs a load until it is stopped; the operations that ended come out of `done`.

    `said` has what the last error of each class said.
    """

    def __init__(self, load: Load, connect: Connect, seed: int) -> None:
        self.load = load
        self.done: deque[Operation] = deque()
        self.said: dict[str, str] = {}
        self._connect = connect
        self._shared: tuple[Client, Watch] | None = None
        self._shards = sorted(set(load.shard_of))
        self._random = random.Random(f"{seed}:{load.client}:{load.part}")  # noqa: S311 - which key is read, no secret
        self._acknowledged: deque[str] = deque(maxlen=_RECENT)
        self._period_ns = 1e9 / load.rate
        self._zero_ns = self._from_ns = self._begun_ns = 0
        self._stop_ns: int | None = None
        self._begins = False
        self._turn, self._count = threading.Lock(), threading.Lock()
        self._next = self._workers = self._spare = 0
        self._pending: dict[int, _Call] = {}

    def open(self) -> None:
        """Connect, unless every operation does so itself."""
        if self.load.part is not Part.FRESH:
            self._shared = self._connect()

    def warm_up(self, zero_ns: int) -> None:
        """Do a few operations now, so that an idle client has connections to lose."""
        self._zero_ns = zero_ns
        for number in range(_WARM_UP):
            self._call(number, self._take(number, time.monotonic_ns()))
        self._next = _WARM_UP

    def begin(self, zero_ns: int, from_ns: int) -> None:
        """Start: the next operation is due at `from_ns` (monotonic); times are told from `zero_ns`."""
        self._zero_ns, self._from_ns, self._first = zero_ns, from_ns, self._next
        self._begins = True
        for _ in range(_SPARE_WORKERS):
            self._spawn()

    def stop(self) -> None:
        """Begin only what is due by now."""
        self._stop_ns = time.monotonic_ns()

    @property
    def busy(self) -> bool:
        """Return whether anything is still under way, or due and not begun."""
        return self._begins or bool(self._pending)

    def give_up(self) -> None:
        """Note what is still under way as indeterminate: its answer is no longer waited for."""
        self._stop_ns = 0
        with self._turn:  # whoever was about to begin something has, or will not
            now_ns = time.monotonic_ns()
        for number in list(self._pending):
            if call := self._pending.pop(number, None):
                self._note(call, Trace(b"", 1, 1, outcome=Outcome.INDETERMINATE, error=UNFINISHED), now_ns)

    def _spawn(self) -> None:
        with self._count:
            if self._workers >= MAX_WORKERS:
                return
            self._workers += 1
            self._spare += 1
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._turn:
                number = self._next
                due_ns = self._from_ns + int((number - self._first) * self._period_ns)
                # After this machine was late, what is overdue begins at three times the rate: all of it at once would
                # have hundreds of threads fight for the interpreter, and make us later still.
                if not self._wait(due_ns, self._begun_ns + self._period_ns / _CATCH_UP):
                    self._begins = False
                    return
                call = self._take(number, due_ns)
                self._next = number + 1
                self._begun_ns = call.begun_ns
                with self._count:
                    self._spare -= 1
                    lonely = self._spare < 1
            if lonely:
                self._spawn()
            self._call(number, call)
            with self._count:
                self._spare += 1

    def _wait(self, due_ns: int, not_before_ns: float) -> bool:
        begin_ns = max(due_ns, not_before_ns)
        while True:
            if self._stop_ns is not None and due_ns >= self._stop_ns:
                return False
            left_ns = begin_ns - time.monotonic_ns()
            if left_ns <= 0:
                return True
            time.sleep(min(left_ns, _LOOK_UP_EVERY_NS) / 1e9)

    def _take(self, number: int, due_ns: int) -> _Call:
        call = self._pending[number] = _Call(*self._choose(number), due_ns, time.monotonic_ns())
        return call

    def _call(self, number: int, call: _Call) -> None:
        try:
            client, watch = self._shared or self._connect()
        except Exception as error:  # noqa: BLE001 - whatever a library raises is an outcome
            trace = Trace(b"", outcome=Outcome.FAILED, error=type(error).__name__, text=str(error))
            ended_ns = time.monotonic_ns()
        else:
            with watch(call.key) as trace:
                if call.kind is Kind.GET:
                    call.value = client.get(call.key)
                elif call.kind is Kind.SET:
                    client.set(call.key, call.value or "")
                else:
                    client.append(call.key, call.value or "")
            ended_ns = time.monotonic_ns()
            if self._shared is None:
                with suppress(Exception):
                    client.close()
        if self._pending.pop(number, None):
            self._note(call, trace, ended_ns)

    def _note(self, call: _Call, trace: Trace, ended_ns: int) -> None:
        if trace.text:
            self.said[trace.error] = trace.text[:_LONGEST_TEXT]
        if call.kind is Kind.SET and trace.outcome is Outcome.OK:
            self._acknowledged.append(call.key)
        due, begun, ended = ((at - self._zero_ns) // 1000 for at in (call.due_ns, call.begun_ns, ended_ns))
        self.done.append(
            Operation(
                self.load.client, self.load.part, call.kind, call.key, call.value,
                self.load.shard_of[key_slot(call.key.encode())], due, begun, ended,
                trace.outcome, trace.error, trace.moved, trace.asked, trace.attempts,
            )
        )  # fmt: skip

    def _choose(self, number: int) -> tuple[Kind, str, str | None]:
        """Return what to do next, with a value that is written nowhere else."""
        load, dice = self.load, self._random.random()
        if dice >= load.sets + load.appends and (known := self._in_turn(number, self._acknowledged)):
            return Kind.GET, self._random.choice(known), None
        value = f"{load.tag}-{load.part}-{number}"
        if dice < load.appends:
            kind, key = Kind.APPEND, f"drill:{load.tag}:{load.part}:list:{number % _LISTS}"
        else:
            kind, key = Kind.SET, f"drill:{load.tag}:{load.part}:{number % load.keys if load.keys else number}"
        names = itertools.chain([key], (f"{key}.{other}" for other in itertools.count()))
        return kind, next(name for name in names if self._in_turn(number, [name])), value

    def _in_turn(self, number: int, keys: Sequence[str]) -> Sequence[str]:
        """Return those keys that operation `number` may go to.

        Fresh connections are few, and what was asked last of a shard tells whether they work: they take the shards in
        turn, where chance would leave one out for seconds.
        """
        if self.load.part is not Part.FRESH:
            return keys
        shard_of = self.load.shard_of
        shard = self._shards[number % len(self._shards)]
        return [key for key in keys if shard_of[key_slot(key.encode())] == shard]
