"""The operations against a plain model: whatever happens in whatever order, they agree after every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from reference_room import MICRO, Reference, RefusedError, Seat, Ticket
from rooms import OneWire, clocked, done
from understudy import lab
from understudy.errors import ServerSaidError
from understudy.valkey.wire import Wire
from understudy.waitingroom import keys
from understudy.waitingroom.library import Library
from understudy.waitingroom.room import Room
from understudy.waitingroom.values import EventSettings, RefusalError

EVENT = "sale"
CLOCK = f"clock:{{{EVENT}}}"
SEATS = ["A1", "A2", "A3", "A4", "A5"]
USERS = ["ann", "bob", "cho", "dan", "eve"]
# as the model has them: thousandths, and ms
FIELDS = {
    "rate": "rate_per_s", "burst": "burst", "max_inside": "max_inside", "max_waiting": "max_waiting",
    "entry": "entry_ttl_s", "session": "session_ttl_s", "hold": "hold_ttl_s", "abandon": "abandon_after_s",
    "tickets_per_user": "tickets_per_user", "seats_per_ticket": "seats_per_ticket",
}  # fmt: skip
UNITS = {"rate", "entry", "session", "hold", "abandon"}
CHOICES = {
    "rate": st.sampled_from([0, 1, 333, 1000, 2500, 20_000]),
    "burst": st.integers(0, 3),
    "max_inside": st.integers(0, 3),
    "max_waiting": st.sampled_from([0, 3, 1000]),
    "entry": st.sampled_from([1000, 60_000]),
    "session": st.sampled_from([20_000, 90_000]),
    "hold": st.sampled_from([10_000, 60_000]),
    "abandon": st.sampled_from([0, 3000, 60_000]),
    "tickets_per_user": st.sampled_from([1, 3]),
    "seats_per_ticket": st.sampled_from([2, 4]),
}
ORDINARY = st.fixed_dictionaries(
    {
        **{
            name: st.just(value)
            for name, value in (("rate", 20_000), ("burst", 3), ("max_waiting", 1000), ("entry", 60_000))
        },
        "max_inside": st.sampled_from([0, 3]),
        "session": st.just(90_000),
        "hold": st.sampled_from([10_000, 60_000, 120_000]),
        "abandon": st.just(60_000),
        "tickets_per_user": st.sampled_from([1, 3]),
        "seats_per_ticket": st.just(4),
    }
)
FORWARD = st.sampled_from([0, 1, 40, 999, 1000, 1001, 3000, 9999, 10_000, 10_001, 30_000, 60_000, 3_600_000])
BACK = st.sampled_from([1, 700, 20_000, 3_600_000])
SOME_SEATS = st.lists(st.sampled_from([*SEATS[:3], *SEATS, "Z9"]), min_size=1, max_size=3, unique=True)
ANY = st.integers(0, 1_000_000)  # one of those there are
LOST = st.booleans()  # the first answer is lost, and the request is sent again


def as_settings(fields: Mapping[str, int]) -> dict[str, float]:
    return {FIELDS[name]: value / 1000 if name in UNITS else value for name, value in fields.items()}


class Sale(RuleBasedStateMachine):
    """One event, on a server and in the model."""

    library: Library
    wire: Wire

    def __init__(self) -> None:
        super().__init__()
        self.client = OneWire(self.wire, CLOCK)
        self.room = Room(self.client, code=self.library)  # type: ignore[arg-type]
        self.secrets: dict[str, str] = {}
        self.last_called: list[tuple[int, int]] = []

    @initialize(
        fields=ORDINARY | ORDINARY | st.fixed_dictionaries(CHOICES),
        opened=st.integers(0, 5),
        people=st.lists(st.sampled_from(USERS), max_size=6),
        inside=st.integers(0, 5),
    )
    def create(self, fields: dict[str, int], opened: int, people: list[str], inside: int) -> None:
        self.wire.pipeline([("FLUSHALL",), ("SET", CLOCK, 1_800_000_000_000)])
        self.model = Reference(1_800_000_000_000, dict(fields), {name: Seat() for name in SEATS})
        done(self.room.create(EVENT, EventSettings(**as_settings(fields)), SEATS))  # type: ignore[arg-type]
        if not opened:
            return
        self.act("open")
        for user in people:
            self.join(user, "", "", False)
        for number, seat in zip(range(inside), SEATS, strict=False):
            self.come_in(number, [seat])

    def come_in(self, number: int, seats: list[str]) -> None:
        """Somebody goes through all of it."""
        self.tick()
        if ticket := self.one(number, "admitted"):
            self.enter(number, False, only="admitted")
            self.on_seats("hold", ticket, seats, False)

    # time

    def move(self, by: int) -> None:
        self.model.now += by
        self.wire.call("SET", CLOCK, self.model.now)

    @rule(by=FORWARD)
    def time_passes(self, by: int) -> None:
        self.move(by)

    @rule(by=st.integers(1, 40), ticks=st.integers(1, 4))
    def time_passes_with_ticks(self, by: int, ticks: int) -> None:
        for _ in range(ticks):
            self.move(by * 100)
            self.tick()

    @rule(by=BACK)
    def the_clock_is_set_back(self, by: int) -> None:
        self.move(-by)

    @rule()
    def tick(self) -> None:
        done(self.room.tick(EVENT))
        self.model.tick()

    # people

    def both(self, real: Any, expected: Any, *, again: bool = False) -> Any:
        """Run the real operation and the model's; return both answers, or None where both refuse."""
        self.client.again = again
        try:
            answer = done(real)
        except RefusalError as refusal:
            answer = refusal.code
        finally:
            self.client.again = False
        try:
            wanted = expected()
        except RefusedError as refusal:
            assert answer == refusal.code
            return None
        assert not isinstance(answer, str) or answer == wanted, answer
        return answer, wanted

    def one(self, number: int, *states: str) -> Ticket | None:
        """One of the tickets there are, in one of these states where there are some."""
        tickets = list(self.model.tickets.values())
        some = [one for one in tickets if one.state in states] or tickets
        return some[number % len(some)] if some else None

    @rule(
        user=st.sampled_from(USERS),
        key=st.sampled_from(["", "", "", "k1", "k2"]),
        digest=st.sampled_from(["", "d1", "d2"]),
        lost=LOST,
    )
    def join(self, user: str, key: str, digest: str, lost: bool) -> None:
        lost = lost and not (key and not digest)  # a dedupe key: tested beside
        if key and digest:
            real = self.room.join(EVENT, user, idempotency_key=key, digest=digest)
        else:
            real = self.room.join(EVENT, user, dedupe_key=key)
        digest = digest if key else ""
        both = self.both(real, lambda: self.model.join(user, key, digest), again=lost)
        if both is None:
            return
        joined, before = both
        if before:
            assert (keys.ticket_id(joined.ticket), joined.replayed) == (before.ticket_id, True)
            return
        ticket_id, now = keys.ticket_id(joined.ticket), self.model.now
        ticket = Ticket(ticket_id, user, len(self.model.tickets) + 1, joined.stream_id, now, now)
        self.model.add(ticket, key, digest or "-")
        self.secrets[ticket_id] = joined.ticket
        assert (joined.position, joined.waiting) == (len(self.model.line), len(self.model.line))
        assert (joined.user_position, joined.replayed) == (len(self.model.of_user(user)), False)

    @rule(number=ANY)
    def heartbeat(self, number: int) -> None:
        if ticket := self.one(number, "waiting"):
            done(self.room.heartbeat(self.secrets[ticket.ticket_id]))
            if ticket.state == "waiting":
                ticket.seen = self.model.now

    @rule(number=ANY, lost=LOST, only=st.sampled_from(["", "admitted"]))
    def enter(self, number: int, lost: bool, only: str = "") -> None:
        ticket = self.one(number, *([only] if only else ["waiting", "admitted", "inside"]))
        if ticket and (both := self.both(
            self.room.enter(self.secrets[ticket.ticket_id]), lambda: self.model.enter(ticket), again=lost
        )):  # fmt: skip
            entered, expected = both
            assert (entered.issued_ms, entered.expires_ms) == expected
            assert (entered.user_id, entered.token_id) == (ticket.user, ticket.ticket_id)

    @rule(user=st.sampled_from(USERS), number=ANY, seats=SOME_SEATS)
    def somebody_goes_through_all_of_it(self, user: str, number: int, seats: list[str]) -> None:
        self.join(user, "", "", False)
        self.move(100)
        self.come_in(number, seats)

    @rule(number=ANY, lost=LOST)
    def leave(self, number: int, lost: bool) -> None:
        if ticket := self.one(number, "waiting", "admitted", "inside", "serving"):
            answer, wanted = self.both(
                self.room.leave(self.secrets[ticket.ticket_id]), lambda: self.model.leave(ticket), again=lost
            )
            assert answer == wanted

    # seats

    def on_seats(self, operation: str, ticket: Ticket | None, seats: list[str], lost: bool) -> None:
        if not ticket:
            return
        real = getattr(self.room, operation)(EVENT, ticket.ticket_id, seats)
        both = self.both(real, lambda: getattr(self.model, operation)(ticket, seats), again=lost)
        if both:
            answer, wanted = both
            assert wanted == ((answer.remaining, answer.expires_ms) if operation == "hold" else answer.remaining)
            assert answer.replayed == lost

    @rule(number=ANY, seats=SOME_SEATS, lost=LOST)
    def hold(self, number: int, seats: list[str], lost: bool) -> None:
        self.on_seats("hold", self.one(number, "inside"), seats, lost)

    @rule(by=st.sampled_from([9_000, 11_000]), number=ANY, operation=st.sampled_from(["release", "confirm"]))
    def settle_late(self, by: int, number: int, operation: str) -> None:
        self.move(by)
        self.settle_own_seats(number, False, operation)

    @rule(number=ANY, lost=LOST, operation=st.sampled_from(["release", "confirm"]))
    def settle_own_seats(self, number: int, lost: bool, operation: str) -> None:
        holders = sorted({seat.holder for seat in self.model.seats.values() if seat.holder})
        if holders:
            holder = self.model.tickets[holders[number % len(holders)]]
            self.on_seats(operation, holder, self.model.seats_of(holder.ticket_id)[: 1 + number % 2], lost)

    @rule(number=ANY, seats=SOME_SEATS, operation=st.sampled_from(["release", "confirm"]))
    def settle_any_seats(self, number: int, seats: list[str], operation: str) -> None:
        self.on_seats(operation, self.one(number, "inside"), seats, False)

    # operators and workers

    @rule(action=st.sampled_from(["open", "open", "pause", "resume", "resume", "close"]))
    def act(self, action: Any) -> None:
        self.both(self.room.act(EVENT, action), lambda: self.model.act(action))

    @rule(fields=st.fixed_dictionaries({}, optional=CHOICES))
    def configure(self, fields: dict[str, int]) -> None:
        if fields:
            done(self.room.configure(EVENT, as_settings(fields)))
            self.model.configure(fields)

    @rule(consumer=st.sampled_from(["w1", "w2"]), most=st.integers(1, 3), reclaim=st.booleans())
    def dequeue(self, consumer: str, most: int, reclaim: bool) -> None:
        messages = done(self.room.dequeue(EVENT, consumer, most, 0 if reclaim else 1_000_000))
        given = self.model.dequeue(consumer, most, reclaim)
        assert [(one.stream_id, one.ticket_id, one.user_id, one.deliveries) for one in messages] == [
            (one.sid, one.ticket_id, one.user, one.deliveries) for one in given
        ]

    @rule(user=st.sampled_from(USERS), most=st.integers(1, 3), number=ANY, by=st.sampled_from(["w1", "w1", "w2"]))
    def a_worker_serves(self, user: str, most: int, number: int, by: str) -> None:
        for _ in range(2):
            self.join(user, "", "", False)
        self.dequeue("w1", most, False)
        self.ack(by, number)
        self.dequeue("w1", most, False)

    @rule(consumer=st.sampled_from(["w1", "w2"]), number=ANY)
    def ack(self, consumer: str, number: int) -> None:
        if ticket := self.one(number, "serving"):
            assert done(self.room.ack(EVENT, consumer, [ticket.sid, "nonsense", "1-1"])) == self.model.ack(
                consumer, ticket
            )

    @rule(age=st.sampled_from([0, 2000, 100_000]))
    def cleanup(self, age: int) -> None:
        assert done(self.room.cleanup(EVENT, age / 1000)) == self.model.cleanup(age)

    # what must be so after every step

    @invariant()
    def everybody_stands_where_the_model_says(self) -> None:
        model = self.model
        if not model.tickets:
            return
        places = done(self.room.places(EVENT, [self.secrets[one] for one in model.tickets]))
        assert [(one.state, one.position, one.enter_within_ms) for one in places] == [
            model.place(one) for one in model.tickets.values()
        ]
        assert {one.waiting for one in places} == {len(model.line)}

    @invariant()
    def every_key_holds_what_the_model_says(self) -> None:
        model, named = self.model, keys.room(EVENT)
        users = sorted({one.user for one in model.tickets.values()})
        replies = self.wire.pipeline([
            ("HGETALL", named[0]), ("ZRANGE", named[1], 0, -1), ("ZRANGE", named[2], 0, -1, "WITHSCORES"),
            ("ZRANGE", named[3], 0, -1, "WITHSCORES"), ("ZRANGE", named[4], 0, -1, "WITHSCORES"),
            ("XRANGE", named[5], "-", "+"), ("HGETALL", named[6]), ("HGETALL", named[7]),
            ("ZRANGE", named[8], 0, -1, "WITHSCORES"), ("HGETALL", named[9]), ("GET", named[10]),
            ("XPENDING", named[5], "workers", "-", "+", 1000), ("KEYS", "*"),
            *(("XRANGE", keys.user(EVENT, user), "-", "+") for user in users),
        ])  # fmt: skip
        event, line, seen, admitted, inside, stream, status, holders, holds, held, inventory, pending, there = replies[
            :13
        ]
        tickets = model.tickets.values()
        assert line == [one.ticket_id.encode() for one in model.line]
        assert scores(seen) == {one.ticket_id: one.seen for one in model.line}
        assert scores(admitted) == {one.ticket_id: one.enter_by for one in model.those("admitted")}
        assert scores(inside) == {one.ticket_id: one.ends for one in model.those("inside")}
        in_line = [one.sid.encode() for one in tickets if one.state in ("waiting", "serving")]
        assert [entry[0] for entry in stream] == in_line
        assert {one[0]: one[1] for one in pending} == {
            one.sid.encode(): one.owner.encode() for one in tickets if one.owner
        }
        for user, entries in zip(users, replies[13:], strict=True):
            assert [entry[0] for entry in entries] == [one.sid.encode() for one in model.of_user(user)]
        assert texts(status) == {name: seat.status for name, seat in model.seats.items()}
        assert texts(holders) == {name: seat.holder for name, seat in model.seats.items() if seat.holder}
        assert scores(holds) == {name: one.until for name, one in model.seats.items() if one.status == "HELD"}
        having = {seat.holder for seat in model.seats.values() if seat.holder}
        assert {one: sorted(names.split()) for one, names in texts(held).items()} == {
            one: model.seats_of(one) for one in having
        }
        assert int(inventory) == model.inventory == sum(one == b"AVAILABLE" for one in status[1::2])
        fields = texts(event)
        assert int(fields["tokens"]) == model.tokens
        assert (int(fields["filled"]), int(fields["called"]), fields["state"]) == (
            model.filled,
            model.called,
            model.state,
        )
        assert (int(fields["ticked"]), int(fields["awake"])) == (model.ticked, model.awake)
        assert {name: int(fields[name]) for name in model.counts} == model.counts
        assert int(fields["sold"]) == sum(seat.sold for seat in model.seats.values())
        self.only_known_keys(there)

    def only_known_keys(self, there: list[bytes]) -> None:
        model, named = self.model, set(keys.room(EVENT))
        expected = {keys.ticket(EVENT, one) for one in model.tickets}
        expected |= {keys.user(EVENT, one.user) for one in model.tickets.values() if one.live}
        expected |= {keys.dedupe(EVENT, key) for key in model.keys} | {CLOCK, keys.EVENTS}
        names = {name.decode() for name in there}
        holding = {name for name in names if name.startswith("hold:seat:")}  # they expire by the server's own clock
        assert holding <= {keys.hold(EVENT, name) for name, one in model.seats.items() if one.status == "HELD"}
        assert {name for name in names - named - holding if not name.startswith(f"answer:{{{EVENT}}}:")} == expected

    @invariant()
    def nobody_comes_before_their_turn(self) -> None:
        called = sorted((one.nth, one.seq) for one in self.model.tickets.values() if one.nth)
        assert [seq for _, seq in called] == sorted(seq for _, seq in called)
        assert 0 <= self.model.inventory <= len(SEATS)
        assert 0 <= self.model.tokens <= MICRO * MICRO


