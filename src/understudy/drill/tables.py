"""The tables of a report: rows of cells, from findings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from markupsafe import Markup

from understudy.drill import words
from understudy.drill.findings import ClientFindings, LegFindings
from understudy.pages.figures import count

MOST_EXAMPLES = 3

_CONSISTENCY = (
    ("Acknowledged writes", "acknowledged"), ("Acknowledged writes lost", "lost"),
    ("Appends there more than once", "doubled"), ("Stale reads", "stale"),
    ("Unacknowledged writes with an effect", "survived"),
    ("Refused writes with an effect", "refused_survived"), ("Values that nobody wrote", "unknown_values"),
)  # fmt: skip
_KINDS = {
    "lost": "lost", "doubled": "appended more than once", "stale": "stale reads",
    "survived": "given up or refused, with an effect", "refused_survived": "refused, with an effect",
    "unknown_values": "values that nobody wrote",
}  # fmt: skip
_HARMLESS = {"acknowledged", "survived"}
_AT_THE_END = {"lost", "doubled"}
"""Which of them can be more where not everything could be read."""


def side_by_side(clients: Sequence[ClientFindings], judged: Collection[str]) -> list[tuple[object, ...]]:
    """Return a row for every measure, with a cell for every client."""
    worst = {one.name: words.worst_outage(one) for one in clients}
    measures: list[tuple[str, Callable[[ClientFindings], object]]] = [
        ("Judged", lambda one: "yes" if one.name in judged else "no, only reported"),
        ("Downtime of the busy connection", words.downtime),
        ("Servers took", lambda one: words.duration(w.usable_s) if (w := worst[one.name]) else words.NONE),
        ("Client added to that", lambda one: words.duration(w.client_s) if (w := worst[one.name]) else words.NONE),
        ("All shards well again for good", words.back),
        ("Idle connection", lambda one: _fate(words.fate(one.idle, one))),
        ("A fresh client for each call", lambda one: _fate(words.fate(one.fresh, one))),
        ("Errors", lambda one: f"{one.failed + one.indeterminate:,} of {count(one.operations, 'operation')}"),
        ("Errors after the fault, busy / idle / fresh", words.errors_by_life),
        ("Indeterminate errors", lambda one: f"{one.indeterminate:,}"),
        (
            "Operations began late, before / after the fault (p99)",
            lambda one: f"{words.milliseconds(one.drift_p99_ms)} / {words.milliseconds(one.drift_after_p99_ms)}",
        ),
        ("Redirections that these clients met, MOVED / ASK", lambda one: f"{one.moved:,} / {one.asked:,}"),
    ]
    measures += [(title, partial(_data, name)) for title, name in _CONSISTENCY]
    return [(title, *(cell(one) for one in clients)) for title, cell in measures]


def _fate(text: str) -> str | Markup:
    return _found(text, 1) if text in {words.STUCK, words.BROKEN} else text


def _data(name: str, client: ClientFindings) -> str | Markup:
    """Return what was found of one kind; what must not be stands out."""
    number = getattr(client.consistency, name)
    text = words.checked(client, number) if name in _AT_THE_END else f"{number:,}"
    return text if name in _HARMLESS else _found(text, number)


def _found(text: str, number: int) -> str | Markup:
    return Markup('<strong class="state failed">{}</strong>').format(text) if number else text


def outage_rows(client: ClientFindings) -> list[tuple[str, ...]]:
    """Return a row for every shard that a client went to."""
    return [
        (
            f"{client.name}, shard {one.shard}",
            words.duration(one.gap_s),
            words.moment(one.began_s),
            words.moment(one.ended_s) if one.ended_s is not None else "never",
            words.moment(one.sustained_s) if one.sustained_s is not None else "never",
            words.moment(one.promoted_s),
            words.moment(one.usable_s),
            words.duration(one.client_s),
            f"{one.failed:,}",
        )
        for one in client.outages
    ]


def latency_rows(client: ClientFindings) -> list[tuple[str, ...]]:
    """Return a row for every phase."""
    return [
        (f"{client.name}, {phase}", f"{one.operations:,}",
         *(words.milliseconds(number) for number in (one.p50_ms, one.p99_ms, one.p999_ms, one.max_ms)))
        for phase, one in client.latency.items()
    ]  # fmt: skip


def error_rows(client: ClientFindings) -> list[tuple[str, ...]]:
    """Return a row for every error class and outcome."""
    return [
        (f"{client.name}: {one.error or 'without a name'}", one.outcome, f"{one.count:,}", words.moment(one.first_s),
         words.moment(one.last_s), one.text or words.NONE)
        for one in client.errors
    ]  # fmt: skip


def examples(leg: LegFindings) -> list[tuple[str, list[str], int]]:
    """Return for every client and kind of finding some examples, and how many more there are."""
    found = []
    for client in leg.clients:
        for name, title in _KINDS.items():
            if texts := client.consistency.examples.get(name):
                more = getattr(client.consistency, name) - MOST_EXAMPLES
                found.append((f"{client.name}: {title}", list(texts[:MOST_EXAMPLES]), more))
    return found
