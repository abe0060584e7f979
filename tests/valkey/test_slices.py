"""Values as commands in bounded slices: what is built from them is the same value, and nobody sees half of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from every_value import YEAR_2033_MS, kind_of, plant, state_of
from understudy.lab import Lab
from understudy.valkey.router import Router
from understudy.valkey.slices import KINDS, PREFIX, Newest, named, read, size_of, takes, write
from understudy.valkey.slices.still import RestlessError, Still, read_still
from understudy.valkey.slices.write import BUILDING_MS, _temporary
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Command, Wire, pack

SLICE_BYTES = 20_000


@pytest.fixture
def target(valkey_standalone: Lab) -> Target:
    return valkey_standalone.target()


@pytest.fixture
def wire(target: Target) -> Iterator[Wire]:
    with Wire(target.seeds[0], target) as found:
        yield found


@pytest.fixture
def other(target: Target) -> Iterator[Wire]:
    """A second connection: while a value is being read, the first one cannot be asked anything else."""
    with Wire(target.seeds[0], target) as found:
        yield found


@pytest.fixture
def router(target: Target) -> Iterator[Router]:
    with Router(target) as found:
        yield found


def reading(wire: Wire, key: bytes, size: int = SLICE_BYTES) -> Callable[[], Iterator[list[Command]]]:
    return lambda: read(wire, key, kind_of(wire, key), slice_bytes=size)


@pytest.mark.parametrize("size", [1_000, SLICE_BYTES, 1 << 20])
def test_every_type_is_built_as_it_was(wire: Wire, router: Router, size: int) -> None:
    plant(wire)
    keys = wire.call("KEYS", "*")
    assert {kind_of(wire, key) for key in keys} == KINDS
    for key in keys:
        assert write(router, b"built", reading(wire, key, size), overwrite=True).outcome == "written"
        assert state_of(wire, b"built") == state_of(wire, key), key
        assert wire.call("PTTL", "built") == -1
    assert sorted(wire.call("KEYS", "*")) == sorted([*keys, b"built"])


def test_a_batch_holds_about_a_slice_or_one_element(wire: Wire) -> None:
    plant(wire)
    for key in (b"string", b"set", b"zset", b"hash", b"stream", b"list"):
        batches = list(read(wire, key, kind_of(wire, key), slice_bytes=SLICE_BYTES))
        assert len(batches) > 4
        for batch in batches:
            assert sum(map(size_of, batch)) < 1.2 * SLICE_BYTES or (key == b"list" and len(batch) == 1)
    assert max(sum(map(size_of, batch)) for batch in read(wire, b"list", "list", slice_bytes=SLICE_BYTES)) < 72_000


def test_what_a_server_has_no_command_for_is_left_out(wire: Wire) -> None:
    plant(wire)

    def words(key: bytes, newest: Newest | None) -> set[Any]:
        batches = read(wire, key, kind_of(wire, key), slice_bytes=SLICE_BYTES, newest=newest)
        return {word for batch in batches for command in batch for word in command}

    old: Newest = ("redis", (6, 2, 14))
    assert b"HPEXPIREAT" in words(b"hash", None)
    assert b"HPEXPIREAT" not in words(b"hash", old)
    assert {b"ENTRIESADDED", b"ENTRIESREAD"} <= words(b"stream", ("valkey", (8, 1)))
    assert not {b"ENTRIESADDED", b"ENTRIESREAD"} & words(b"stream", old)
    assert [takes(("redis", version), "field expiry") for version in ((7, 2), (7, 4), (8, 0))] == [False, True, True]


def test_nobody_sees_half_a_key_and_what_is_left_of_one_goes_by_itself(wire: Wire, other: Wire, router: Router) -> None:
    plant(wire)

    def watched() -> Iterator[list[Command]]:
        for number, batch in enumerate(reading(wire, b"list")()):
            if number:
                assert other.call("EXISTS", "built") == 0
                (building,) = other.call("KEYS", PREFIX + b"*")
                assert 0 < other.call("PTTL", building) <= BUILDING_MS
            yield batch

    assert write(router, b"built", watched).outcome == "written"
    assert wire.call("LLEN", "built") == wire.call("LLEN", "list")


def test_what_arrived_of_a_first_batch_expires_where_we_die_while_it_is_sent(
    wire: Wire, other: Wire, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs, and a restore that is killed: what its socket had taken is carried out later."""
    execute = router.execute

    def killed(commands: Sequence[Any]) -> Any:
        if len(commands) > 1:
            execute(commands[:-2])  # all but the last command and what stands behind it
            raise KeyboardInterrupt
        return execute(commands) if "UNLINK" not in commands[0][1] else None  # nobody tidies up

    monkeypatch.setattr(router, "execute", killed)
    batch = [(b"RPUSH", b"built", b"%d" % number) for number in range(4)]
    with pytest.raises(KeyboardInterrupt):
        write(router, b"built", lambda: [batch])
    (building,) = other.call("KEYS", PREFIX + b"*")
    assert other.call("LLEN", building) == 3
    assert 0 < other.call("PTTL", building) <= BUILDING_MS
    wire.call("DEL", building)


