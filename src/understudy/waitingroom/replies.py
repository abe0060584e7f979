"""Reads the arrays that the operations answer with into values, and writes settings as the fields they are kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.valkey.wire import Reply
from understudy.waitingroom.values import Counts, Event, EventSettings, Joined, Place, SeatMap, Seats

# operations whose first argument is no deadline: reads, and work that is right whenever it is done
UNTIMED = frozenset({"status", "heartbeat", "event", "tick", "purge"})
# setting -> its field in event:{E}, and how many of the field's units are one of the setting's
_FIELDS = {
    "rate_per_s": ("rate", 1000), "burst": ("burst", 1), "max_inside": ("max_inside", 1),
    "max_waiting": ("max_waiting", 1), "entry_ttl_s": ("entry_ms", 1000), "session_ttl_s": ("session_ms", 1000),
    "hold_ttl_s": ("hold_ms", 1000), "abandon_after_s": ("abandon_ms", 1000), "dedupe_ttl_s": ("dedupe_ms", 1000),
    "tickets_per_user": ("tickets_per_user", 1), "seats_per_ticket": ("seats_per_ticket", 1),
}  # fmt: skip


def fields_of(settings: Mapping[str, Any]) -> list[str | int]:
    """Return fields and values, flat. Times and rates are kept as whole thousandths, at least one where not 0."""
    flat: list[str | int] = []
    for name, value in settings.items():
        field, units = _FIELDS[name]
        flat += [field, max(round(value * units), 1 if value else 0)]
    return flat


def _settings(fields: Mapping[str, str]) -> EventSettings:
    kept = {name: (int(fields[field]), units) for name, (field, units) in _FIELDS.items()}
    return EventSettings.model_validate({name: n / units if units > 1 else n for name, (n, units) in kept.items()})


def joined(event: str, answer: Sequence[Reply]) -> Joined:
    """Read an answer of `join`; a replayed one comes as it was kept, as text."""
    sid, ticket, user, position, user_position, waiting, rate, *replayed = answer
    return Joined(
        ticket.decode(), event, user.decode(), sid.decode(),
        int(position), int(user_position), int(waiting), int(rate) / 1000, bool(replayed),
    )  # fmt: skip


def place(event: str, answer: Sequence[Reply]) -> Place:
    """Read one place of an answer of `status`."""
    state, event_state, position, waiting, rate, called, enter_within_ms, seen_ago_ms, abandon_ms = answer
    return Place(
        event, state.decode(), event_state.decode(), position, waiting, rate / 1000, called,
        enter_within_ms, seen_ago_ms, abandon_ms,
    )  # fmt: skip


def event(name: str, answer: Sequence[Reply]) -> Event:
    """Read an answer of `event`."""
    flat, counts, now_ms = answer
    fields = {key.decode(): value.decode() for key, value in zip(flat[::2], flat[1::2], strict=True)}
    waiting, admitted, inside, held, remaining, stream_length, pending = counts
    since = ("sold", "called", "entered", "left", "expired", "abandoned", "aged", "ended")
    ever = {one: int(fields[one]) for one in since}
    return Event(
        name, fields["state"], _settings(fields),
        Counts(
            waiting=waiting, admitted=admitted, inside=inside, held=held, remaining=remaining,
            seats_total=int(fields["seats"]), joined=int(fields["seq"]), stream_length=stream_length,
            pending=pending, **ever,
        ),
        now_ms,
    )  # fmt: skip


def seats(event: str, named: Sequence[str], operation: str, answer: Sequence[Reply], now_ms: int) -> Seats:
    """Read an answer of `hold`, `release` or `confirm`."""
    expires_ms = int(answer[1]) if operation == "hold" else 0
    return Seats(event, tuple(named), int(answer[0]), expires_ms, now_ms, replayed=answer[-1] == b"replayed")


def seat_map(event: str, status: Sequence[Reply], left: Reply) -> SeatMap:
    """Read the state of every seat."""
    states = {seat.decode(): state.decode() for seat, state in zip(status[::2], status[1::2], strict=True)}
    return SeatMap(event, len(states), int(left), states)
