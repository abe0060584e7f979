"""Servers of other versions: everything arrives as it was, or is in the loss report, which tells nothing else."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import backed_up, repository_root
from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.backup.components.redis import RedisComponent
from understudy.backup.restore import restore
from understudy.backup.set import BackupSet
from understudy.progress import Silent
from versions import VERSIONS, Facts, Fleet, Running, differences, facts, fill, reported

pytestmark = pytest.mark.long(20)

DOWN = [("9.1", "8.1"), ("9.1", "7.0"), ("9.1", "6.2")]
UP = [("8.1", "9.1"), ("7.0", "9.1"), ("6.2", "9.1")]
OTHERS = [pair for pair in itertools.product(VERSIONS, VERSIONS) if pair not in DOWN + UP]
# which kinds are lost between which: the table of docs/anywhere.md
LOST = {
    ("9.1", "8.1"): {"field-expiry", "consumer-times"},
    ("9.1", "7.0"): {"field-expiry", "consumer-times"},
    ("9.1", "6.2"): {"field-expiry", "consumer-times", "stream-counters", "function-library"},
    ("8.1", "7.0"): {"consumer-times"},
    ("8.1", "6.2"): {"consumer-times", "stream-counters", "function-library"},
    ("7.0", "6.2"): {"consumer-times", "stream-counters", "function-library"},
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as found:
        yield found


class Filled:
    """A set of everything that a version holds, and what its server told."""

    def __init__(self, fleet: Fleet, version: str, folder: Path) -> None:
        source = fleet.server(version, "source")
        fill(source.wire)
        source.wire.pipeline([("SELECT", 3), ("SET", "other database", "x"), ("HSET", "h", "f", "v"), ("SELECT", 0)])
        self.facts: Facts = facts(source.wire, (0, 3))
        self.backup: BackupSet = backed_up(source.target, folder)


@pytest.fixture(scope="module")
def filled(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Filled]:
    class Lazily(dict[str, Filled]):
        def __missing__(self, version: str) -> Filled:
            self[version] = Filled(fleet, version, tmp_path_factory.mktemp("sets"))
            return self[version]

    return Lazily()


def restored(backup: BackupSet, target: Running, **options: bool) -> RestoreReport:
    component = RedisComponent(target.target)
    try:
        return restore(backup, [component], RestoreOptions(**options), Silent())["redis"]  # type: ignore[arg-type]
    finally:
        component.close()


@pytest.mark.parametrize(
    "pair",
    [*DOWN, *UP, *(pytest.param(pair, marks=pytest.mark.soak) for pair in OTHERS)],
    ids=" to ".join,
)
def test_everything_arrives_or_is_in_the_loss_report(
    pair: tuple[str, str], fleet: Fleet, filled: dict[str, Filled]
) -> None:
    source, target = filled[pair[0]], fleet.server(pair[1], "target")
    time.sleep(0.002)  # so that a consumer's time of now is another one than that of the source
    may_lose = pair in LOST
    if may_lose:
        foretold = restored(source.backup, target, dry_run=True)
        assert foretold.restored == source.backup.metadata.keys
        assert facts(target.wire, (0, 3)) == {}
    done = restored(source.backup, target, accept_loss=may_lose)
    assert (done.failed, done.failures) == (0, [])
    assert done.restored == source.backup.metadata.keys
    lost = differences(source.facts, facts(target.wire, (0, 3)))
    assert lost == reported(done)
    assert {kind for _, _, kind in lost} == LOST.get(pair, set())
    if may_lose:
        assert lost == reported(foretold)
        assert done.lost_kinds == foretold.lost_kinds


def test_the_page_has_the_table_of_this_test() -> None:
    page = (repository_root() / "docs" / "anywhere.md").read_text()
    table = page[page.index("| from, to |") : page.index("`payloads`: everything")]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:2] == "| "]
    to = [title.split()[1] for title in rows[0][1:]]
    told = {
        (row[0].split()[1], version): set(re.findall(r"`([a-z-]+)`", cell)) if "commands" in cell else set()
        for row in rows[1:]
        for version, cell in zip(to, row[1:], strict=True)
    }
    assert told == {pair: LOST.get(pair, set()) for pair in itertools.product(VERSIONS, VERSIONS)}