def test_a_key_that_stands_there_stays_unless_it_is_to_be_replaced(wire: Wire, other: Wire, router: Router) -> None:
    wire.pipeline([("SET", "there", "old"), ("RPUSH", "list", "a", "b")])
    assert write(router, b"there", reading(wire, b"list")).outcome == "exists"
    assert wire.call("GET", "there") == b"old"

    def late() -> Iterator[list[Command]]:
        yield from reading(wire, b"list")()
        other.call("SET", "meanwhile", "theirs")

    assert write(router, b"meanwhile", late).outcome == "exists"
    assert wire.call("GET", "meanwhile") == b"theirs"
    assert write(router, b"there", reading(wire, b"list"), overwrite=True).outcome == "written"
    assert wire.call("LRANGE", "there", 0, -1) == [b"a", b"b"]
    assert wire.call("KEYS", PREFIX + b"*") == []


def test_a_key_gets_its_own_expiry_and_one_that_is_over_replaces_nothing(wire: Wire, router: Router) -> None:
    wire.pipeline([("SET", "there", "old"), ("RPUSH", "list", "a")])
    assert write(router, b"new", reading(wire, b"list"), expire_at_ms=YEAR_2033_MS).outcome == "written"
    assert wire.call("PEXPIRETIME", "new") == YEAR_2033_MS
    assert write(router, b"there", reading(wire, b"list"), expire_at_ms=1, overwrite=True).outcome == "expired"
    assert wire.call("GET", "there") == b"old"


def test_what_the_server_refuses_fails_with_its_words_and_leaves_nothing(wire: Wire, router: Router) -> None:
    written = write(router, b"built", lambda: [[("RPUSH", "any", "a")], [("SADD", "any", "b")]])
    assert (written.outcome, written.why.split()[0]) == ("failed", "WRONGTYPE")
    assert wire.call("KEYS", "*") == []


def test_a_hash_whose_fields_have_all_expired_is_expired(router: Router) -> None:
    commands: list[list[Command]] = [[("HSET", "any", "a", "b"), ("HPEXPIREAT", "any", 1, "FIELDS", 1, "a")]]
    assert write(router, b"built", lambda: commands).outcome == "expired"


def test_a_key_is_begun_anew_when_the_connection_breaks(
    wire: Wire, other: Wire, router: Router, target: Target
) -> None:
    plant(wire)
    times = 0
    connection = router.wire(target.seeds[0]).call("CLIENT", "ID")

    def broken() -> Iterator[list[Command]]:
        nonlocal times
        times += 1
        for number, batch in enumerate(reading(wire, b"list")()):
            if times == 1 and number == 3:
                other.call("CLIENT", "KILL", "ID", connection)
            yield batch

    told: list[int] = []
    assert write(router, b"built", broken, advance=told.append).outcome == "written"
    assert times == 2
    assert state_of(wire, b"built") == state_of(wire, b"list")
    assert sum(told) == sum(len(batch) for batch in reading(wire, b"list")())
    assert wire.call("KEYS", PREFIX + b"*") == []


def test_writes_that_a_failover_lost_are_noticed(wire: Wire, other: Wire, router: Router) -> None:
    """A part of what was written is gone, and no connection broke: as after a takeover."""
    plant(wire)
    lost: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
        (b"list", "RPOP", ()),
        (b"string", "APPEND", ("x",)),
        (b"set", "SPOP", ()),
        (b"stream", "XTRIM", ("MAXLEN", "5")),
    )
    for key, undo, words in lost:
        times = 0

        def lossy(key: bytes = key, undo: str = undo, words: tuple[str, ...] = words) -> Iterator[list[Command]]:
            nonlocal times
            times += 1
            for number, batch in enumerate(reading(wire, key)()):
                if times == 1 and number == 3:
                    (building,) = other.call("KEYS", PREFIX + b"*")
                    other.call(undo, building, *words)
                yield batch

        assert write(router, b"built", lossy, overwrite=True).outcome == "written"
        assert times == 2, key
        assert state_of(wire, b"built") == state_of(wire, key)


