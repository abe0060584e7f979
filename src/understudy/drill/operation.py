"""One operation of a client under test: what it did, when it was due, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What was done: `SET key value`, `GET key`, or `RPUSH key value` (which must not happen twice)."""

    SET = "set"
    GET = "get"
    APPEND = "append"


class Outcome(StrEnum):
    """How it ended for the one who called.

    `failed` means that it cannot have had an effect: nothing was sent, or every try was answered by a refusal.
    Where any try was sent and never answered it is `indeterminate`: it may have had its effect, or may have it later.
    """

    OK = "ok"
    FAILED = "failed"
    INDETERMINATE = "indeterminate"


class Part(StrEnum):
    """Which of a client's three lives: at work all the time, silent during the fault, or made anew for each call."""

    BUSY = "busy"
    IDLE = "idle"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a client. Times are microseconds since the drill's zero (`History.header["zero"]`).

    `value` is what was written, unique in the whole drill, or what was read (None: nothing was there). `shard`
    counts from 0: who served the key's slot when the drill began. `error` is a class name of the client's library,
    or the first word of the server's refusal. `moved` and `asked` count redirections, `attempts` the commands sent.
    """

    client: str
    part: Part
    kind: Kind
    key: str
    value: str | None
    shard: int
    due_us: int
    begun_us: int
    ended_us: int
    outcome: Outcome
    error: str = ""
    moved: int = 0
    asked: int = 0
    attempts: int = 1
