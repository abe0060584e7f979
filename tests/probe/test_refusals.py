"""Servers that answer, and refuse: whoever asks must not be told to try again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from probe.conftest import serving
from understudy.errors import NotAuthorisedError, UsageError
from understudy.lab import Lab
from understudy.valkey.discovery import discover
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import Wire


@contextmanager
def user_without_cluster(running: Lab) -> Iterator[Target]:
    """Give a target with a user who may do everything but CLUSTER."""
    target = running.target()
    told = [replace(target, seeds=(node.address,)) for node in running.nodes]
    for one in told:
        with Wire(one.seeds[0], one) as wire:
            wire.call("ACL", "SETUSER", "app", "on", ">app-password", "~*", "&*", "+@all", "-cluster")
    try:
        yield replace(target, username="app", password="app-password")
    finally:
        for one in told:
            with Wire(one.seeds[0], one) as wire:
                wire.call("ACL", "DELUSER", "app")


def test_a_user_without_cluster_is_not_authorised_and_told_which_rule(valkey_cluster: Lab) -> None:
    with user_without_cluster(valkey_cluster) as target:
        with pytest.raises(NotAuthorisedError, match="NOPERM") as refused:
            discover(target)
        assert "+cluster" in refused.value.hint and not refused.value.retryable
        with serving(target) as probe:
            for path in ("cluster-info", "cluster-slots", "test-keys"):
                problem = probe.get(f"/redis/{path}", status=503)
                assert (problem["error"], problem["retryable"]) == ("NotAuthorisedError", False), path
                assert "+cluster" in problem["try"]
            assert "+cluster" in probe.get("/redis/status")["hint"]
            *_, verdict = probe.lines("/redis/failover-recovery", duration=0.5, interval=0.25)
            assert (verdict["word"], verdict["stuck"]) == ("unknown", False)
            assert verdict["sentence"].startswith("Nothing worked before the first failure")


def test_a_mode_that_the_server_has_not_is_said_to_be_wrong(valkey_standalone: Lab) -> None:
    target = valkey_standalone.target().with_mode(Mode.OSS_CLUSTER)
    with pytest.raises(UsageError, match="cluster support disabled") as refused:
        discover(target)
    assert "REDIS_MODE is wrong" in refused.value.hint
    with serving(target) as probe:
        for path in ("cluster-info", "test-keys"):
            problem = probe.get(f"/redis/{path}", status=503)
            assert "REDIS_MODE is wrong" in problem["try"] and not problem["retryable"], path
        assert "REDIS_MODE is wrong" in probe.get("/redis/status")["hint"]
