"""Every fault in every layout that it names: it takes effect, is undone, and leaves a lab that becomes whole."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from breaking import EXPECTED, KEYS, fill, values
from support import eventually
from typist import typist
from understudy import lab
from understudy.drill.chosen import chosen, shards_of
from understudy.drill.fault import Fault, Scene
from understudy.drill.faults import FAULTS, params_for
from understudy.errors import UnreachableError
from understudy.lab import Lab, guardian
from understudy.lab.layout import of_kind
from understudy.lab.server import LabNode
from understudy.lab.talk import fields
from understudy.valkey.router import Router
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import Wire

STARTS = {
    "standalone": lab.standalone,
    "sentinel": lambda: lab.sentinel(password="secret"),
    "cluster": lambda: lab.cluster(node_timeout_ms=1000),
    "enterprise": lambda: lab.enterprise(node_timeout_ms=1000, password="secret"),
}
# What makes a fault quick, or visible.
SET = {"slow": ["ms=200"], "restart": ["for_s=0.1"], "migrate": ["slots=5"]}
PAIRS = [(layout, name) for layout in STARTS for name, fault in FAULTS.items() if layout in fault.layouts]
# After how many seconds a fault is interrupted in the test of that, and in which layout.
INTERRUPTED_S = {
    "kill": ("cluster", 0.005), "pause": ("cluster", 0.001), "restart": ("cluster", 0.05),
    "failover": ("cluster", 0.02),
    "sentinel-failover": ("sentinel", 0.1), "partition": ("cluster", 0.05), "slow": ("cluster", 0.04),
    "replace": ("cluster", 2.5), "migrate": ("cluster", 0.02), "full-memory": ("cluster", 0.002),
    "kill-clients": ("cluster", 0.001),
}  # fmt: skip
# A signal may come between the making of a socket and the `with` that closes it; Python then closes it, and says so.
BETWEEN_TWO_LINES = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


class InBetweenError(Exception):
    """What comes in between."""


@pytest.fixture(scope="module")
def labs() -> Iterator[Callable[[str], Lab]]:
    """Labs of this file's own, each started when it is first asked for: their nodes are replaced."""
    started: dict[str, Lab] = {}
    with ExitStack() as stack:

        def running(layout: str) -> Lab:
            if layout not in started:
                started[layout] = stack.enter_context(STARTS[layout]())
                for sentinel in of_kind(started[layout].nodes, "sentinel"):  # how long they take is not tested here
                    started[layout].call(sentinel, "SENTINEL", "DEBUG", "INFO-PERIOD", 500)
            return started[layout]

        yield running


@pytest.fixture
def whole(request: pytest.FixtureRequest, labs: Callable[[str], Lab]) -> Lab:
    """A lab, whole and with a few keys on every shard."""
    running = labs(request.param)
    running.heal()
    fill(running)
    return running


def _inside(one: Lab) -> Target:
    return one.target(Mode.OSS_CLUSTER if one.layout == "enterprise" else None)


def children() -> set[int]:
    """What this process started, itself or as a fork of the typist."""
    starters = [os.getpid(), *([forks.pid] if (forks := typist()) else [])]
    tasks = [task for pid in starters for task in Path(f"/proc/{pid}/task").iterdir()]
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def strangers(one: Lab, before: set[int]) -> set[int]:
    """Living processes of ours that are neither the lab's nor were there before."""
    others = children() - before - {node.pid for node in one.nodes}
    return {pid for pid in others if (process := guardian.identify(pid)) and guardian.state(process) != "dead"}


def scene_of(one: Lab, fault: Fault, undo: ExitStack, *words: str, given: list[str] | None = None) -> Scene:
    params = params_for(fault, SET.get(fault.name, []) if given is None else given)
    return Scene(one, chosen(one, words or [fault.nodes]), undo, params)


def primaries(one: Lab) -> list[str]:
    return [shard.primary.name for shard in shards_of(one) if shard.primary]


def slots(one: Lab) -> list[str]:
    return [line.split()[-1] for line in str(one.call(data(one)[0], "CLUSTER", "NODES")).splitlines() if "-" in line]


def data(one: Lab) -> list[LabNode]:
    return of_kind(one.nodes, "valkey")


def ping_s(one: Lab, node: LabNode) -> float:
    began = time.monotonic()
    one.call(node, "PING")
    return time.monotonic() - began


