"""Servers before Valkey 8.1 do not tell whether somebody else holds writes; letting ours go on would end that too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from understudy.backup.replica import cut as cutting
from understudy.backup.replica.cut import cut
from understudy.backup.replica.pause import may_release
from understudy.backup.replica.source import UnsettledError
from understudy.lab import Lab
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.wire import Wire
from versions import Fleet


def test_somebody_elses_pause_is_found_where_the_server_does_not_tell(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        server = fleet.server("7.0")
        address = server.target.seeds[0]
        server.wire.call("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-eval")
        plain = dataclasses.replace(server.target, username="plain", password="secret")
        with Wire(address, plain) as wire:
            assert not may_release([wire]), "who may not run scripts cannot know"
        with Wire(address, server.target, 0.5) as wire:
            assert may_release([wire])
            server.wire.call("CLIENT", "PAUSE", 60_000, "WRITE")
            with pytest.raises(UnsettledError, match="are held already"):
                may_release([wire])


def test_a_pause_that_we_may_not_end_runs_out(
    valkey_cluster: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "may_release", lambda _: False)
    with Router(valkey_cluster.target()) as router, cut(router, tmp_path, Silent()) as made:
        assert made.paused_ms == 300
