"""The waiting room in plain Python, as the contract and the heads of the Lua files have it: slow, one at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

ENDED = {"left", "expired", "abandoned", "aged", "ended", "done"}
MICRO = 1_000_000
BREAK_MS = 10_000
ASIDE, NEXT = "set aside", "next of a user"


class RefusedError(Exception):
    """What is answered with {0, CODE}."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass
class Ticket:
    """One place in the line. Only live tickets are anywhere else than in `Reference.tickets`."""

    ticket_id: str
    user: str
    seq: int
    sid: str
    joined: int
    seen: int
    state: str = "waiting"
    enter_by: int = 0
    issued: int = 0
    ends: int = 0
    nth: int = 0
    read: bool = False  # by the group
    owner: str = ""  # who has its entry pending
    deliveries: int = 0

    @property
    def live(self) -> bool:
        return self.state not in ENDED


@dataclass
class Seat:
    """Free without a holder; held until a time; sold for ever."""

    holder: str = ""
    until: int = 0
    sold: bool = False

    @property
    def status(self) -> str:
        return "SOLD" if self.sold else "HELD" if self.holder else "AVAILABLE"


@dataclass
class Reference:
    """One event. Times are in ms, rates in thousandths a second; `now` is set from outside."""

    now: int
    settings: dict[str, int]
    seats: dict[str, Seat]
    state: str = "created"
    tickets: dict[str, Ticket] = field(default_factory=dict)  # in the order of joining
    tokens: int = MICRO * MICRO
    filled: int = 0
    ticked: int = 0
    awake: int = 0
    called: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(["entered", "left", "expired", "abandoned"], 0)
    )
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)  # key of a join -> digest, ticket id
    cursor: int = 0  # of reclaiming: the seq to go on from

    def __post_init__(self) -> None:
        self.filled = self.ticked = self.awake = self.now

    # what there is

    @property
    def line(self) -> list[Ticket]:
        return [one for one in self.tickets.values() if one.state == "waiting"]

    def those(self, state: str) -> list[Ticket]:
        return [one for one in self.tickets.values() if one.state == state]

    @property
    def inventory(self) -> int:
        return sum(one.status == "AVAILABLE" for one in self.seats.values())

    def seats_of(self, holder: str) -> list[str]:
        return [name for name, seat in self.seats.items() if seat.holder == holder]

    def of_user(self, user: str) -> list[Ticket]:
        return [one for one in self.tickets.values() if one.user == user and one.live]

    def burst(self) -> int:
        return (self.settings["burst"] or max(1, math.ceil(self.settings["rate"] / 1000))) * MICRO

    def awake_since(self) -> int:
        return self.now if self.now - self.ticked > BREAK_MS else min(self.awake, self.now)

    def silent(self, ticket: Ticket) -> bool:
        after = self.settings["abandon"]
        return bool(after) and self.now - max(ticket.seen, self.awake_since()) > after

    def expires(self, ticket: Ticket) -> int:
        return max(ticket.enter_by, self.awake_since() + self.settings["entry"])

    def place(self, ticket: Ticket) -> tuple[str, int, int]:
        """State, position, ms to enter."""
        if ticket.state == "waiting":
            return "waiting", self.line.index(ticket) + 1, 0
        if ticket.state == "admitted":
            left = self.expires(ticket) - self.now
            return ("admitted", 0, left) if left > 0 else ("expired", 0, 0)
        return ("ended" if ticket.state == "inside" and ticket.ends <= self.now else ticket.state), 0, 0

    # what time brings

    def fill(self) -> None:
        if self.state == "open":
            self.tokens += max(0, self.now - self.filled) * self.settings["rate"]
        self.tokens = min(self.burst(), self.tokens)
        self.filled = self.now

    def end(self, ticket: Ticket, state: str) -> None:
        ticket.state, ticket.owner = state, ""
        if state in self.counts:
            self.counts[state] += 1
        rest = self.of_user(ticket.user)
        if rest and rest[0].owner == ASIDE:
            rest[0].owner = NEXT

    def free(self, name: str) -> None:
        self.seats[name] = Seat()

    def free_over(self) -> None:
        for name, seat in self.seats.items():
            if seat.status == "HELD" and seat.until <= self.now:
                self.free(name)

    def end_overdue(self) -> None:
        for one in self.those("admitted"):
            if self.expires(one) <= self.now:
                self.end(one, "expired")
        for one in self.those("inside"):
            if one.ends <= self.now:
                self.end(one, "ended")

    def admit(self, most: int) -> None:
        self.fill()
        if self.state != "open" or not self.settings["rate"]:
            return
        room = most
        if self.settings["max_inside"]:
            room = self.settings["max_inside"] - len(self.those("admitted")) - len(self.those("inside"))
        for one in self.line[: max(0, min(most, self.tokens // MICRO, room))]:
            if self.silent(one):
                self.end(one, "abandoned")
                continue
            self.tokens -= MICRO
            self.called += 1
            one.state, one.enter_by, one.nth, one.owner = "admitted", self.now + self.settings["entry"], self.called, ""

    def tick(self) -> None:
        self.ticked, self.awake = self.now, self.awake_since()
        self.free_over()
        self.end_overdue()
        for one in self.line:
            if self.silent(one):
                self.end(one, "abandoned")
        self.admit(200)

    # what people ask for

    def join(self, user: str, key: str, digest: str) -> Ticket | None:
        """The ticket that the same request got before; None: there is a new one to `add`."""
        if key in self.keys:
            before, ticket_id = self.keys[key]
            if not digest:
                raise RefusedError("DUPLICATE")
            if before != digest:
                raise RefusedError("IDEMPOTENCY_CONFLICT")
            return self.tickets[ticket_id]
        if len(self.of_user(user)) >= self.settings["tickets_per_user"]:
            raise RefusedError("DUPLICATE")
        if self.state not in ("open", "paused"):
            raise RefusedError("EVENT_NOT_OPEN")
        if 0 < self.settings["max_waiting"] <= len(self.line):
            raise RefusedError("QUEUE_FULL")
        return None

    def add(self, ticket: Ticket, key: str, digest: str) -> None:
        self.tickets[ticket.ticket_id] = ticket
        if key:
            self.keys[key] = digest, ticket.ticket_id

    def enter(self, ticket: Ticket) -> tuple[int, int]:
        """When it entered, and when the session ends."""
        if ticket.state == "waiting":
            if self.state == "closed":
                raise RefusedError("EVENT_NOT_OPEN")
            ticket.seen = self.now
            self.end_overdue()
            self.admit(50)
        state = self.place(ticket)[0]
        if state == "waiting":
            raise RefusedError("NOT_ADMITTED")
        if state == "admitted":
            ticket.state, ticket.issued, ticket.ends = "inside", self.now, self.now + self.settings["session"]
            self.counts["entered"] += 1
        elif state != "inside":
            raise RefusedError("TICKET_GONE")
        return ticket.issued, ticket.ends

    def leave(self, ticket: Ticket) -> str:
        if ticket.live:
            self.end(ticket, "left")
            for name in self.seats_of(ticket.ticket_id):
                if not self.seats[name].sold:
                    self.free(name)
        return ticket.state

    def hold(self, holder: Ticket, wanted: list[str]) -> tuple[int, int]:
        """How many seats are left, and when the hold ends."""
        if self.state not in ("open", "paused"):
            raise RefusedError("EVENT_NOT_OPEN")
        if holder.state != "inside" or holder.ends <= self.now:
            raise RefusedError("NOT_INSIDE")
        self.free_over()
        if any(name not in self.seats for name in wanted):
            raise RefusedError("NO_SEAT")
        if not self.inventory:
            raise RefusedError("SOLD_OUT")
        if any(self.seats[name].status != "AVAILABLE" for name in wanted):
            raise RefusedError("SEAT_UNAVAILABLE")
        if len(self.seats_of(holder.ticket_id)) + len(wanted) > self.settings["seats_per_ticket"]:
            raise RefusedError("TOO_MANY_SEATS")
        until = min(self.now + self.settings["hold"], holder.ends)
        for name in wanted:
            self.seats[name] = Seat(holder.ticket_id, until)
        return self.inventory, until

    def release(self, holder: Ticket, wanted: list[str]) -> int:
        self.free_over()
        if any(name not in self.seats or self.seats[name].holder != holder.ticket_id for name in wanted):
            raise RefusedError("NOT_HOLDER")
        if any(self.seats[name].sold for name in wanted):
            raise RefusedError("SEAT_SOLD")
        for name in wanted:
            self.free(name)
        return self.inventory

    def confirm(self, holder: Ticket, wanted: list[str]) -> int:
        for name in wanted:
            seat = self.seats.get(name, Seat())
            if seat.holder != holder.ticket_id or not (seat.sold or seat.until > self.now):
                raise RefusedError("NOT_HOLDER")
        for name in wanted:
            self.seats[name].sold = True
        return self.inventory

    # what operators and workers ask for

    def act(self, action: str) -> None:
        to, allowed = {
            "open": ("open", {"created", "closed", "open"}),
            "pause": ("paused", {"open", "paused"}),
            "resume": ("open", {"paused", "open"}),
            "close": ("closed", {"created", "open", "paused", "closed"}),
        }[action]
        if self.state not in allowed:
            raise RefusedError("WRONG_STATE")
        self.fill()
        self.state = to

    def configure(self, changes: dict[str, int]) -> None:
        self.fill()
        self.settings.update(changes)
        if "abandon" in changes:
            self.awake = self.now

    def dequeue(self, consumer: str, most: int, reclaim: bool) -> list[Ticket]:
        given: list[Ticket] = []

        def give(one: Ticket) -> None:
            if self.of_user(one.user)[0] is not one:
                one.owner = ASIDE
                return
            one.owner, one.state = consumer, "serving"
            one.deliveries += 1
            given.append(one)

        pending = [one for one in self.tickets.values() if one.owner and one.seq >= self.cursor]
        looked_at = most if reclaim else most * 10
        self.cursor = pending[looked_at].seq if len(pending) > looked_at else 0
        for one in pending[: most if reclaim else 0]:
            give(one)
        for one in [one for one in self.tickets.values() if one.owner == NEXT][: max(0, most - len(given))]:
            give(one)
        for _ in range(10):
            fresh = [one for one in self.line if not one.read][: most - len(given)]
            if self.state != "open" or not fresh:
                break
            for one in fresh:
                one.read = True
                give(one)
        return given

    def ack(self, consumer: str, ticket: Ticket) -> int:
        if ticket.owner != consumer:
            return 0
        self.end(ticket, "done")
        return 1

    def cleanup(self, age: int) -> int:
        cleaned = 0
        for one in self.line:
            if one.joined >= self.now - age:
                break
            self.end(one, "aged")
            cleaned += 1
        return cleaned
