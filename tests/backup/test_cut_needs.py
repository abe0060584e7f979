"""What a cut needs, and when the source is at rest: decided over values, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from understudy.backup.replica.fitness import Facts, judge, limits_of_replicas, unreadable
from understudy.backup.replica.source import Primary, Standing, UnsettledError, View, migrations
from understudy.backup.replica.source import judge as judged
from understudy.errors import NotAuthorisedError, RefusedError
from understudy.lab.servers.valkey import Binary
from understudy.valkey.target import Address
from understudy.valkey.wire import ReplyError

GIB = 1 << 30
OURS = Binary("valkey-server", "valkey", (9, 1, 2))
CALM = Facts(Address("10.0.0.1", 6379), ("valkey", "9.0.1"), GIB, GIB, 8 * GIB, 0.0, (256 << 20, 64 << 20, 60), 5.0, ())


def test_a_calm_source_and_enough_room_are_no_reason_to_warn() -> None:
    assert judge([CALM], OURS, 4 * GIB, 4 * GIB) == []
    assert judge([CALM], OURS, None, 4 * GIB) == [], "macOS does not tell"


def test_a_server_here_that_expires_keys_of_a_copy_is_warned_of() -> None:
    old = replace(CALM, server=("redis", "7.0.15"))
    assert "loses keys whose time is over" in judge([old], Binary("redis-server", "redis", (7, 0, 15)), None, GIB)[0]


def test_a_source_that_could_not_read_what_its_copies_write_is_told_of() -> None:
    [warning] = judge([replace(CALM, server=("redis", "7.0.15"))] * 3, OURS, None, GIB)
    assert "RDB version 80, and redis 7.0.15 reads up to 10: restored there, keys are built with commands" in warning
    assert judge([replace(CALM, server=("valkey", "9.0.4"))], OURS, None, GIB) == []


def test_too_little_memory_for_all_copies_is_refused_with_both_figures() -> None:
    with pytest.raises(RefusedError, match=r"2\.2 GiB of memory, and 2\.0 GiB are available"):
        judge([CALM, CALM], OURS, 2 * GIB, 4 * GIB)


def test_a_disk_that_cannot_take_the_set_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"1\.0 GiB of memory, and 50\.0 MiB are free"):
        judge([CALM], OURS, 4 * GIB, 50 << 20)


def test_writes_that_overflow_the_sources_buffer_while_it_is_copied_are_refused_or_warned_of() -> None:
    # a GiB takes about 26 s, and 5 s pass before it begins
    with pytest.raises(RefusedError, match=r"10\.0 MiB/s of writes.*limit for replicas is 256\.0 MiB"):
        judge([replace(CALM, written_per_s=10 << 20)], OURS, 4 * GIB, 4 * GIB)
    assert judge([replace(CALM, written_per_s=10 << 20, limits=(0, 0, 0))], OURS, 4 * GIB, 4 * GIB) == []
    long = replace(CALM, used_bytes=4 * GIB, machine_bytes=None, written_per_s=1 << 20)
    assert "may cut the copy off" in judge([long], OURS, 8 * GIB, 8 * GIB)[0]


def test_a_source_that_fills_its_machine_and_one_with_modules_are_warned_of() -> None:
    assert "forks" in judge([replace(CALM, resident_bytes=8 * GIB - 1)], OURS, 4 * GIB, 4 * GIB)[0]
    assert "modules (bf)" in judge([replace(CALM, modules=("bf",))], OURS, 4 * GIB, 4 * GIB)[0]


@pytest.mark.parametrize(
    ("source", "ours", "readable"),
    [
        (("valkey", "9.1.2"), ("valkey", "9.1.2"), True),
        (("valkey", "9.2.0"), ("valkey", "9.1.2"), False),
        (("valkey", "10.0.0"), ("valkey", "9.1.2"), False),
        (("valkey", "8.1.8"), ("valkey", "9.1.2"), True),
        (("redis", "7.2.4"), ("valkey", "9.1.2"), True),
        (("redis", "6.2.14"), ("valkey", "9.1.2"), True),
        (("redis", "7.4.0"), ("valkey", "9.1.2"), False),
        (("redis", "8.4.0"), ("valkey", "9.1.2"), False),
        (("valkey", "9.0.0"), ("redis", "7.0.15"), False),
        (("redis", "7.0.15"), ("redis", "7.0.15"), True),
    ],
)
def test_a_copy_follows_no_server_that_is_newer_than_itself(
    source: tuple[str, str], ours: tuple[str, str], readable: bool
) -> None:
    assert bool(unreadable(source, ours)) is not readable


def test_the_limits_of_replicas_are_read_in_old_and_new_words() -> None:
    assert limits_of_replicas([b"name", b"normal 0 0 0 slave 256 64 60 pubsub 32 8 60"]) == (256, 64, 60)
    assert limits_of_replicas([b"name", b"normal 0 0 0 replica 1 2 3"]) == (1, 2, 3)
    assert limits_of_replicas([]) is None


# -- the source

LOW, HIGH = frozenset(range(8192)), frozenset(range(8192, 16384))
OWNERS = {"aa": LOW, "bb": HIGH}
A = View(Address("h", 1), "master", "run-a", "repl-a", ("valkey", "9.1.2"), "", "aa", 7, OWNERS)
B = View(Address("h", 2), "master", "run-b", "repl-b", ("valkey", "9.1.2"), "", "bb", 7, OWNERS)
R = View(Address("h", 3), "slave", "run-r", "repl-a", ("valkey", "9.1.2"), "", "rr", 7, OWNERS)


def test_views_that_agree_are_a_standing_source() -> None:
    found = judged([A, B, R])
    assert [(one.address.port, one.slots) for one in found.primaries] == [(1, LOW), (2, HIGH)]
    assert found.epoch == 7
    assert found.unseen == ()


@pytest.mark.parametrize(
    ("views", "why"),
    [
        ([A, B, replace(R, role="master", owners={"rr": LOW, "bb": HIGH})], "do not agree"),  # it was promoted
        ([replace(A, role="slave"), B], "says that it is a slave"),
        ([A, B, replace(R, moving=("slot 5 is on its way out of h:1",))], "slot 5 is on its way"),
        ([A, R], "does not answer"),
        ([replace(A, paused="failover_in_progress"), B], r"held already \(failover_in_progress\)"),
        ([replace(one, owners={"aa": LOW}) for one in (A, B)], "8192 slot"),
    ],
)
def test_a_source_on_the_move_is_not_cut(views: list[View], why: str) -> None:
    with pytest.raises(UnsettledError, match=why):
        judged(views)


def test_a_silent_node_might_be_a_primary_by_now_unless_the_others_have_given_it_up() -> None:
    assert judged([A, B], ["h:3"]).unseen == ("h:3",)
    given_up = [replace(one, failed=frozenset({"h:3"})) for one in (A, B)]
    assert judged(given_up, ["h:3"]).unseen == ()
    assert judged([given_up[0], B], ["h:3"]).unseen == ("h:3",)


@pytest.mark.parametrize(
    ("later", "why"),
    [
        ([A, B], ""),
        ([replace(A, epoch=8), B], "an election took place"),
        ([replace(A, replid="other"), B], "another stream"),
        ([replace(A, run_id="other"), B], "restarted"),
        (
            [
                replace(A, owners=OWNERS | {"aa": LOW - {0}, "bb": HIGH | {0}}),
                replace(B, owners=OWNERS | {"aa": LOW - {0}, "bb": HIGH | {0}}),
            ],
            "slots of h:1 moved",
        ),
    ],
)
def test_what_is_not_as_it_was_is_named(later: list[View], why: str) -> None:
    told = judged([A, B]).changed_to(judged(later))
    assert why in told if why else not told


def test_another_primary_is_a_failover() -> None:
    one, two = (Primary(Address("h", port), name, "r", "s", LOW) for port, name in ((1, "aa"), (3, "rr")))
    assert Standing((one,), ("valkey", "9")).changed_to(Standing((two,), ("valkey", "9"))).endswith("a failover")


def test_only_migrations_that_are_under_way_are_told() -> None:
    job = [b"name", b"x", b"slot_ranges", b"5-5", b"state"]
    assert migrations([[*job, b"success"], [*job, b"failed"]], Address("h", 1)) == []
    assert "h:1 is moving slots (5-5: snapshotting)" in migrations([[*job, b"snapshotting"]], Address("h", 1))


def test_a_server_that_does_not_tell_of_its_migrations_is_not_taken_for_one_without() -> None:
    assert migrations(ReplyError("ERR unknown subcommand"), Address("h", 1)) == []
    with pytest.raises(NotAuthorisedError, match="NOPERM"):
        migrations(ReplyError("NOPERM no permissions to run the 'cluster|getslotmigrations' command"), Address("h", 1))
