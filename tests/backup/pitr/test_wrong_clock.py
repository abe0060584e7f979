"""A machine whose clock is days ahead finds everything too old: nothing is deleted by such a clock."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from understudy.backup.pitr.meter import Meter
from understudy.backup.pitr.objects import LocalObjects
from understudy.backup.pitr.service import Archived, Plan, Service
from understudy.valkey.target import Address, Mode, Target


@pytest.mark.parametrize(("ahead_ms", "healthy"), [(0, True), (-400_000_000, False), (400_000_000, False)])
def test_nothing_is_deleted_by_a_clock_that_no_primary_shares(ahead_ms: float, healthy: bool, tmp_path: Path) -> None:
    target = Target((Address("127.0.0.1", 1),), Mode.STANDALONE)
    service = Service(target, LocalObjects(tmp_path), Plan(None, "local", 1, 7, 86_400, 1 << 30), print)
    meter = Meter("shard-1", shipped_ms=int(time.time() * 1000), ahead_ms=ahead_ms)
    service._shards["shard-1"] = cast("Archived", SimpleNamespace(meter=meter))
    assert service._healthy() is healthy
