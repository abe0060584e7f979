"""Keys built with commands: any value, small or big, with scripts or without, whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from conftest import Typed
from support import backed_up, eventually
from understudy.backup.anywhere import rebuild
from understudy.backup.anywhere.fit import Holder, Readers, holders
from understudy.backup.anywhere.rebuild import Entry, Rebuilder
from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.backup.components.redis import RedisComponent
from understudy.backup.restore import restore
from understudy.backup.tasks.write_keys import name_of
from understudy.errors import IntegrityError, NotAuthorisedError
from understudy.lab import Lab
from understudy.lab.sample import wipe
from understudy.lab.scratch import Scratch
from understudy.progress import Silent
from understudy.valkey.abilities import Abilities
from understudy.valkey.payload import rdb_version
from understudy.valkey.router import Router
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import Command, Wire
from versions import Facts, Fleet, differences, everything, facts, fill, older, reported

pytestmark = pytest.mark.long(20)
NOW_MS = 1_700_000_000_000
SOME = hypothesis.settings(
    max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], database=None
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as found:
        yield found


@pytest.fixture(scope="module")
def reader() -> Iterator[Target]:
    """What decodes payloads."""
    readers = Readers()
    yield readers.target()
    readers.close()


def dumped(wire: Wire) -> list[Entry]:
    """Every key of a server, as a set has it."""
    names = sorted(wire.call("KEYS", "*"))
    expiries = wire.pipeline([("PEXPIRETIME", name) for name in names])
    payloads = wire.pipeline([("DUMP", name) for name in names])
    return [Entry(n, at if at >= 0 else None, p) for n, at, p in zip(names, expiries, payloads, strict=True)]


def built(entries: Sequence[Entry], target: Target, reader: Target, **options: Any) -> tuple[RestoreReport, Rebuilder]:
    """Build keys with commands on a target, whether or not it would take their payloads."""
    samples = {rdb_version(entry.payload): entry.payload for entry in entries}
    plan = {"overwrite": False, "accept_loss": True, "recreate_stream_groups": True, "scratch": reader.as_data()}
    with Router(target) as router:
        plan["holders"] = {
            address: dataclasses.replace(one, refuses=frozenset(samples)).as_data()
            for address, one in holders(router, samples).items()
        }
        report = RestoreReport()
        rebuilder = Rebuilder(plan | options, report, name_of, lambda *_: None)
        rebuilder.write(router, entries, NOW_MS)
        rebuilder.losses.into(report)
        rebuilder.close()
    return report, rebuilder


WORDS = st.binary(max_size=12) | st.sampled_from([b"", b"0", b"-0", b"007", b"12", b"x" * 70, b"a" * 300])
SCORES = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 5e-324, float("inf"), 1e17])
IDS = st.integers(0, 9).map(lambda number: f"{number}-{number % 2}")
GROUPS, CONSUMERS = st.sampled_from(["g", "h", ""]), st.sampled_from(["ann", "", b"\xff"])
BEGUN: list[Command] = [
    *(("XADD", "k", f"{number}-{number % 2}", "f", number) for number in range(1, 7)),
    *(("XGROUP", "CREATE", "k", group, "0") for group in ("g", "h", "")),
    ("XREADGROUP", "GROUP", "g", "ann", "COUNT", 4, "STREAMS", "k", ">"),
]
PAD = b"p" * 200  # makes a skip list of a sorted set, in which the sign of a zero is kept
STREAM = st.lists(
    st.one_of(
        st.tuples(st.just("XADD"), IDS, WORDS, WORDS).map(lambda row: (row[0], "k", *row[1:])),
        st.tuples(st.just("XDEL"), IDS).map(lambda row: (row[0], "k", row[1])),
        st.integers(0, 4).map(lambda most: ("XTRIM", "k", "MAXLEN", most)),
        st.tuples(GROUPS, IDS).map(lambda row: ("XGROUP", "CREATE", "k", *row, "MKSTREAM")),
        st.tuples(GROUPS, CONSUMERS).map(lambda row: ("XGROUP", "CREATECONSUMER", "k", *row)),
        st.tuples(GROUPS, CONSUMERS, st.integers(1, 3)).map(
            lambda row: ("XREADGROUP", "GROUP", row[0], row[1], "COUNT", row[2], "STREAMS", "k", ">")
        ),
        st.tuples(GROUPS, IDS).map(lambda row: ("XACK", "k", *row)),
        st.tuples(GROUPS, CONSUMERS, IDS, st.integers(0, 9)).map(
            lambda row: ("XCLAIM", "k", *row[:2], 0, row[2], "TIME", NOW_MS - row[3], "RETRYCOUNT", row[3], "FORCE")
        ),
        st.tuples(IDS, st.integers(20, 30), IDS).map(
            lambda row: ("XSETID", "k", row[0], "ENTRIESADDED", row[1], "MAXDELETEDID", row[2])
        ),
    ),
    min_size=3,
    max_size=30,
).map(lambda some: [*BEGUN, *some])
VALUES: st.SearchStrategy[list[Command]] = st.one_of(
    WORDS.map(lambda word: [("SET", "k", word)]),
    st.lists(WORDS, min_size=1).map(lambda words: [("RPUSH", "k", *words)]),
    st.lists(WORDS | st.integers(-(1 << 63), (1 << 63) - 1), min_size=1).map(lambda words: [("SADD", "k", *words)]),
    st.dictionaries(WORDS, SCORES, min_size=1).map(
        lambda pairs: [
            ("ZADD", "k", 1, PAD),
            ("ZADD", "k", *(word for member, score in pairs.items() for word in (repr(score), member))),
            ("ZREM", "k", PAD),
        ]
    ),
    st.dictionaries(WORDS, st.tuples(WORDS, st.none() | st.integers(1, 3)), min_size=1).map(
        lambda fields: [
            ("HSET", "k", *(word for name, (value, _) in fields.items() for word in (name, value))),
            *(
                ("HPEXPIREAT", "k", 9_000_000_000_000 + at, "FIELDS", 1, name)
                for name, (_, at) in fields.items()
                if at is not None
            ),
        ]
    ),
    STREAM,
    STREAM,
)


def arrives(commands: list[Command], fleet: Fleet, reader: Target, version: str, origin: str = "9.1") -> None:
    """Write keys with commands, build them on a server of a version, and compare every fact.

    Keys of an older origin came to the source by their payloads: it knows less of their streams.
    """
    source, target = fleet.server("9.1", "source"), fleet.server(version, "target")
    first = fleet.server(origin, "source")
    first.wire.pipeline(commands)  # some of them make no sense, and are refused
    if origin != "9.1":
        names = first.wire.call("KEYS", "*")
        payloads = first.wire.pipeline([("DUMP", name) for name in names])
        rows = zip(names, payloads, strict=True)
        source.wire.pipeline([("RESTORE", name, 0, payload) for name, payload in rows])
    entries = dumped(source.wire)
    report, _ = built(entries, target.target, reader)
    assert (report.restored, report.failures) == (len(entries), [])
    lost = differences(facts(source.wire), facts(target.wire))
    # a consumer may have been seen in this very millisecond: then its time is no difference
    told = {(loss["db"], loss["key"], kind) for loss in report.losses for kind in loss["lost"]}
    assert {one for one in told - lost if one[2] != "consumer-times"} == set()
    assert lost - told == set()


@pytest.mark.parametrize("version", ["6.2", "7.0"])
@hypothesis.given(commands=VALUES)
@hypothesis.example(commands=[("ZADD", "k", 1, PAD), ("ZADD", "k", "-0.0", "m", "0", "n"), ("ZREM", "k", PAD)])
@hypothesis.example(commands=list(everything(random.Random(1))))
@SOME
def test_any_value_arrives_or_is_told(commands: list[Command], fleet: Fleet, reader: Target, version: str) -> None:
    arrives(commands, fleet, reader, version)


@pytest.mark.parametrize("small_bytes", [rebuild.SMALL_BYTES, 0], ids=["whole", "in slices"])
def test_a_pending_entry_that_was_deleted_before_anybody_counted_arrives(
    small_bytes: int, fleet: Fleet, reader: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "SMALL_BYTES", small_bytes)
    gone: list[Command] = [*BEGUN, ("XDEL", "k", "2-0", "4-0")]  # both of them amid the stream, and pending
    arrives(gone, fleet, reader, "7.0", "6.2")


@pytest.mark.soak
@pytest.mark.parametrize("version", ["6.2", "7.0", "8.1"])
@pytest.mark.parametrize("small_bytes", [rebuild.SMALL_BYTES, 0], ids=["whole", "in slices"])
@hypothesis.given(commands=VALUES)
@pytest.mark.parametrize("origin", ["9.1", "6.2"])
@hypothesis.settings(SOME, max_examples=1000)
def test_many_values_arrive_or_are_told(
    commands: list[Command], fleet: Fleet, reader: Target, version: str, small_bytes: int, origin: str
) -> None:
    before, rebuild.SMALL_BYTES = rebuild.SMALL_BYTES, small_bytes
    try:
        arrives(commands, fleet, reader, version, origin)
    finally:
        rebuild.SMALL_BYTES = before


@pytest.mark.parametrize("how", ["in slices", "without scripts"])
def test_everything_arrives_slice_by_slice_and_where_scripts_are_refused(
    how: str, fleet: Fleet, reader: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = fleet.server("9.1", "source"), fleet.server("7.0", "target")
    fill(source.wire)
    to = target.target
    if how == "in slices":
        monkeypatch.setattr(rebuild, "SMALL_BYTES", 0)
    else:
        target.wire.call("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-@scripting")
        to = dataclasses.replace(to, username="plain", password="secret")
    report, _ = built(dumped(source.wire), to, reader)
    assert (report.failures, report.restored) == ([], 41)
    lost = differences(facts(source.wire), facts(target.wire))
    assert {kind for _, _, kind in lost} == {"field-expiry", "consumer-times", "function-library"}  # none were brought
    told = {(loss["db"], loss["key"], kind) for loss in report.losses for kind in loss["lost"]}
    assert {one for one in lost if one[2] != "function-library"} - told == set()
    assert not [name for name in target.wire.call("KEYS", "*") if b"understudy" in name]


def test_an_entry_with_more_words_than_a_script_can_pass_on_arrives_and_its_losses_are_told(
    fleet: Fleet, reader: Target
) -> None:
    source, target = fleet.server("9.1", "source"), fleet.server("6.2", "target")
    source.wire.call("XADD", "wide", "1-1", *(word for number in range(4500) for word in (f"f{number}", "v")))
    for overwrite in (False, True):
        report, _ = built(dumped(source.wire), target.target, reader, overwrite=overwrite)
        assert (report.restored, report.failures, report.lost_kinds) == (1, [], {"stream-counters": 1})
    both = [one.wire.call("XRANGE", "wide", "-", "+") for one in (source, target)]
    assert both[0] == both[1]


def test_what_is_there_is_skipped_or_replaced_and_a_refused_command_changes_nothing(
    fleet: Fleet, reader: Target
) -> None:
    source, target = fleet.server("9.1", "source"), fleet.server("6.2", "target")
    source.wire.pipeline([("RPUSH", "list", "new"), ("SET", "string", "new"), ("HSET", "hash", "f", "new")])
    old: list[Command] = [("RPUSH", "list", "old"), ("SET", "string", "old", "PX", 9_000_000), ("SADD", "hash", "old")]
    target.wire.pipeline(old)
    entries = dumped(source.wire)
    report, _ = built(entries, target.target, reader)
    assert (report.restored, report.skipped) == (0, 3)
    assert target.wire.call("LRANGE", "list", 0, -1) == [b"old"]
    report, _ = built(entries, target.target, reader, overwrite=True)
    assert (report.restored, report.skipped) == (3, 0)
    assert target.wire.call("LRANGE", "list", 0, -1) == [b"new"]
    assert target.wire.pipeline([("GET", "string"), ("TTL", "string"), ("HGETALL", "hash")]) == [
        b"new",
        -1,
        [b"f", b"new"],
    ]
    script = rebuild._SCRIPT
    broken = target.wire.pipeline(
        [("EVAL", script, 2, "list", "beside", 0, 3, "RPUSH", "beside", "x", 3, "SADD", "beside", "y")]
    )
    assert "WRONGTYPE" in str(broken[0])
    assert target.wire.pipeline([("LRANGE", "list", 0, -1), ("EXISTS", "beside")]) == [[b"new"], 0]


def test_what_would_be_lost_is_refused_foretold_accepted_and_known_to_verify(
    fleet: Fleet, typed: Typed, tmp_path: Path
) -> None:
    source, target = fleet.server("9.1", "source"), fleet.server("6.2", "target")
    fill(source.wire)
    backup = str(backed_up(source.target, tmp_path / "sets").directory)
    env = {**target.env, "BACKUP_DIR": str(tmp_path / "sets")}
    refused = typed("restore", backup, env=env)
    assert refused.returncode == 14
    assert "to redis 6.2.14 at" in refused.stderr
    assert "9 keys and 1 function library would lose what it cannot hold" in refused.stderr
    assert "  hash:fields-expire (hash): the expiry of its fields\n" in refused.stderr
    assert "Try: --accept-loss" in refused.stderr
    assert target.wire.call("DBSIZE") == 0
    foretold = typed("restore", backup, "--dry-run", env=env)
    assert foretold.returncode == 0
    assert "[DRY RUN]   pages (function library): the whole library" in foretold.stdout
    some = typed("restore", backup, "--accept-loss", "--match", "hash:f*", env=env)
    assert "Accepted: 1 key without what the server cannot hold: field-expiry 1\n  hash:fields-expire" in some.stdout
    target.wire.call("FLUSHALL")
    accepted = typed("restore", backup, "--accept-loss", "--json", env=env)
    told = json.loads(accepted.stdout)["components"]["redis"]
    assert (accepted.returncode, told["restored"], told["lost"]) == (0, 41, 10)
    assert {"key": "hash:fields-expire", "db": 0, "type": "hash", "lost": ["field-expiry"]} in told["losses"]
    assert told["lost_kinds"] == {
        "consumer-times": 2,
        "field-expiry": 2,
        "function-library": 1,
        "stream-counters": 7,
    }
    again = typed("restore", backup, "--accept-loss", env=env)
    assert "restored=0, skipped=41" in again.stdout
    equal = typed("verify", backup, "--full", env=env)
    assert (equal.returncode, "value_mismatch=0, extra=0, compared=41" in equal.stdout) == (0, True)
    assert re.search(r"Equal but for what this server cannot hold: \d+ keys and 1 function library;", equal.stdout)
    target.wire.pipeline([("HSET", "hash:fields-expire", "goes", "x"), ("XADD", "stream:groups", "*", "f", "v")])
    target.wire.pipeline([("ZADD", "zset:many", "1", "member 7"), ("XGROUP", "DESTROY", "stream:gone", "g")])
    differs = typed("verify", backup, "--full", env=env)
    assert differs.returncode == 12
    assert "value_mismatch=4" in differs.stdout


def test_payloads_that_no_server_of_ours_reads_are_refused_with_what_helps(reader: Target) -> None:
    readers = Readers()
    foreign = b"\x00\x01x" + (12).to_bytes(2, "little") + bytes(8)
    holder = Holder("redis 6.2.14", 9, frozenset([12]), Abilities())
    with pytest.raises(IntegrityError) as refusal:
        readers.check({12: foreign}, {"127.0.0.1:6379": holder})
    readers.close()
    assert "RDB version 12 (written by Redis 7.4 or newer), and this server reads up to 9" in refusal.value.why
    assert "UNDERSTUDY_SERVER" in refusal.value.hint


def test_who_may_not_be_asked_is_told_of_the_right_and_not_that_the_server_is_old(fleet: Fleet) -> None:
    target = fleet.server("9.1", "target")
    target.wire.call("ACL", "SETUSER", "weak", "on", ">secret", "~*", "+@all", "-hpexpireat")
    weak = dataclasses.replace(target.target, username="weak", password="secret")
    foreign = b"\x00\x01x" + (12).to_bytes(2, "little") + bytes(8)
    with Router(weak) as router, pytest.raises(NotAuthorisedError) as refusal:
        holders(router, {12: foreign})
    assert "ACL SETUSER NAME +hpexpireat" in refusal.value.hint


def test_a_module_that_the_target_lacks_is_a_loss_of_the_whole_key(fleet: Fleet, tmp_path: Path) -> None:
    """No module can be loaded here: a payload of one is made by hand, which no server accepts either way."""
    target = fleet.server("9.1", "target")
    report = RestoreReport()
    plan = {"overwrite": False, "accept_loss": True, "recreate_stream_groups": True}
    with Router(target.target) as router:
        Rebuilder(plan, report, name_of, lambda *_: None).lost_whole(router, Entry(b"m", None, b"\x07x"), "no module")
        assert report.failed == 0
        plan["accept_loss"] = False
        Rebuilder(plan, report, name_of, lambda *_: None).lost_whole(router, Entry(b"m", None, b"\x07x"), "no module")
        assert report.failures == ["m: no module"]


def test_a_cluster_of_mixed_versions_gets_payloads_and_commands_each_where_they_fit(
    fleet: Fleet, tmp_path: Path
) -> None:
    source = fleet.server("9.1", "source")
    fill(source.wire)
    source.wire.pipeline([("SET", f"key:{number}", number) for number in range(200)])
    backup = backed_up(source.target, tmp_path)
    lines = ["cluster-enabled yes", "cluster-announce-ip 127.0.0.1"]
    with contextlib.ExitStack() as stack:
        new, old = stack.enter_context(Scratch(tmp_path)), stack.enter_context(Scratch(tmp_path, older("7.0")))
        servers = [
            new.server("new", lines=[*lines, "import-mode no"], databases=1),
            old.server("old", lines=lines, databases=1),
        ]
        wires = []
        for number, server in enumerate(servers):
            alone = dataclasses.replace(server.target, import_source=False)
            with Wire(server.address, alone) as wire:
                wire.call("CLUSTER", "ADDSLOTSRANGE", 8192 * number, 8192 * number + 8191)
                wire.call("CONFIG", "SET", "requirepass", "shared")
            wires.append(stack.enter_context(Wire(server.address, dataclasses.replace(alone, password="shared"))))
        wires[0].call("CLUSTER", "MEET", "127.0.0.1", servers[1].address.port)
        eventually(lambda: all(b"cluster_slots_assigned:16384" in one.call("CLUSTER", "INFO") for one in wires))
        eventually(lambda: all(b"cluster_state:ok" in one.call("CLUSTER", "INFO") for one in wires))
        component = RedisComponent(Target((servers[0].address,), Mode.OSS_CLUSTER, password="shared"))
        report = restore(backup, [component], RestoreOptions(accept_loss=True), Silent())["redis"]
        component.close()
        assert (report.failures, report.restored) == ([], 241)
        held = [facts(wire) for wire in wires]
    assert all(held)
    lost = differences(facts(source.wire), held[0] | held[1])
    assert lost == reported(report)
    on_the_old_one = {name_of(name) for _, name, _ in held[1]}
    assert lost
    assert {name for _, name, _ in lost} <= on_the_old_one


def test_a_proxy_lets_everything_through_that_builds_keys(fleet: Fleet, reader: Target, valkey_enterprise: Lab) -> None:
    source = fleet.server("9.1", "source")
    fill(source.wire)
    with Router(valkey_enterprise.target()) as router:
        wipe(router)
    report, _ = built(dumped(source.wire), valkey_enterprise.target(), reader)
    assert (report.failures, report.restored) == ([], 41)
    assert {kind for loss in report.losses for kind in loss["lost"]} == {"consumer-times"}
    backup_of = valkey_enterprise.nodes  # the servers behind it are asked themselves
    held: Facts = {}
    for node in backup_of:
        if node.kind == "valkey":
            with Wire(node.address, dataclasses.replace(valkey_enterprise.target(), mode=Mode.STANDALONE)) as wire:
                if b"role:master" in wire.call("INFO", "replication"):
                    held |= facts(wire)
    assert {kind for _, _, kind in differences(facts(source.wire), held)} == {"consumer-times", "function-library"}
