"""Clients under test: each library in each mode, and what is known of a call's effect when it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support import eventually
from understudy.drill.client import Client, Preset, Watch
from understudy.drill.clients import BASES, LIBRARIES, connect_with, find_preset
from understudy.drill.operation import Outcome
from understudy.errors import NotFoundError, UsageError
from understudy.lab import Lab
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode, Target

LAYOUTS = ("standalone", "sentinel", "cluster", "enterprise")
FORKS = ("redis-py", "valkey-py")  # those whose connections can be watched


@contextmanager
def opened(target: Target, preset: Preset) -> Iterator[tuple[Client, Watch]]:
    client, watch = connect_with(preset.library)(target, preset)
    try:
        yield client, watch
    finally:
        client.close()


@pytest.fixture
def lab_of(request: pytest.FixtureRequest) -> Lab:
    found: Lab = request.getfixturevalue(f"valkey_{request.param}")
    return found


@pytest.mark.parametrize("lab_of", LAYOUTS, indirect=True)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("base", BASES)
def test_every_library_writes_reads_and_appends_in_every_mode(lab_of: Lab, library: str, base: str) -> None:
    preset = find_preset(f"{library}/{base}", {})
    if library == "glide" and lab_of.layout in {"sentinel", "enterprise"}:
        with pytest.raises(UsageError, match=lab_of.layout):
            connect_with(library)(lab_of.target(), preset)
        return
    with opened(lab_of.target(), preset) as (client, watch):
        for key in ("a", "b", "c"):  # a shard each
            with watch(key) as trace:
                client.set(key, "1")
                assert client.get(key) == "1"
                client.append(f"{key}-list", "2")
            assert (trace.outcome, trace.error) == (Outcome.OK, "")
            assert trace.attempts >= 1
        assert client.get("nothing") is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_refused_write_is_known_to_have_had_no_effect(valkey_standalone: Lab, library: str) -> None:
    node = valkey_standalone.nodes[0]
    with opened(valkey_standalone.target(), find_preset(f"{library}/defaults", {})) as (client, watch):
        client.get("warm")
        valkey_standalone.call(node, "CONFIG", "SET", "maxmemory", 1)
        try:
            with watch("full") as trace:
                client.set("full", "1")
        finally:
            valkey_standalone.call(node, "CONFIG", "SET", "maxmemory", 0)
        assert trace.outcome is Outcome.FAILED
        assert trace.error
        assert client.get("full") is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_write_that_was_sent_and_never_answered_is_indeterminate(valkey_standalone: Lab, library: str) -> None:
    node = valkey_standalone.nodes[0]
    short: dict[str, int | float] = (
        {"request_timeout": 300} if library == "glide" else {"socket_timeout": 0.3, "retries": 0}
    )
    with opened(valkey_standalone.target(), Preset("mine", library, settings=short)) as (client, watch):
        client.get("warm")
        valkey_standalone.pause(node)
        try:
            with watch("late") as trace:
                client.set("late", "1")
        finally:
            valkey_standalone.resume(node)
        assert trace.outcome is Outcome.INDETERMINATE
        assert eventually(lambda: client.get("late")) == "1", "it had its effect after all"


@pytest.mark.parametrize("library", FORKS)
def test_a_write_that_was_never_sent_has_failed(valkey_standalone: Lab, library: str) -> None:
    with opened(valkey_standalone.target(), find_preset(f"{library}/one-try", {})) as (client, watch):
        client.get("warm")
        valkey_standalone.kill("node-1")
        with watch("first") as first:
            client.set("first", "1")
        with watch("second") as second:
            client.set("second", "1")
    assert first.outcome is not Outcome.OK
    assert (second.outcome, second.attempts) == (Outcome.FAILED, 0), "nobody listens: nothing was sent"


@pytest.mark.parametrize("library", FORKS)
def test_a_try_that_was_not_answered_makes_the_call_indeterminate_though_the_last_was_refused(
    valkey_standalone: Lab, library: str
) -> None:
    preset = Preset("mine", library, settings={"socket_timeout": 5.0, "retries": 3})
    with opened(valkey_standalone.target(), preset) as (client, watch):
        client.get("warm")
        valkey_standalone.pause("node-1")
        killing = threading.Timer(0.3, valkey_standalone.kill, ["node-1"])
        killing.start()
        with watch("unsure") as trace:
            client.set("unsure", "1")
        killing.join()
    assert trace.error == "ConnectionError", "the last try found nobody"
    assert trace.outcome is Outcome.INDETERMINATE


@pytest.mark.parametrize("library", FORKS)
def test_redirections_are_counted(valkey_cluster: Lab, library: str) -> None:
    from understudy.lab.reshard import move_slot
    from understudy.valkey.router import Router

    with opened(valkey_cluster.target(), find_preset(f"{library}/defaults", {})) as (client, watch):
        client.set("a key", "1")
        with Router(valkey_cluster.target()) as router:
            slot = key_slot(b"a key")
            home = router.topology.by_slot()[slot].primary
            away = next(one.primary for one in router.topology.shards if one.primary and one.primary != home)
            assert home
            assert away
            move_slot(router, slot, away)
            with watch("a key") as trace:
                assert client.get("a key") == "1"
            router.refresh()
            move_slot(router, slot, home)
    assert (trace.outcome, trace.moved, trace.attempts) == (Outcome.OK, 1, 2)


def test_what_a_library_does_not_know_is_a_usage_error(valkey_standalone: Lab) -> None:
    for library in LIBRARIES:
        with pytest.raises(UsageError) as caught:
            connect_with(library)(valkey_standalone.target(), Preset("mine", library, settings={"warp": 9}))
        assert "warp" in str(caught.value)


def test_a_client_that_nobody_knows_is_not_found_and_the_others_are_named() -> None:
    for name in ("nobody", "valkey-py/nobody", "nobody/defaults"):
        with pytest.raises(NotFoundError) as caught:
            find_preset(name, {})
        assert "recommended" in caught.value.hint


def test_a_preset_says_what_it_is() -> None:
    mine = Preset("mine", "redis-py", "recommended", "enterprise", True, 3.0, {"socket_timeout": 0.5})
    for part in ("redis-py", "recommended", "enterprise", "stable", "3 s", "socket_timeout = 0.5"):
        assert part in str(mine)
    assert Preset(**mine.as_data()) == mine
    assert Mode(mine.mode or "") is Mode.ENTERPRISE