def test_temporary_names_are_of_the_slot_and_never_the_same() -> None:
    for slot in (0, 1, 5460, 5461, 12_345, 16_383):
        names = {_temporary(slot) for _ in range(50)}
        assert len(names) == 50
        assert {key_slot(name) for name in names} == {slot}
        assert all(name.startswith(PREFIX) for name in names)


class Kept:
    """What `read_still` put, and what is done at each beginning."""

    def __init__(self, meanwhile: Sequence[Callable[[], object]] = ()) -> None:
        self._meanwhile = list(meanwhile)
        self.begun = 0
        self.data = b""

    def begin(self) -> None:
        self.begun += 1
        self.data = b""

    def put(self, packed: bytes, _: int) -> None:
        first, self.data = not self.data, self.data + packed
        if first and self.begun <= len(self._meanwhile):
            self._meanwhile[self.begun - 1]()


def expected(wire: Wire, key: bytes) -> bytes:
    return b"".join(pack(command) for batch in reading(wire, key)() for command in batch)


def test_a_key_that_changed_is_read_again(wire: Wire, router: Router) -> None:
    plant(wire)
    kept = Kept([lambda: wire.call("RPUSH", "list", "more")])
    assert read_still(router, b"list", SLICE_BYTES, kept.begin, kept.put) == Still("list", None, 1004)
    assert kept.begun == 2
    assert kept.data == expected(wire, b"list")


def test_consumers_of_a_stream_are_noticed_though_no_watch_sees_them(wire: Wire, router: Router) -> None:
    plant(wire)
    for act in (("XACK", "stream", "one", "20-1"), ("XREADGROUP", "GROUP", "two", "x", "STREAMS", "stream", ">")):
        kept = Kept([lambda act=act: wire.call(*act)])  # type: ignore[misc]
        found = read_still(router, b"stream", SLICE_BYTES, kept.begin, kept.put)
        assert found is not None and found.length == 1490
        assert kept.begun == 2
        assert kept.data == expected(wire, b"stream")


def test_a_key_that_never_stands_still_is_told(wire: Wire, router: Router) -> None:
    plant(wire)
    kept = Kept([lambda: wire.call("RPUSH", "list", "more")] * 9)
    with pytest.raises(RestlessError, match="written to each time"):
        read_still(router, b"list", SLICE_BYTES, kept.begin, kept.put)
    assert kept.begun == 5


def test_a_key_that_goes_or_is_not_there_is_none(wire: Wire, router: Router) -> None:
    plant(wire)
    kept = Kept([lambda: wire.call("DEL", "list")])
    assert read_still(router, b"list", SLICE_BYTES, kept.begin, kept.put) is None
    assert read_still(router, b"list", SLICE_BYTES, kept.begin, kept.put) is None


def test_where_nobody_may_watch_two_equal_readings_count(wire: Wire, target: Target) -> None:
    plant(wire)
    wire.call("ACL", "SETUSER", "blind", "on", ">blind", "~*", "&*", "+@all", "-watch")
    try:
        with Router(Target(target.seeds, username="blind", password="blind")) as router:
            kept = Kept()
            read_still(router, b"list", SLICE_BYTES, kept.begin, kept.put)
            assert (kept.begun, kept.data) == (2, expected(wire, b"list"))
            kept = Kept([lambda: None, lambda: wire.call("LSET", "list", 999, "changed")])
            read_still(router, b"list", SLICE_BYTES, kept.begin, kept.put)
            assert kept.begun == 3
            assert kept.data == expected(wire, b"list")
    finally:
        wire.call("ACL", "DELUSER", "blind")


def test_commands_are_named_for_another_key() -> None:
    commands: Iterable[Command] = [(b"SET", b"a", b"b"), (b"XGROUP", b"CREATE", b"a", b"g", b"0")]
    assert named(commands, b"z") == [(b"SET", b"z", b"b"), (b"XGROUP", b"CREATE", b"z", b"g", b"0")]
