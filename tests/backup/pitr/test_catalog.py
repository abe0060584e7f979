"""What is read of an archive in which something is damaged, missing, or another's: pure files, no server."""

from __future__ import annotations

from pathlib import Path

from pitr_made import MadeArchive
from understudy.backup.pitr.catalog import archives, read_archive
from understudy.backup.pitr.stream import Head, Slots
from understudy.backup.pitr.windows import Span

ONE, OTHER = "20261120T100000Z-00aa", "20261120T100000Z-00bb"


def test_a_stream_whose_head_is_damaged_is_what_its_pieces_say(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    made = archive.stream(ONE, 4_500, b"rdb")
    made.piece(b"", 9_000)
    made.head(20_000)
    (made.folder / "head.json").write_bytes(b"{")
    found = read_archive(archive.objects, archive.root)
    assert found.windows.spans == (Span(4, 8),)
    assert "head.json: it is damaged" in found.problems[0]


def test_a_piece_that_is_missing_is_told_of_also_where_nothing_follows(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    made = archive.stream(ONE, 4_500, b"rdb")
    made.piece(b"", 9_000).unlink()
    found = read_archive(archive.objects, archive.root)
    assert found.problems == (f"reading {archive.root}/{ONE}: chunk 0 is missing",)


def test_a_shard_is_not_given_slots_that_it_may_have_lost(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    made = archive.stream(ONE, 4_500, b"rdb", mode="oss-cluster")
    made.serves(4_500, range(16384))
    made.serves(7_500, range(5000))
    made.piece(b"", 9_000)
    (made.folder / "head.json").write_bytes(Head(9_000, 1, 9_000, changes=2).encode())
    assert read_archive(archive.objects, archive.root).problems == ()
    (made.folder / Slots(7_500, None).path).unlink()
    found = read_archive(archive.objects, archive.root)
    assert found.streams == ()
    assert "is not all there" in found.problems[0]


def test_a_document_of_another_stream_and_a_folder_that_is_no_archive_are_none(tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path)
    one, other = archive.stream(ONE, 4_500, b"rdb"), archive.stream(OTHER, 4_500, b"rdb")
    (other.folder / "stream.json").write_bytes((one.folder / "stream.json").read_bytes())
    (tmp_path / "archive" / "a\x1b[31m-b").mkdir()
    assert archives(archive.objects) == [archive.name]
    found = read_archive(archive.objects, archive.root)
    assert [stream.info.id for stream in found.streams] == [ONE]
    assert f"it is that of {ONE}" in found.problems[0]
