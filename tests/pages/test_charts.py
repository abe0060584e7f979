"""A chart shows what it says, and says what it shows."""

from __future__ import annotations

import re

import pytest

from understudy.pages.charts import Bar, bars, strip, timeline

HOSTILE = "<script>alert(1)</script>\"&'"


def text_of(html: str) -> str:
    return re.sub(r"<[^>]*>", "", html)


def fills(html: str) -> list[tuple[float, float]]:
    """Return where each bar begins and how wide it is, in percent."""
    found = re.findall(r'class="(?:fill|shade-\d)" x="([\d.]+)%" width="([\d.]+)%"', html)
    return [(float(start), float(width)) for start, width in found]


@pytest.mark.parametrize("chart", [bars, timeline, strip])
def test_every_label_value_and_note_stands_there_as_text(chart) -> None:
    text = text_of(chart("Keys by type", [Bar("string", 30, "30 keys", "the most"), Bar("list", 10, "10 keys")]))
    for said in ("Keys by type", "string", "30 keys", "the most", "list", "10 keys"):
        assert said in text


@pytest.mark.parametrize("chart", [bars, timeline, strip])
def test_hostile_text_is_escaped_wherever_it_stands(chart) -> None:
    html = chart(HOSTILE, [Bar(HOSTILE, 1, HOSTILE, HOSTILE)])
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&amp;&#39;") == 4


def test_the_longest_bar_fills_the_width_and_the_others_follow_in_proportion() -> None:
    assert fills(bars("", [Bar("a", 10, "10"), Bar("b", 40, "40"), Bar("c", 20, "20")])) == [(0, 25), (0, 100), (0, 50)]


def test_a_bar_that_is_not_good_is_marked_and_only_that_one() -> None:
    html = bars("", [Bar("a", 1, "1", "went wrong", good=False), Bar("b", 1, "1")])
    assert html.count('<li class="failed">') == 1
    assert html.index('<li class="failed">') < html.index("went wrong") < html.index(">b<")


def test_a_small_value_is_still_seen_and_zero_is_not() -> None:
    (_, small), (_, none), _ = fills(bars("", [Bar("a", 1, "1"), Bar("b", 0, "0"), Bar("c", 1e9, "many")]))
    assert small > 0
    assert none == 0


def test_a_timeline_bar_begins_where_the_one_before_ended() -> None:
    assert fills(timeline("", [Bar("a", 1, ""), Bar("b", 2, ""), Bar("c", 1, "")])) == [(0, 25), (25, 50), (75, 25)]


def test_a_timeline_never_leaves_its_frame() -> None:
    placed = fills(timeline("", [Bar("long", 1000, ""), Bar("short", 0.0001, "")]))
    assert all(start + width <= 100 for start, width in placed)


def test_shares_of_a_strip_fill_it_without_gaps() -> None:
    assert fills(strip("", [Bar("a", 1, ""), Bar("b", 3, "")])) == [(0, 25), (25, 75)]


@pytest.mark.parametrize("chart", [bars, timeline, strip])
@pytest.mark.parametrize("rows", [[], [Bar("a", 0, "0")]])
def test_nothing_to_show_is_no_error(chart, rows) -> None:
    assert "<figure" in chart("Nothing", rows)
