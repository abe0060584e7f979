"""The windows that can be restored, against a model that looks at every second by itself."""

from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from understudy.backup.pitr.stream import ChunkName
from understudy.backup.pitr.windows import (
    ALL_SLOTS,
    Serving,
    Span,
    Track,
    as_bits,
    as_slots,
    parts_of,
    vouched,
    windows,
)
from understudy.valkey.topology import SLOTS


def chunk(seq: int, from_ms: int, until_ms: int) -> ChunkName:
    """A chunk of which only its stretch matters."""
    return ChunkName(seq, from_ms, until_ms, 0, "")


THIRDS = [as_bits(range(at * SLOTS // 3, (at + 1) * SLOTS // 3)) for at in range(3)]
MOMENTS = st.integers(0, 12_000)


@st.composite
def tracks(draw: st.DrawFn) -> list[Track]:
    found = []
    for number in range(draw(st.integers(0, 5))):
        begins = draw(MOMENTS)
        ends = sorted(draw(st.lists(st.integers(begins, 14_000), max_size=8)))
        spans = [Span(begins, ends[0] if ends else begins)]
        for first, last in zip(ends[1::2], ends[2::2], strict=False):
            if first > spans[-1].last:
                spans.append(Span(first, last))
        changes = [begins, *sorted(draw(st.lists(MOMENTS, max_size=3)))]
        servings = [
            Serving(moment, *(sum(THIRDS[third] for third in draw(st.sets(st.integers(0, 2)))) for _ in range(2)))
            for moment in changes
        ]
        whole = draw(st.booleans())
        found.append(Track(f"stream-{number}", begins, tuple(spans), (Serving(0),) if whole else tuple(servings)))
    return found


def served(tracks: list[Track], second: int) -> dict[int, str]:
    """Who counts for each third of the slots, by the rule as windows.py states it, third by third."""
    moment = (second + 1) * 1000
    owners: dict[int, str] = {}
    for third, bits in enumerate(THIRDS):
        ranked: list[tuple[int, int, str]] = []
        arriving, given_up = [], False
        for track in tracks:
            known = [one for one in track.servings if one.from_ms <= moment]
            if not known or not any(first <= moment <= last for first, last in track.spans):
                continue
            now, before = known[-1], known[:-1]
            if now.slots & bits:
                ranked.append((not now.moving & bits, track.begins_ms, track.stream))
                continue
            given_up |= any(one.slots & bits for one in before)
            while before and before[-1].moving & bits and not before[-1].slots & bits:
                before.pop()
            if now.moving & bits and not (before and before[-1].slots & bits):
                arriving.append((0, track.begins_ms, track.stream))
        if ranked or (arriving and given_up):
            owners[third] = max(ranked or arriving)[2]
    return owners


@given(tracks())
def test_windows_are_the_seconds_that_the_model_finds(tracks: list[Track]) -> None:
    found = windows(tracks)
    model = [second for second in range(-1, 16) if len(served(tracks, second)) == 3]
    assert [second for first, last in found.spans for second in range(first, last + 1)] == model
    assert all(one.last + 1 < two.first for one, two in pairwise(found.spans))
    between = [(one.last + 1, two.first - 1) for one, two in pairwise(found.spans)]
    assert [(gap.first, gap.last) for gap in found.gaps] == between
    assert all(gap.why for gap in found.gaps)
    for second in range(-3, 18):
        before, after = found.nearest(second)
        assert found.holds(second) == (second in model)
        assert before == max((one for one in model if one < second), default=None)
        assert after == min((one for one in model if one > second), default=None)
        gap = found.gap_at(second)
        assert (gap is not None) == any(first <= second <= last for first, last in between)


@given(tracks())
def test_each_slot_counts_for_the_stream_that_began_last(tracks: list[Track]) -> None:
    for second in range(-1, 16):
        parts, model = parts_of(tracks, second), served(tracks, second)
        assert (parts is None) == (len(model) < 3)
        for third, stream in model.items() if parts else ():
            assert [part.stream for part in parts or () if part.slots & THIRDS[third]] == [stream]
        assert parts is None or sum(part.slots for part in parts) == ALL_SLOTS


@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8), st.integers(0, 30))
def test_a_stream_vouches_for_its_base_and_what_follows_without_a_hole(
    begins: int, steps: list[tuple[int, int]], quiet: int
) -> None:
    chunks, good, at = [], {begins}, begins
    for seq, (hole, length) in enumerate(steps):
        chunks.append(chunk(seq, at + hole, at + hole + length))
        good |= set(range(at + hole + 1, at + hole + length + 1))
        at += hole + length
    good |= set(range(at + 1, at + quiet + 1))
    spans, broken = vouched(begins, chunks, at + quiet, len(chunks))
    assert broken == ""
    assert {moment for first, last in spans for moment in range(first, last + 1)} == good


def test_what_comes_after_a_missing_chunk_is_not_vouched_for() -> None:
    chunks = [chunk(0, 0, 5_000), chunk(1, 5_000, 9_000), chunk(2, 9_000, 12_000)]
    assert vouched(0, chunks, 15_000, 3) == ((Span(0, 15_000),), "")
    assert vouched(0, [chunks[0], chunks[2]], 15_000, 3) == ((Span(0, 5_000),), "chunk 1 is missing")
    assert vouched(0, chunks[1:], 15_000, 3) == ((Span(0, 0),), "chunk 0 is missing")
    assert vouched(0, chunks[:2], 15_000, 3) == ((Span(0, 9_000),), "chunk 2 is missing")
    swapped = [chunks[0], chunk(1, 9_000, 12_000), chunk(2, 5_000, 9_000)]
    assert vouched(0, swapped, 15_000, 3) == ((Span(0, 5_000), Span(9_001, 12_000)), "chunk 2 is one of before")
    assert vouched(0, chunks, 11_000, 2) == ((Span(0, 12_000),), ""), "a head older than the last chunk adds nothing"


def test_a_gap_says_why_it_is_one() -> None:
    one = Track("one", 0, (Span(0, 10_000), Span(13_500, 20_000)))
    two = Track("two", 30_000, (Span(30_000, 40_000),), gap_from_ms=20_000, gap_why="full resync")
    three = Track("three", 70_000, (Span(70_000, 80_000),), (Serving(0, THIRDS[0]),))
    four = Track("four", 90_000, (Span(90_000, 99_000),))
    found = windows([four, three, two, one])
    assert found.spans == ((-1, 9), (13, 19), (29, 39), (89, 98))
    assert [(gap.first, gap.last, gap.why) for gap in found.gaps] == [
        (10, 12, ("the copy lagged behind its primary, or was not connected",)),
        (20, 28, ("full resync",)),
        (40, 88, ("nothing was archived",)),
    ]
    less = Track("less", 0, (Span(0, 30_000),), (Serving(0), Serving(10_500, THIRDS[0] | THIRDS[1]), Serving(20_000)))
    assert windows([less]).gaps[0].why == ("5,462 slots were served by no primary that was archived",)
    lost = Track("lost", 0, (Span(0, 20_000),), broken="chunk 7 is missing")
    assert windows([lost, two]).gaps[0].why == ("chunk 7 is missing in lost", "full resync")


@given(st.sets(st.integers(0, SLOTS - 1), max_size=50))
def test_slots_are_the_same_as_bits(slots: set[int]) -> None:
    assert as_slots(as_bits(slots)) == slots
    assert as_bits(slots).bit_count() == len(slots)
    assert as_bits(range(SLOTS)) == ALL_SLOTS


def test_two_days_of_a_cluster_take_a_moment() -> None:
    """Three shards, a chunk every five seconds for 56 hours: 121,000 chunks, with a hole after every fortieth."""
    began = time.process_time()
    found = []
    for third in range(3):
        chunks = [chunk(seq, seq * 5_000 + 1_500 * (seq % 40 == 0), (seq + 1) * 5_000) for seq in range(40_320)]
        spans, _ = vouched(0, chunks, 0, 0)
        found.append(Track(str(third), 0, spans, (Serving(0, THIRDS[third]),)))
    told = windows(found)
    assert len(told.spans) == 40_320 // 40 + 1
    assert time.process_time() - began < 3


def test_a_slot_on_its_way_in_is_told_from_one_on_its_way_out() -> None:
    """Slot 0 is sent from one to two, is on its way from 2,000 ms on, and has arrived at 6,000 ms."""
    rest = ALL_SLOTS & ~1
    one = Track("one", 0, (Span(0, 9_000),), (Serving(0), Serving(2_500, ALL_SLOTS, 1), Serving(6_500, rest, 1)))
    two = Track("two", 1, (Span(1, 9_000),), (Serving(0, 0), Serving(2_500, 0, 1), Serving(6_500, 1, 1)))
    assert parts_of([one, two], 0) == (("one", ALL_SLOTS, 0, 0),)
    assert parts_of([one, two], 3) == (("two", 0, 1, 1), ("one", ALL_SLOTS, 1, 0))
    assert parts_of([one, two], 7) == (("two", 1, 1, 0), ("one", rest, 1, 0))


def test_a_slot_that_nobody_or_two_served_counts_where_it_went() -> None:
    """Slot 0 goes from one to two while they are looked at, one after the other."""
    rest = ALL_SLOTS & ~1
    one = Track("one", 5, (Span(5, 9_000),), (Serving(0), Serving(2_500, ALL_SLOTS, 1), Serving(6_500, rest)))
    late = Track("two", 1, (Span(1, 9_000),), (Serving(0, 0), Serving(2_500, 0, 1), Serving(7_500, 1)))
    early = Track("two", 1, (Span(1, 9_000),), (Serving(0, 0), Serving(2_500, 1), Serving(7_500, 1)))
    assert parts_of([one, late], 6) == (("one", rest, 0, 0), ("two", 1, 1, 1))
    assert windows([one, late]).spans == ((0, 8),)
    assert windows([late]).spans == ()
    assert parts_of([one, early], 3) == (("one", rest, 1, 0), ("two", 1, 0, 0))
