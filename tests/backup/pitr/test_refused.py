"""A command that a copy cannot do makes it none: a second without that command's effect is offered by nobody."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from archiving import AwayObjects, Counter, archiving, last_second, windows, wrong_seconds
from support import eventually
from understudy import lab
from understudy.backup.pitr import follow
from understudy.backup.replica.cut import cut
from understudy.errors import RefusedError
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.target import Mode
from understudy.valkey.wire import Wire


def test_what_a_copy_could_not_do_ends_its_stream_and_refuses_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_AFTER_REFUSAL_S", 0.5)
    objects = AwayObjects(tmp_path / "backups")
    with lab.standalone() as server:
        target = server.target().with_mode(Mode.STANDALONE)
        with (
            Counter(target) as counter,
            archiving(target, objects, tmp_path / "copies") as running,
            Wire(target.seeds[0], target) as wire,
            Router(target) as router,
        ):
            eventually(lambda: last_second(objects))

            def renamed() -> None:
                wire.call("DEBUG", "REPLICATE", "hidden-flushall")

            with pytest.raises(RefusedError, match=r"cannot do a command of .*hidden-flushall"):  # noqa: SIM117
                with cut(router, tmp_path, Silent(), in_sync=renamed):
                    pytest.fail("a copy that lacks something was published")
            eventually(lambda: running.heard("following: archiving"))
            asked = int(time.time())
            eventually(lambda: last_second(objects) > asked)
    (gap,) = windows(objects).gaps
    assert any("unknown command 'hidden-flushall'" in why for why in gap.why)
    assert wrong_seconds(objects, counter) == []
