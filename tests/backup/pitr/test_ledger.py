"""What is shipped of a stream, and what a reader makes of it: against a model that looks at every second by itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from understudy.backup.pitr.journal import Facts, Manifest, boundary_after, increment_path
from understudy.backup.pitr.ledger import Ledger, Local, Mark, Piece, Point, Shipped, pieces
from understudy.backup.pitr.stream import ChunkName, Slots
from understudy.backup.pitr.windows import vouched


def stream(directory: Path = Path("copy"), begins_ms: int = 500, first: int = 2) -> Local:
    return Local("20261121T140000Z-1f3a", directory, begins_ms, "127.0.0.1:7001", "a" * 40, 17, {first: 0})


# of each second: was it looked at in time, how many bytes were written in it, and is shipped what is there by then?
SECONDS = st.lists(st.tuples(st.booleans(), st.sampled_from([0, 0, 1, 7, 30]), st.booleans()), min_size=1, max_size=30)


@given(SECONDS)
def test_exactly_the_seconds_that_were_looked_at_in_time_can_be_given_back(
    seconds: list[tuple[bool, int, bool]],
) -> None:
    written, points, shipped, sent, model = 0, [], Shipped(), [], set()
    last_good: int | None = None  # bytes at the last good second
    for number, (good, size, ships) in enumerate(seconds, 1):
        written += size
        if good:
            if last_good == written:  # nothing was written: what was then is what is now
                model |= set(range(max(model) + 1, number))
            model.add(number)
            points.append(Point(number * 1000, written))
            last_good = written
        if ships or number == len(seconds):
            made = pieces(shipped, points, most_bytes=10)
            sent += made
            if points:
                piece_ms = made[-1].until_ms if made else shipped.piece_ms
                shipped = Shipped(piece_ms, points[-1].at_ms, points[-1].end, len(sent))
            points = []
            named = [ChunkName(n, p.from_ms, p.until_ms, p.end - p.start, "0" * 16) for n, p in enumerate(sent)]
            spans, broken = vouched(500, named, shipped.at_ms or 0, shipped.seq)
            given_back = {n for n in range(1, 40) if any(first <= n * 1000 <= last for first, last in spans)}
            assert broken == ""
            assert given_back == model
    assert all(one.end == two.start for one, two in pairwise(sent))
    assert all(piece.end - piece.start <= 10 for piece in sent)
    for good_at in model:  # all bytes of a second are in what vouches for it, or before
        upto = next((p.end for p in sent if p.from_ms < good_at * 1000 <= p.until_ms), shipped.end)
        assert upto >= sum(size for _, size, _ in seconds[:good_at] if model)


def test_a_quiet_time_is_the_heads_and_then_the_next_pieces() -> None:
    first = pieces(Shipped(), [Point(1000, 0)])
    assert first == [Piece(0, 1000, 0, 0)]
    shipped = Shipped(1000, 1000, 0, 1)
    assert pieces(shipped, [Point(2000, 0), Point(3000, 0)]) == []
    shipped = Shipped(1000, 3000, 0, 1)
    assert pieces(shipped, [Point(4000, 5)]) == [Piece(1000, 4000, 0, 5)]
    assert pieces(shipped, [Point(9000, 5)]) == [Piece(1000, 3000, 0, 0), Piece(8000, 9000, 0, 5)]


def test_a_stream_goes_on_in_the_increment_that_a_rewrite_began() -> None:
    ledger, one = Ledger(), stream()
    ledger.looked_ms = 10_000
    ledger.begin(one)
    ledger.mark(Mark(1000, 2, 10))
    ledger.grew(3, 2, 25)
    two = stream(begins_ms=1500, first=3)
    ledger.begin(two)
    ledger.mark(Mark(2000, 3, 5))
    assert [point.end for point in ledger.take(one)] == [10, 30]
    assert ledger.take(two) == [Point(2000, 5)]
    assert one.extent(0, 30) == [(increment_path(Path("copy"), 2), 0, 25), (increment_path(Path("copy"), 3), 0, 5)]
    assert one.extent(26, 30) == [(increment_path(Path("copy"), 3), 1, 5)]
    assert ledger.unneeded() == []
    ledger.shipped(one, Shipped(2000, 2000, 30, 2))
    assert ledger.unneeded() == [increment_path(Path("copy"), 2)]
    assert ledger.unneeded() == []
    ledger.strike(one)
    ledger.mark(Mark(3000, 3, 9))
    assert ledger.unneeded() == []
    ledger.strike(two)
    assert ledger.unneeded() == [increment_path(Path("copy"), 3)]


def test_nothing_is_marked_before_a_stream_begins_nor_behind_its_end_nor_twice() -> None:
    ledger, one = Ledger(), stream(begins_ms=1500)
    ledger.looked_ms = 10_000
    ledger.begin(one)
    for mark in (Mark(1000, 2, 1), Mark(2000, 2, 3), Mark(2000, 2, 4), Mark(3000, 1, 9), Mark(4000, 2, 2)):
        ledger.mark(mark)
    assert ledger.take(one) == [Point(2000, 3)]
    ledger.end("full resync")
    ledger.mark(Mark(5000, 2, 9))
    assert ledger.take(one) == [Point(2000, 3)]
    assert one.over == "full resync"
    assert ledger.current is None


def test_no_second_is_shipped_before_it_is_known_who_served_what() -> None:
    ledger, one = Ledger(), stream()
    ledger.begin(one)
    ledger.mark(Mark(1000, 2, 1))
    ledger.mark(Mark(2000, 2, 2))
    ledger.looked_ms = 1999
    assert ledger.take(one) == [Point(1000, 1)]


def test_slots_are_told_from_the_beginning_of_each_stream() -> None:
    ledger, early, late = Ledger(), stream(begins_ms=500), stream(begins_ms=2500)
    for from_ms, slots in ((100, {1, 2}), (900, {1, 2}), (2000, {1}), (3000, {1, 5})):
        ledger.serves(Slots(from_ms, frozenset(slots)))
    assert [(one.from_ms, one.slots) for one in ledger.slots_of(early)] == [(500, {1, 2}), (2000, {1}), (3000, {1, 5})]
    assert [(one.from_ms, one.slots) for one in ledger.slots_of(late)] == [(2500, {1}), (3000, {1, 5})]


def test_the_end_of_a_second_is_looked_at_only_where_there_is_time() -> None:
    assert boundary_after(10_000) == 11_000
    assert boundary_after(10_799) == 11_000
    assert boundary_after(10_801) == 12_000


def test_a_manifest_says_what_is_one_dataset() -> None:
    text = (
        "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type h\n"
        "file appendonly.aof.1.base.rdb seq 1 type h\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
        "file appendonly.aof.3.incr.aof seq 3 type i startoffset 0 endoffset 5\n"
    )
    assert Manifest.parse(text) == Manifest("appendonly.aof.2.base.rdb", (2, 3))
    assert Manifest.parse(text).last == 3


def test_sizes_are_compared_only_while_no_base_took_over() -> None:
    def facts(written: int, base_size: int = 9, rewrites: int = 1) -> Facts:
        said = f"aof_current_size:{written}\r\naof_base_size:{base_size}\r\naof_rewrites:{rewrites}\r\n"
        return Facts.from_replies(said.encode(), [b"17", b"250000"])

    assert facts(10).at_ms == 17_250
    assert facts(12).counts_on_from(facts(10))
    assert not facts(12, base_size=12).counts_on_from(facts(10))
    assert not facts(12, rewrites=2).counts_on_from(facts(10))
    assert not facts(9).counts_on_from(facts(10))