def texts(flat: list[bytes]) -> dict[str, str]:
    words = [one.decode() for one in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def scores(flat: list[bytes]) -> dict[str, int]:
    return {name: int(score) for name, score in texts(flat).items()}


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """A connection to a server of this module's own."""
    with lab.standalone() as running, Wire(running.target().seeds[0], running.target()) as wire:
        yield wire


def run(wire: Wire, library: Library, examples: int, steps: int, **options: Any) -> None:
    wire.pipeline([("FUNCTION", "FLUSH")])
    wire.call("FUNCTION", "LOAD", library.source)
    machine = type("ThisSale", (Sale,), {"wire": wire, "library": library})
    few = {"max_examples": examples, "stateful_step_count": steps, "deadline": None, "database": None}
    options = {"suppress_health_check": list(HealthCheck), "report_multiple_bugs": False, **few, **options}
    run_state_machine_as_test(machine, settings=settings(**options))  # type: ignore[no-untyped-call]


def test_the_operations_agree_with_a_plain_model_after_every_step(wire: Wire) -> None:
    run(wire, clocked(EVENT), 80, 50, derandomize=True)


@pytest.mark.soak
def test_they_agree_for_a_long_time(wire: Wire) -> None:
    run(wire, clocked(EVENT), 4000, 100)


# what -> the place in the Lua, and what it is replaced with
MUTATIONS = {
    "a freed seat is forgotten in the inventory": ("shared", "  redis.call('INCR', K.inventory)\n", ""),
    "as many go in as like": ("shared", "if tonumber(e[1]) > 0 then\n    room", "if false then\n    room"),
    "places are counted from the last to join": ("shared", "'ZRANK', K.waiting", "'ZREVRANK', K.waiting"),
    "a second click enters once more": ("enter", "fields[1] == 'inside' and", "false and"),
    "a call costs nothing": ("shared", "tokens - called * MICRO", "tokens"),
    "the bucket has no bottom of time": ("shared", "math.max(0, now - tonumber(e[5]))", "(now - tonumber(e[5]))"),
    "time in a pause counts for the bucket": ("shared", "e[1] == 'open' then\n", "true then\n"),
    "anybody releases": ("release", "redis.call('HGET', K.holder, ARGV[at]) ~= holder", "false"),
    "a hold that is over can be confirmed": ("confirm", "or ends <= now", ""),
    "a hold outlives the session": ("hold", "ends = math.min(ends, session)", ""),
    "who leaves keeps what is held": ("leave", "== 'HELD'", "== 'none'"),
    "a part of the seats is enough": ("hold", "if #taken > 2 then return taken end", ""),
    "an outage ends everybody": ("shared", "awake_since(e[2], e[3], now) < before and", ""),
    "a rate of 0 calls people": ("shared", " or e[4] == '0' then", " then"),
    "who was set aside is forgotten": ("shared", "GROUP, NEXT, 0,", "GROUP, ASIDE, 0,"),
    "a user's tickets are served out of order": ("dequeue", "[1][1] ~= sid then", "[1][1] == nil then"),
    "others acknowledge": ("ack", "pending and pending[2] == ARGV[2]", "pending"),
    "an idempotency key is not looked up": ("join", "if answer then return answer end", ""),
    "a repeated join joins again": ("join", "if sid then", "if false then"),
    "who has an entry token stays in the line": ("enter", "  redis.call('ZREM', K.admitted, id)\n", ""),
}  # fmt: skip


SOON_FOUND = list(MUTATIONS)[:8]


def find(what: str, wire: Wire) -> None:
    name, old, new = MUTATIONS[what]
    with pytest.raises((AssertionError, ServerSaidError)):
        run(wire, clocked(EVENT, {name: (old, new)}), 1000, 50, derandomize=True, phases=[Phase.generate])


@pytest.mark.parametrize("what", SOON_FOUND)
def test_what_is_wrong_is_found(what: str, wire: Wire) -> None:
    find(what, wire)


@pytest.mark.soak
@pytest.mark.parametrize("what", [what for what in MUTATIONS if what not in SOON_FOUND])
def test_what_is_hidden_deeper_is_found(what: str, wire: Wire) -> None:
    find(what, wire)
