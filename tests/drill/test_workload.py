"""The load: operations are due at fixed times whatever became of others, and nothing of it outlives us."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from support import eventually
from understudy.drill.client import Preset, Trace, Watch
from understudy.drill.clients import find_preset
from understudy.drill.generator import UNFINISHED, Generator, Load
from understudy.drill.history import read_operations
from understudy.drill.operation import Kind, Operation, Outcome, Part
from understudy.drill.workload import Plan, Workload
from understudy.errors import NotFoundError, UnreachableError, UsageError
from understudy.lab import Lab
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import SLOTS

ONE_SHARD = bytes(SLOTS)


class Memory:
    """A client without a server, in which some calls are stuck."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.stuck = threading.Event()
        self.go_on = threading.Event()

    def set(self, key: str, value: str) -> None:
        if self.stuck.is_set():
            self.go_on.wait(20)
        self.values[key] = value

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def append(self, key: str, value: str) -> None:
        raise ConnectionError(key)

    def close(self) -> None:
        pass


@contextmanager
def watch(key: str) -> Iterator[Trace]:
    trace = Trace(key.encode(), attempts=1)
    try:
        yield trace
    except ConnectionError as error:
        trace.outcome, trace.error = Outcome.FAILED, type(error).__name__


def generating(
    memory: Memory, rate: float, part: Part = Part.BUSY, seed: int = 1, shard_of: bytes = ONE_SHARD
) -> Generator:
    def connect() -> tuple[Memory, Watch]:
        return memory, watch

    generator = Generator(Load("one", part, rate, "t", shard_of), connect, seed)
    generator.open()
    return generator


def begun(generator: Generator, count: int) -> list[Operation]:
    """Run until so many operations have ended; return those that have when nothing is under way."""
    zero_ns = time.monotonic_ns()
    generator.begin(zero_ns, zero_ns)
    eventually(lambda: len(generator.done) >= count)
    generator.stop()
    eventually(lambda: not generator.busy)
    return list(generator.done)


def test_operations_are_due_at_fixed_times_and_each_value_is_written_once() -> None:
    done = begun(generating(Memory(), 500), 200)
    due = sorted(one.due_us for one in done)
    assert due == [number * 2000 for number in range(len(due))]
    assert all(one.due_us <= one.begun_us <= one.ended_us for one in done)
    written = [one.value for one in done if one.kind is not Kind.GET]
    assert len(set(written)) == len(written)
    assert {one.kind for one in done} == set(Kind)
    assert {one.outcome for one in done if one.kind is Kind.APPEND} == {Outcome.FAILED}


def test_fresh_connections_take_the_shards_in_turn() -> None:
    shard_of = bytes(slot % 3 for slot in range(SLOTS))
    done = begun(generating(Memory(), 500, Part.FRESH, shard_of=shard_of), 200)
    assert [one.shard for one in sorted(done, key=lambda one: one.due_us)] == [turn % 3 for turn in range(len(done))]
    assert {one.kind for one in done} == set(Kind)


def test_calls_that_are_stuck_delay_no_other() -> None:
    memory = Memory()
    memory.stuck.set()
    generator = generating(memory, 200)
    zero_ns = time.monotonic_ns()
    generator.begin(zero_ns, zero_ns)
    eventually(lambda: len(generator.done) >= 40)  # appends, and what cannot be read: those that are not stuck
    generator.stop()
    quick = sorted(generator.done, key=lambda one: one.due_us)
    assert quick[-1].due_us - quick[0].due_us > 50_000, "they went on while others were stuck"
    assert generator.busy
    generator.give_up()
    stuck = [one for one in generator.done if one.error == UNFINISHED]
    assert stuck
    assert {one.outcome for one in stuck} == {Outcome.INDETERMINATE}
    assert sum(one.kind is Kind.SET for one in stuck) > 5, "the others are those that were just under way"
    memory.go_on.set()
    eventually(lambda: not generator.busy)
    times = [one.due_us for one in generator.done]
    assert len(set(times)) == len(times), "nothing is noted twice"


