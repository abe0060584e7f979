"""Archives that a clock wrote which was ahead, and was set back later: its seconds are none. No server."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitr_made import MadeArchive
from understudy.backup.pitr.catalog import Archive, read_archive
from understudy.backup.pitr.retention import archived_before, expired, survey
from understudy.backup.pitr.windows import Span, parts_of

HOUR, DAY = 3600, 86_400
NOW = 1_790_000_000  # the second in which the clock was set back, in truth
AHEAD, TRUE, LATER, AGAIN = (f"20261120T10000{number}Z-00aa" for number in range(4))
WHY = "the archiver was restarted"


def read(archive: MadeArchive, now: float) -> Archive:
    return read_archive(archive.objects, archive.root, int(now * 1000))


def who(archive: MadeArchive, second: int, now: float) -> list[str]:
    return [part.stream for part in parts_of(read(archive, now).tracks, second) or ()]


@pytest.mark.parametrize("replid", ["a" * 40, "b" * 40])
def test_the_true_stream_counts_when_the_seconds_come_that_a_clock_had_been_ahead_at(
    tmp_path: Path, replid: str
) -> None:
    archive = MadeArchive(tmp_path)
    wrong = archive.stream(AHEAD, (NOW - 600 + DAY) * 1000 + 1, b"wrong", replid=replid)
    wrong.piece(b"", (NOW + DAY) * 1000)
    true = archive.stream(TRUE, (NOW + 5) * 1000 + 1, b"true", gap=((NOW + DAY) * 1000, WHY), offset=50)
    true.piece(b"", (NOW + HOUR) * 1000)
    assert read(archive, NOW + HOUR).windows.spans == (Span(NOW + 5, NOW + HOUR - 1),), "nothing of the future"
    true.piece(b"", (NOW + DAY - HOUR) * 1000)
    following = archive.stream(LATER, (NOW + DAY - HOUR - 60) * 1000 + 1, b"more", previous=TRUE, offset=90)
    following.piece(b"", (NOW + 2 * DAY) * 1000)
    assert who(archive, NOW + DAY - 300, NOW + 2 * DAY) == [LATER]
    assert read(archive, NOW + 2 * DAY).windows.spans == (Span(NOW + 5, NOW + 2 * DAY - 1),)
    assert read(archive, NOW + 2 * DAY).problems == ()


def test_what_was_archived_after_the_clock_was_right_again_is_not_taken_for_older(tmp_path: Path) -> None:
    """The archiver is restarted while the seconds ahead have not come: they had been archived then, too."""
    archive = MadeArchive(tmp_path)
    archive.stream(AHEAD, (NOW - 600 + DAY) * 1000 + 1, b"wrong", replid="b" * 40).piece(b"", (NOW + DAY) * 1000)
    gap = ((NOW + DAY) * 1000, WHY)
    archive.stream(TRUE, (NOW + 5) * 1000 + 1, b"true", gap=gap, replid="c" * 40).piece(b"", (NOW + 100) * 1000)
    again = archive.stream(AGAIN, (NOW + 200) * 1000 + 1, b"again", gap=gap, replid="d" * 40)
    again.piece(b"", (NOW + 300) * 1000)
    found = read(archive, NOW + 300)
    assert found.windows.spans == (Span(NOW + 5, NOW + 99), Span(NOW + 200, NOW + 299))
    assert [gap.why for gap in found.windows.gaps] == [(WHY,)]
    again.piece(b"", (NOW + 2 * DAY) * 1000)
    assert who(archive, NOW + DAY - 300, NOW + 2 * DAY) == [AGAIN]


def test_of_a_clock_that_is_set_back_a_little_the_seconds_before_count(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    archive.stream(AHEAD, (NOW - 600) * 1000 + 1, b"wrong").piece(b"", (NOW + 30) * 1000)
    gap = ((NOW + 30) * 1000, "the clock of this machine was set back")
    true = archive.stream(TRUE, (NOW + 5) * 1000 + 1, b"true", gap=gap, offset=50)
    true.piece(b"", (NOW + 60) * 1000, from_ms=(NOW + 20) * 1000)
    found = read(archive, NOW + 60).windows
    assert found.spans == (Span(NOW - 600, NOW + 4), Span(NOW + 20, NOW + 59))


def test_another_shard_s_streams_are_not_measured_by_one_s(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    halves = (range(8192), range(8192, 16384))
    for number, (half, ended) in enumerate(zip(halves, (NOW + 60, NOW + 61), strict=True)):
        node, replid = f"127.0.0.1:700{number}", str(number) * 40
        old = archive.stream(f"20261120T10000{number}Z-00bb", (NOW - 99) * 1000 + 1, b"", mode="oss-cluster", node=node)
        old.serves((NOW - 99) * 1000 + 1, half)
        old.piece(b"", ended * 1000)
        new = archive.stream(
            f"20261120T10000{number}Z-00cc", (NOW + number) * 1000 + 1, b"", mode="oss-cluster", node=node,
            replid=replid, gap=(ended * 1000, WHY),
        )  # fmt: skip
        new.serves((NOW + number) * 1000 + 1, half)
        new.piece(b"", (NOW + 30) * 1000)
    found = read(archive, NOW + 100).windows
    assert found.spans == (Span(NOW - 99, NOW + 29),), "each shard's own: one second less, and one would cut the other"


def test_a_stream_of_the_future_is_told_of_where_nothing_says_that_its_clock_was_wrong(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    archive.stream(AHEAD, (NOW - 600) * 1000 + 1, b"rdb").piece(b"", (NOW + DAY) * 1000)
    found = read(archive, NOW)
    assert found.windows.spans == (Span(NOW - 600, NOW - 1),)
    assert "that have not come by this machine's clock" in found.problems[0]


def test_what_a_clock_wrote_ahead_goes_with_what_tells_of_it_and_first(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    archive.stream(AHEAD, (NOW + 6 * DAY) * 1000 + 1, b"wrong").piece(b"", (NOW + 6 * DAY + 60) * 1000)
    gap = ((NOW + 6 * DAY + 60) * 1000, WHY)
    archive.stream(TRUE, (NOW + 5) * 1000 + 1, b"true", gap=gap, offset=50).piece(b"", (NOW + DAY) * 1000)
    kept = survey(archive.objects, archive.root)
    assert archived_before(kept, None) == (NOW + 6 * DAY + 60) * 1000, "what a later stream tells of"
    assert expired(kept, (), (NOW + 7 * DAY) * 1000, 7, healthy=True) == []
    assert expired(kept, (), (NOW + 9 * DAY) * 1000, 7, healthy=True) == [AHEAD, TRUE]
