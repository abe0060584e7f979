"""Our slot and glob rules against the server's own."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.lab import Lab
from understudy.valkey.glob import compile_glob
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges, from_ranges, key_slot

tagged = st.lists(st.sampled_from([b"{", b"}", b"a", b"\x00", b"\xff", b"user"]), max_size=8).map(b"".join)


@given(keys=st.lists(st.one_of(st.binary(max_size=40), tagged), min_size=1, max_size=50))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_is_in_the_slot_that_the_server_says(valkey_cluster_lab: Lab, keys: list[bytes]) -> None:
    with Router(valkey_cluster_lab.target()) as router:
        wire = router.wire(router.topology.nodes[0].address)
        assert [key_slot(key) for key in keys] == wire.pipeline([("CLUSTER", "KEYSLOT", key) for key in keys])


@given(slots=st.sets(st.integers(0, 16383), max_size=200))
def test_ranges_keep_every_slot(slots: set[int]) -> None:
    assert from_ranges(as_ranges(slots)) == slots


glob = st.lists(
    st.sampled_from(["*", "?", "a", "b", "[", "]", "^", "-", "\\", "[a-c]", "[^a]", "é", "\n", "[b-a]"]), max_size=8
).map("".join)
words = st.lists(st.sampled_from([b"a", b"b", b"c", b"-", b"[", b"]", b"^", b"\\", b"\n", b"x", b"\xff"]), max_size=5)


@given(pattern=glob, names=st.lists(words.map(b"".join), min_size=1, max_size=20, unique=True))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_glob_matches_what_the_server_matches(valkey_standalone_lab: Lab, pattern: str, names: list[bytes]) -> None:
    with Router(valkey_standalone_lab.target()) as router:
        wire = router.wire(router.topology.nodes[0].address)
        wire.call("FLUSHALL")
        wire.pipeline([("SET", name, "1") for name in names])
        expression = compile_glob(pattern)
        assert {name for name in names if expression.fullmatch(name)} == set(wire.call("KEYS", pattern))
