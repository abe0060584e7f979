"""The record of a sale: every request, what happened to the servers, what was there at the end; a file to judge again.

The file is gzip of JSON lines, each an array whose first word says what it is: `sale` (the header), `request`, `event`,
`remains`, and `end`, without which the file is not whole.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from understudy.drill.history import Event
from understudy.errors import IntegrityError, NotFoundError, UnreachableError

OPERATOR = -1
_NEEDED = {
    "zero_ms", "ended_s", "seats", "settings", "rates", "replicas", "layout", "faults", "loses", "notes",
    "buyers", "unfinished", "troubles", "lag_s", "servers", "when", "allowed",
}  # fmt: skip
CHANGES = frozenset({"join", "enter", "leave", "hold", "release", "confirm"})
"""What changes something, and is nothing unless it is acknowledged. `status`, `seats` and `event` only look."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request and its answer. Times are seconds since the sale's zero. Repetitions of a request have its `key`.

    `status` is 0 where no answer came. `code` is that of a refusal, or what became of the connection. `said` is what
    the answer said and is looked at again:

    - join: `ticket` (its id), `position`; status: `state`, `position`
    - enter: `token` (a digest of it), `id` (its jti)
    - hold: `seats`, `remaining`, `expires_s`; release and confirm: `seats`, `remaining`
    - seats: `total`, `remaining`, `map` (a letter for each seat, in the order of the names: A, H, S)
    - event: `counts`, as the contract names them
    """

    buyer: int
    kind: str
    key: str
    gateway: int
    begun_s: float
    ended_s: float
    status: int
    code: str = ""
    said: dict[str, Any] = field(default_factory=dict)
    asked: tuple[str, ...] = ()  # the seats that were meant

    @property
    def acknowledged(self) -> bool:
        """Return whether it was done, and said so."""
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Return whether it was answered that nothing was done."""
        return 400 <= self.status < 500

    @property
    def unknown(self) -> bool:
        """Return whether nobody can say if it was done: no answer came, or one that says just that."""
        return not self.acknowledged and not self.refused


@dataclass(frozen=True)
class Remains:
    """An event as the servers hold it in the end, as `waitingroom/lua/shared.lua` names it. Times are ms since 1970."""

    event: dict[str, str]
    waiting: dict[str, int]
    admitted: dict[str, int]
    inside: dict[str, int]
    status: dict[str, str]
    holder: dict[str, str]
    holds: dict[str, int]
    held: dict[str, list[str]]
    inventory: int
    tickets: dict[str, dict[str, str]]
    streams: list[str]  # the ticket ids in the event's stream
    read_ms: int


@dataclass
class Sale:
    """Everything that is judged.

    `header` holds `event` (its name), `zero_ms` (the wall clock at 0 s), `ended_s` (when the last buyer was done),
    `seats` (their names), `settings` (the event's), `rates` (rows of: from when, in seconds, and admissions a second),
    `replicas` (that acknowledge), `layout`, `faults`, `loses` (whether one of them can cost what no replica had),
    `notes`.
    """

    header: dict[str, Any]
    requests: list[Request] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    remains: Remains | None = None


def write(path: Path, sale: Sale) -> None:
    """Write a sale down.

    Raises:
        UnreachableError: it cannot be written there.
    """
    try:
        with gzip.open(path, "wb", compresslevel=3) as file:
            file.write(orjson.dumps(["sale", sale.header]) + b"\n")
            for request in sale.requests:
                file.write(orjson.dumps(["request", *_cells(request)]) + b"\n")
            for event in sale.events:
                file.write(orjson.dumps(["event", *astuple(event)]) + b"\n")
            if sale.remains:
                file.write(orjson.dumps(["remains", asdict(sale.remains)]) + b"\n")
            file.write(orjson.dumps(["end"]) + b"\n")
    except OSError as error:
        raise UnreachableError(f"writing the sale's record {path}", error.strerror or str(error)) from error


def read(path: Path) -> Sale:
    """Read what `write` wrote.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: it is no sale's record, or not all of it.
    """
    doing = f"reading the sale's record {path}"
    try:
        with gzip.open(path, "rb") as file:
            rows = [orjson.loads(line) for line in file]
        if not rows or rows[0][0] != "sale" or rows[-1] != ["end"] or _NEEDED - rows[0][1].keys():
            raise IntegrityError(doing, "it is not a whole record of a sale")
        sale = Sale(rows[0][1])
        for word, *cells in rows[1:-1]:
            if word == "request":
                sale.requests.append(_request(*cells))
            elif word == "event":
                sale.events.append(Event(*cells))
            elif word == "remains":
                sale.remains = Remains(**cells[0])
    except FileNotFoundError:
        raise NotFoundError(doing, "there is no such file") from None
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError) as error:
        raise IntegrityError(doing, f"it is damaged, or no sale's record ({error})") from error
    return sale


def _request(*cells: Any) -> Request:
    made = Request(*cells)
    return replace(made, asked=tuple(made.asked))


def _cells(one: Request) -> tuple[Any, ...]:
    return (
        one.buyer, one.kind, one.key, one.gateway, one.begun_s, one.ended_s, one.status, one.code, one.said, one.asked,
    )  # fmt: skip
