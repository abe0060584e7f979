"""Histories for tests: of a store that does everything right, drawn by hypothesis, and made by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from understudy.drill.history import Event, History
from understudy.drill.operation import Kind, Operation, Outcome, Part

CLIENT = "client"
OK, FAILED, INDETERMINATE = Outcome.OK, Outcome.FAILED, Outcome.INDETERMINATE


def operation(
    kind: Kind,
    key: str,
    value: str | None,
    begun_us: int,
    ended_us: int,
    outcome: Outcome = OK,
    **more: Any,
) -> Operation:
    """Return an operation that was due when it began, unless said otherwise."""
    given = {"client": CLIENT, "part": Part.BUSY, "shard": 0, "due_us": begun_us, **more}
    return Operation(kind=kind, key=key, value=value, begun_us=begun_us, ended_us=ended_us, outcome=outcome, **given)


def history(
    operations: Iterable[Operation],
    final: dict[str, str | list[str] | None] | None = None,
    events: Sequence[Event] = (),
    ended_us: int | None = None,
    clients: Sequence[str] = (CLIENT,),
) -> History:
    """Return a history that ends with its last operation, unless said otherwise."""
    done = list(operations)
    last_us = max((one.due_us for one in done), default=0) if ended_us is None else ended_us
    header = {
        "zero": "2026-11-21T03:34:14.000000Z",
        "ended_us": last_us,
        "shards": 1 + max((one.shard for one in done), default=0),
        "clients": {client: f"what {client} is" for client in clients},
        "rate": 100,
    }
    return History(header, done, list(events), final)


_moments = st.integers(0, 120)


@st.composite
def correct_histories(draw: st.DrawFn, most: int = 60) -> History:
    """Draw what a store does that does everything right, for clients whose operations overlap.

    Every operation has a moment within its time in which it happens, all at once. One that was refused never does. An
    indeterminate one does so then, later, or never; a SET that was sent twice can do so again later.
    """
    specs = draw(
        st.lists(
            st.tuples(
                st.sampled_from(Kind), st.integers(0, 2), _moments, st.integers(0, 40), st.integers(0, 100),
                st.sampled_from([OK, OK, OK, FAILED, INDETERMINATE]), st.one_of(st.none(), _moments),
                st.sampled_from(Part),
            ),
            max_size=most,
        )
    )  # fmt: skip
    operations: list[Operation] = []
    effects: list[tuple[float, int]] = []
    for number, (kind, key, begun_us, took_us, percent, outcome, again_us, part) in enumerate(specs):
        name = f"{'list' if kind is Kind.APPEND else 'register'}-{key}"
        value = None if kind is Kind.GET else f"v{number}"
        sent_twice = kind is Kind.SET and outcome is OK and again_us is not None and percent % 3 == 0
        attempts = 2 if sent_twice else 1
        operations.append(
            operation(kind, name, value, begun_us, begun_us + took_us, outcome, part=part, attempts=attempts)
        )
        if outcome is OK:
            effects.append((begun_us + took_us * percent / 100, number))
        if again_us is not None and (sent_twice or (outcome is INDETERMINATE and kind is not Kind.GET)):
            effects.append((begun_us + again_us, number))
    state: dict[str, Any] = {}
    for _, number in sorted(effects):
        one = operations[number]
        if one.kind is Kind.SET:
            state[one.key] = one.value
        elif one.kind is Kind.APPEND:
            state.setdefault(one.key, []).append(one.value)
        else:
            operations[number] = replace(one, value=state.get(one.key))
    return history(operations, {one.key: state.get(one.key) for one in operations})