def test_an_idle_client_warms_up_and_then_waits_to_be_woken() -> None:
    generator = generating(Memory(), 50, Part.IDLE)
    generator.warm_up(time.monotonic_ns())
    assert generator.done
    for seed in range(20):  # which operation is the last of the warm-up is drawn
        generator = generating(Memory(), 200, Part.IDLE, seed)
        generator.warm_up(time.monotonic_ns())
        done = begun(generator, len(generator.done) + 3)
        values = Counter(one.value for one in done if one.kind is not Kind.GET)
        assert max(values.values()) == 1


def plan(target: Target, file: Path, preset: Preset | None = None, rate: float = 100.0) -> Plan:
    mix = {"sets": 0.4, "appends": 0.2}
    return Plan(target, preset or find_preset("recommended", {}), rate, "t", ONE_SHARD, file, 1, mix)


def test_a_process_drives_the_three_lives_of_a_client(valkey_standalone: Lab, tmp_path: Path) -> None:
    advanced: list[int] = []
    work = Workload(plan(valkey_standalone.target(), tmp_path / "ops.gz"), advanced.append)
    try:
        work.await_ready()
        work.go(time.monotonic_ns())
        eventually(lambda: sum(advanced) > 100)
        work.wake()
        before = sum(advanced)
        eventually(lambda: sum(advanced) > before + 100)
        work.stop()
        done = read_operations(work.finish())
    finally:
        work.close()
    assert {one.outcome for one in done} == {Outcome.OK}
    lives = Counter(one.part for one in done)
    assert lives[Part.BUSY] > lives[Part.IDLE] > 0
    assert lives[Part.FRESH] > 0
    assert sum(advanced) == len(done)
    stored = {one.key: one.value for one in done if one.kind is Kind.SET}
    key, value = next(iter(stored.items()))
    assert valkey_standalone.call("node-1", "GET", key) == value


@pytest.mark.parametrize(
    ("preset", "error"),
    [
        (Preset("mine", "redis-py", settings={"warp": 1}), UsageError),
        (Preset("mine", "carrier-pigeon"), UsageError),
    ],
)
def test_a_client_that_cannot_be_made_says_so(
    valkey_standalone: Lab, tmp_path: Path, preset: Preset, error: type[Exception]
) -> None:
    work = Workload(plan(valkey_standalone.target(), tmp_path / "ops.gz", preset), lambda _: None)
    try:
        with pytest.raises(error):
            work.await_ready()
    finally:
        work.close()


def test_a_cluster_that_is_not_there_is_unreachable(tmp_path: Path, port: str) -> None:
    target = Target((Address("127.0.0.1", int(port)),), Mode.OSS_CLUSTER, password="secret-word")
    work = Workload(plan(target, tmp_path / "ops.gz"), lambda _: None)
    try:
        with pytest.raises(UnreachableError) as caught:
            work.await_ready()
    finally:
        work.close()
    assert "secret-word" not in str(caught.value)
    assert not isinstance(caught.value, NotFoundError)


def test_the_process_ends_when_whoever_started_it_is_gone(valkey_standalone: Lab, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy.drill.workload"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    data = plan(valkey_standalone.target(), tmp_path / "ops.gz").as_data()
    process.stdin.write(orjson.dumps(data) + b"\n")
    process.stdin.flush()
    assert orjson.loads(process.stdout.readline()) == {"ready": True}
    process.stdin.write(b"go %d %d\n" % (time.monotonic_ns(), time.monotonic_ns()))
    process.stdin.flush()
    eventually((tmp_path / "ops.gz").exists)
    process.stdin.close()
    process.stdout.close()
    assert process.wait(10) != 0


def test_the_password_is_in_no_argument_and_no_file(tmp_path: Path) -> None:
    from understudy import lab

    with lab.standalone(password="secret-word") as one:
        work = Workload(plan(one.target(), tmp_path / "ops.gz"), lambda _: None)
        try:
            work.await_ready()
            work.go(time.monotonic_ns())
            said = subprocess.check_output(["ps", "-o", "args=", "-p", str(work._process.pid)], text=True)
            assert "understudy.drill.workload" in said
            assert "secret-word" not in said
            work.stop()
            assert b"secret-word" not in gzip.decompress(work.finish().read_bytes())
        finally:
            work.close()