class Effect:
    """What can be seen of a fault: `look` is called before it, `seen` when it is in effect, `undone` afterwards."""

    def __init__(self, one: Lab, nodes: tuple[LabNode, ...]) -> None:
        self.lab, self.nodes = one, nodes
        self.primaries = primaries(one)
        self.addresses = {node.address for node in data(one)}
        self.slots = self.owned()
        self.wire = Wire(nodes[0].inner, Target((nodes[0].inner,), password=one.options.password))

    def owned(self) -> int:
        if self.lab.layout not in {"cluster", "enterprise"}:
            return 0
        with Router(_inside(self.lab)) as router:
            return next(
                (len(shard.slots) for shard in router.topology.shards
                 if shard.primary and shard.primary.address == self.nodes[0].address), 0
            )  # fmt: skip

    def oom(self) -> bool:
        with Wire(self.nodes[0].inner, Target((self.nodes[0].inner,), password=self.lab.options.password)) as wire:
            name = next(f"key:{i}" for i in range(KEYS) if self._own(wire, f"key:{i}"))
            big = f"{{{name}}}:big"
            return "OOM" in str(wire.pipeline([("SET", big, "x" * 500_000), ("DEL", big)])[0])

    @staticmethod
    def _own(wire: Wire, key: str) -> bool:
        return "MOVED" not in str(wire.pipeline([("GET", key)])[0])

    def hung_up(self) -> bool:
        try:
            self.wire.call("PING")
        except UnreachableError:
            return True
        return False

    def cut_off(self) -> bool:
        """Whether another server has noticed; a client must still be answered."""
        node = self.nodes[0]
        assert self.lab.call(node, "PING") == "PONG"
        if self.lab.layout == "sentinel":
            said = fields(self.lab.call("sentinel-1", "SENTINEL", "MASTER", "mymaster"))
            return "s_down" in said["flags"] or str(node.address.port) != said["port"]
        other = next(one for one in data(self.lab) if one.name != node.name)
        said = str(self.lab.call(other, "CLUSTER", "NODES"))
        return any("fail" in line and str(node.address) in line for line in said.splitlines())

    def seen(self, name: str) -> bool:
        now = [self.lab.node(node) for node in self.nodes] if name != "replace" else []
        return {
            "kill": lambda: all(node.state == "dead" for node in now),
            "pause": lambda: all(node.state == "paused" for node in now),
            "restart": lambda: [node.pid for node in now] != [node.pid for node in self.nodes],
            "failover": lambda: primaries(self.lab) != self.primaries,
            "sentinel-failover": lambda: primaries(self.lab) != self.primaries,
            "partition": self.cut_off,
            "slow": lambda: ping_s(self.lab, self.nodes[0]) >= 0.2,
            "replace": lambda: not self.addresses & {node.address for node in data(self.lab)},
            "migrate": lambda: self.owned() == self.slots - 5,
            "full-memory": self.oom,
            "kill-clients": self.hung_up,
        }[name]()

    def undone(self, name: str) -> bool:
        return {
            "failover": lambda: primaries(self.lab) == self.primaries,
            "slow": lambda: ping_s(self.lab, self.nodes[0]) < 0.2,
            "migrate": lambda: self.owned() == self.slots,
            "full-memory": lambda: not self.oom(),
        }.get(name, lambda: True)()


@contextmanager
def interrupted(after_s: float) -> Iterator[None]:
    """Let a signal come in between, as Ctrl-C does; what takes less long is not interrupted."""

    armed = False

    def raise_it(*_: object) -> None:
        if armed:
            raise InBetweenError

    before = signal.signal(signal.SIGUSR2, raise_it)
    timer = threading.Timer(after_s, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2))
    try:
        timer.start()
        with contextlib.suppress(InBetweenError):
            try:
                armed = True  # not before: starting the timer may take as long as it waits
                yield
            finally:
                armed = False
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(("whole", "name"), PAIRS, indirect=["whole"])
def test_a_fault_takes_effect_and_is_undone(whole: Lab, name: str) -> None:
    fault = FAULTS[name]
    before = children()
    with ExitStack() as undo:
        scene = scene_of(whole, fault, undo)
        effect = Effect(whole, scene.nodes)
        undo.callback(effect.wire.close)
        fault.prepare(scene)
        assert name == "kill-clients" or not effect.seen(name)
        assert fault.apply(scene)
        assert eventually(lambda: effect.seen(name), within_s=15)
    whole.heal()
    assert not strangers(whole, before)
    assert all(node.state == "running" for node in whole.nodes)
    assert effect.undone(name) or name in {"restart", "kill"}
    if name not in {"kill", "restart"}:  # a server without persistence that is back too early is empty
        assert values(whole) == EXPECTED


def interrupt(one: Lab, name: str, after_s: float, *given: str) -> None:
    """Begin a fault, interrupt it, and see that the lab becomes whole and nothing is left."""
    fault = FAULTS[name]
    before = children()
    with ExitStack() as undo:
        scene = scene_of(one, fault, undo, given=[*SET.get(name, []), *given])
        with interrupted(after_s):
            fault.prepare(scene)
            fault.apply(scene)
    one.heal()
    assert eventually(lambda: not strangers(one, before))
    assert all(node.state == "running" for node in one.nodes)
    assert len(one.nodes) == len({node.address for node in one.nodes})


@BETWEEN_TWO_LINES
@pytest.mark.parametrize(
    ("whole", "name", "after_s"),
    [(layout, name, after_s) for name, (layout, after_s) in INTERRUPTED_S.items()],
    indirect=["whole"],
)
def test_a_fault_that_is_interrupted_half_way_is_undone(whole: Lab, name: str, after_s: float) -> None:
    interrupt(whole, name, after_s)


@BETWEEN_TWO_LINES
@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("whole", ["cluster"], indirect=True)
def test_faults_that_are_interrupted_at_any_moment_are_undone(whole: Lab, seed: int) -> None:
    randomness = random.Random(seed)
    for name in ("replace", "migrate", "partition", "slow", "failover", "replace"):
        given = [f"at_once={randomness.choice(['true', 'false'])}"] if name == "replace" else []
        after_s = randomness.uniform(0, 6 if name == "replace" else 0.1)
        interrupt(whole, name, after_s, *given)
        lost = {i: value for i, value in enumerate(values(whole)) if value != EXPECTED[i]}
        assert not lost, (name, given, after_s, lost)
