"""The names of an event's keys. What each holds is written in `lua/shared.lua`."""

from __future__ import annotations

import base64
import hashlib

EVENTS = "waitingroom:events"  # set: the names of all events
CHECKED = "waitingroom:check:"  # and a number: never there; a write to it tells whether the server takes any
LIBRARIES = "waitingroom:libraries"  # zset: name of a function library -> ms when a gateway last used it


def line(event: str) -> tuple[str, str, str]:
    """Return the keys that a place in the line is read from."""
    return f"event:{{{event}}}", f"waiting:{{{event}}}", f"seen:{{{event}}}"


def room(event: str) -> tuple[str, ...]:
    """Return the eleven keys of the line and the seats, in the order that `named` in `lua/shared.lua` reads them."""
    tag = f"{{{event}}}"
    return (
        *line(event), f"admitted:{tag}", f"inside:{tag}", f"stream:event:{tag}", f"seat:status:{tag}",
        f"seat:holder:{tag}", f"holds:{tag}", f"held:{tag}", f"inventory:{tag}",
    )  # fmt: skip


def ticket(event: str, ticket_id: str) -> str:
    """Return the key of one ticket."""
    return f"ticket:{{{event}}}:{ticket_id}"


def user(event: str, name: str) -> str:
    """Return the key of a user's stream."""
    return f"stream:event:{{{event}}}:user:{name}"


def dedupe(event: str, key: str) -> str:
    """Return the key of the first answer to a join; `key` is the client's own."""
    return f"dedupe:{{{event}}}:{key}"


def answer(event: str, operation: str, ticket_id: str, key: str) -> str:
    """Return the key of the first answer to an operation on seats; `key` is the client's own."""
    return f"answer:{{{event}}}:{operation}:{ticket_id}:{key}"


def hold(event: str, seat: str) -> str:
    """Return the key that says who holds a seat."""
    return f"hold:seat:{{{event}}}:{seat}"


def ticket_id(secret: str) -> str:
    """Return the id under which the server knows a ticket: it never learns the ticket itself."""
    return base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()[:16]).decode().rstrip("=")
