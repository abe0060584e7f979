"""One try of the recovery test: a write and a read back on every shard, as operations of a drill's history."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from understudy.drill.operation import Kind, Operation, Outcome, Part
from understudy.probe.connection import Connection
from understudy.probe.plan import Lane, Plan
from understudy.valkey.connect import Client

CLIENT = "probe"
NO_ANSWER = "NoAnswer"


@dataclass(frozen=True)
class Attempt:
    """A try of one client: what it did, and the first error in words."""

    part: Part
    number: int
    operations: tuple[Operation, ...]
    why: str = ""

    @property
    def ok(self) -> bool:
        """Return whether every shard took the write and gave it back."""
        return bool(self.operations) and all(one.outcome is Outcome.OK for one in self.operations)

    @property
    def error(self) -> str:
        """Return the class of the first error; empty where there was none."""
        return next((one.error for one in self.operations if one.error), "")


class Tries:
    """Makes tries; `clock_us` counts from the beginning of the test."""

    def __init__(self, connection: Connection, plan: Plan, clock_us: Callable[[], int]) -> None:
        self._connection = connection
        self._plan = plan
        self._now = clock_us
        self._under_way = 0
        self._changed = threading.Condition()
        self._ended = False

    def end(self) -> None:
        """Have tries under way write to no further shard; they go on in their threads when nobody waits for them."""
        self._ended = True

    def until_quiet(self, within_s: float) -> None:
        """Wait until no try writes any longer, so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, within_s)

    def long_lived(self, number: int, due_us: int) -> Attempt:
        """Try with the client under test."""
        try:
            client = self._connection.long_lived()
        except Exception as error:  # noqa: BLE001 - whatever it raises is what an application would get
            return self.given_up(Part.BUSY, number, due_us, type(error).__name__, self._why(error))
        return self._with(client, Part.BUSY, number, due_us)

    def fresh(self, number: int, due_us: int) -> Attempt:
        """Try with a client made for it."""
        try:
            with self._connection.fresh() as client:
                return self._with(client, Part.FRESH, number, due_us)
        except Exception as error:  # noqa: BLE001
            return self.given_up(Part.FRESH, number, due_us, type(error).__name__, self._why(error))

    def given_up(self, part: Part, number: int, due_us: int, error: str, why: str) -> Attempt:
        """Return a try of which no shard gave an answer, though it may have taken the write."""
        return Attempt(part, number, tuple(
            self._operation(part, lane, Kind.SET, f"{part}-{number}", due_us, due_us, Outcome.INDETERMINATE, error)
            for lane in self._plan.lanes
        ), why)  # fmt: skip

    def _with(self, client: Client, part: Part, number: int, due_us: int) -> Attempt:
        with self._changed:
            self._under_way += 1
        try:
            return self._on_each_shard(client, part, number, due_us)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _on_each_shard(self, client: Client, part: Part, number: int, due_us: int) -> Attempt:
        done: list[Operation] = []
        why = ""
        for lane in self._plan.lanes:
            if self._ended:
                break
            key, value = self._plan.key(lane, part), f"{part}-{number}"
            kind, read, begun = Kind.SET, None, self._now()
            try:
                client.set(key, value, ex=self._plan.expire_s)
                done.append(self._operation(part, lane, Kind.SET, value, due_us, begun, Outcome.OK))
                kind, begun = Kind.GET, self._now()
                read = str(client.get(key) or "") or None
                done.append(self._operation(part, lane, Kind.GET, read, due_us, begun, Outcome.OK))
            except Exception as error:  # noqa: BLE001
                # The library tries again by itself: whether a write of its was sent is not known. A read has no effect.
                outcome = Outcome.INDETERMINATE if kind is Kind.SET else Outcome.FAILED
                told = value if kind is Kind.SET else None
                done.append(self._operation(part, lane, kind, told, due_us, begun, outcome, type(error).__name__))
                why = why or self._why(error)
        return Attempt(part, number, tuple(done), why)

    def _operation(
        self,
        part: Part,
        lane: Lane,
        kind: Kind,
        value: str | None,
        due: int,
        begun: int,
        outcome: Outcome,
        error: str = "",
    ) -> Operation:
        key = self._plan.key(lane, part)
        return Operation(CLIENT, part, kind, key, value, lane.shard, due, begun, self._now(), outcome, error)

    def _why(self, error: Exception) -> str:
        return self._connection.explained("trying", error).why


def read_final(connection: Connection, plan: Plan) -> dict[str, str | list[str] | None] | None:
    """Return what stands in every key at the end, and remove it; None where that cannot be read."""
    try:
        with connection.fresh() as client:
            found = {key: client.get(key) for key in plan.keys}
            for key in plan.keys:
                client.delete(key)
    except Exception:  # noqa: BLE001 - not read is an answer of its own
        return None
    return {key: str(value) if value is not None else None for key, value in found.items()}


def microseconds_since(began: float) -> Callable[[], int]:
    """Return a clock that counts from a moment of `time.monotonic`."""
    return lambda: int((time.monotonic() - began) * 1_000_000)
