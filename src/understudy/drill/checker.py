"""What became of the data, proven from the history alone: lost, stale, doubled, resurrected.

The rules and what they cannot know are in `docs/drills.md`. In short: a write that was acknowledged stands before
every operation that began after its end. So where a value is read whose write had ended before another, acknowledged
write began, which itself ended before the read began, no order of events makes that read right. All comparisons are
strict, and an end that nobody knows is infinite: whatever can be explained is not claimed. Time is O(n log n).

Keys belong to one client, nothing is deleted or expires, and the final state was read after the last operation ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from operator import attrgetter

from understudy.drill.findings import Consistency
from understudy.drill.history import Final, History
from understudy.drill.operation import Kind, Operation, Outcome

MOST_EXAMPLES = 10


def check(history: History, client: str) -> Consistency:
    """Return what the history proves about the data of one client, over all of its connections."""
    registers: defaultdict[str, _Register] = defaultdict(_Register)
    lists: defaultdict[str, dict[str, Operation]] = defaultdict(dict)
    for one in history.operations:
        if one.client != client:
            continue
        if one.kind is Kind.APPEND:
            lists[one.key][one.value or ""] = one
        elif one.kind is Kind.SET:
            registers[one.key].writes[one.value or ""] = one
        elif one.outcome is Outcome.OK:
            registers[one.key].reads.append(one)
    proof = _Proof(history.fault_us or 0)
    final = history.final or {}
    for key, register in registers.items():
        _check_register(proof, key, register, final)
    for key, appends in lists.items():
        if key in final:
            _check_list(proof, key, appends, final[key])
    writes = [one for register in registers.values() for one in register.writes.values()]
    writes += [one for appends in lists.values() for one in appends.values()]
    return Consistency(
        checked=history.final is not None and all(one.key in final for one in writes),
        acknowledged=sum(one.outcome is Outcome.OK for one in writes),
        **{kind: len(proof.found[kind]) for kind in KINDS},
        examples={kind: proof.examples(kind) for kind in KINDS if proof.found[kind]},
    )


KINDS = ("lost", "survived", "refused_survived", "stale", "doubled", "unknown_values")


@dataclass
class _Register:
    """One key: who wrote each value, and the reads that were answered."""

    writes: dict[str, Operation] = field(default_factory=dict)
    reads: list[Operation] = field(default_factory=list)


class _Proof:
    """What was found so far: by kind, and by what it is about, the time and what to say of it."""

    def __init__(self, origin_us: int) -> None:
        self.found: dict[str, dict[object, tuple[int, str]]] = {kind: {} for kind in KINDS}
        self._origin_us = origin_us

    def add(self, kind: str, about: object, at_us: int, text: str) -> None:
        """Remember a finding; one about the same thing is one finding."""
        self.found[kind].setdefault(about, (at_us, text))

    def add_effect(self, write: Operation, where: str) -> None:
        """Remember that a write had its effect, if it was not acknowledged."""
        if write.outcome is Outcome.OK:
            return
        about = (write.key, write.value)
        self.add("survived", about, write.begun_us, f"{self.told(write)}, and {where}")
        if write.outcome is Outcome.FAILED:
            self.add("refused_survived", about, write.begun_us, f"{self.told(write)}, and {where}")

    def told(self, one: Operation) -> str:
        """Return an operation in words."""
        ended = {Outcome.OK: "acknowledged", Outcome.FAILED: "refused", Outcome.INDETERMINATE: "given up"}[one.outcome]
        why = f" ({one.error})" if one.error else ""
        return f"{one.kind.upper()} {one.key} {one.value}, {ended} at {self.at(one.ended_us)}{why}"

    def at(self, at_us: int) -> str:
        """Return a time in words."""
        return f"{(at_us - self._origin_us) / 1e6:+.3f} s"

    def examples(self, kind: str) -> tuple[str, ...]:
        """Return the earliest findings of a kind."""
        return tuple(text for _, text in sorted(self.found[kind].values())[:MOST_EXAMPLES])


def _end(write: Operation | None) -> float:
    """Return when a write can have had its effect at the latest.

    One that was sent more than once, other than to follow a redirection, can have it again after it was acknowledged:
    a server that stood still executes later what an earlier try has left in its socket.
    """
    if write is None or write.outcome is not Outcome.OK or write.attempts - write.moved - write.asked > 1:
        return inf
    return write.ended_us


def _check_register(proof: _Proof, key: str, register: _Register, final: Final) -> None:
    acknowledged = [one for one in register.writes.values() if one.outcome is Outcome.OK]
    if key in final:
        there = final[key]
        value = there if there is None or isinstance(there, str) else " ".join(there)
        since = -inf if value is None else _end(_writer(proof, key, register, value, "it was there at the end"))
        shown = "nothing was there" if value is None else f"{value} was there"
        for one in acknowledged:
            if one.begun_us > since:
                proof.add("lost", (key, one.value), one.ended_us, f"{proof.told(one)}; at the end {shown}")
    lost = proof.found["lost"]
    kept = sorted((one for one in acknowledged if (key, one.value) not in lost), key=attrgetter("ended_us"))
    ends = [one.ended_us for one in kept]
    # The write that began last of those that ended so early: if it does not prove a read stale, none of them does.
    latest = list(accumulate(kept, _begun_last))
    for read in register.reads:
        where = f"it was read at {proof.at(read.ended_us)}"
        since = -inf if read.value is None else _end(_writer(proof, key, register, read.value, where, read.ended_us))
        before = bisect_left(ends, read.begun_us)
        if before and latest[before - 1].begun_us > since:
            text = f"GET {key} begun at {proof.at(read.begun_us)} showed {read.value or 'nothing'}, not yet "
            proof.add("stale", id(read), read.begun_us, text + proof.told(latest[before - 1]))


def _begun_last(one: Operation, other: Operation) -> Operation:
    return other if other.begun_us > one.begun_us else one


def _writer(
    proof: _Proof, key: str, register: _Register, value: str, where: str, read_us: float = inf
) -> Operation | None:
    """Return who wrote a value that was seen, and remember if nobody had, or if nobody was told that it was."""
    write = register.writes.get(value)
    if write is None or write.begun_us > read_us:
        proof.add("unknown_values", (key, value), 0, f"{key} held {value}, which nobody had written: {where}")
        return None
    proof.add_effect(write, where)
    return write


def _check_list(proof: _Proof, key: str, appends: dict[str, Operation], there: str | list[str] | None) -> None:
    values = Counter([there] if isinstance(there, str) else there or ())
    for value, times in values.items():
        write = appends.get(value)
        if write is None:
            proof.add("unknown_values", (key, value), 0, f"{key} held {value} at the end, which nobody had appended")
            continue
        proof.add_effect(write, "it was there at the end")
        if times > 1:
            proof.add(
                "doubled", (key, value), write.ended_us, f"{proof.told(write)}; at the end it was there {times} times"
            )
    for value, write in appends.items():
        if write.outcome is Outcome.OK and value not in values:
            proof.add("lost", (key, value), write.ended_us, f"{proof.told(write)}; at the end it was not in the list")
