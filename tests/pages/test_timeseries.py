"""A time chart puts everything where it belongs, on the same axis, and says in words what it shows."""

from __future__ import annotations

import re

import pytest

from understudy.pages.figures import precise
from understudy.pages.panels import HEIGHT, WIDTH, Layer, LogScale, line, stack
from understudy.pages.timeaxis import TimeAxis
from understudy.pages.timeseries import Chart, Event, Lane, Scales, Span, legend, timeseries

HOSTILE = "<script>alert(1)</script>\"&'"
AXIS = TimeAxis(from_s=-10, bucket_s=1, count=40)


def chart(**changes: object) -> Chart:
    layers = (Layer("ok", "fill-ok", [4.0] * 40), Layer("failed", "fill-failed", [0.0] * 39 + [6.0]))
    given = {"caption": "a client", "counts": layers, "latency": (Layer("p50", "line-p50", [1.0] * 40),), **changes}
    return Chart(**given)


def drawn(one: Chart, events: tuple[Event, ...] = ()) -> str:
    return timeseries(one, AXIS, Scales.of([one]), events)


def test_a_moment_stands_at_its_share_of_the_width() -> None:
    assert [AXIS.percent(at_s) for at_s in (-10, 0, 10, 30)] == [0, 25, 50, 100]
    assert [AXIS.percent(at_s) for at_s in (-99, 99)] == [0, 100]
    assert '<path class="event fault" d="M250 0V' in drawn(chart(), (Event(0, "fault", "it broke"),))


@pytest.mark.parametrize("length_s", [0.05, 0.7, 9, 61, 3600, 250_000])
def test_labels_of_the_axis_are_few_round_and_within_it(length_s: float) -> None:
    ticks = TimeAxis(-length_s / 3, length_s / 100, 100).ticks()
    assert 2 <= len(ticks) <= 9
    assert all(0 <= at <= 100 for at, _ in ticks)
    assert "0 s" in {re.sub(r"^0\.0+ ", "0 ", text) for _, text in ticks}


def test_moments_have_a_sign_only_where_there_is_a_moment_that_they_refer_to() -> None:
    assert [AXIS.text(at_s) for at_s in (-1, 0, 2.5)] == ["-1.00 s", "0.00 s", "+2.50 s"]
    assert TimeAxis(0, 1, 10, signed=False).text(2.5) == "2.50 s"


def test_layers_stand_upon_each_other() -> None:
    html = stack([Layer("a", "a", [2.0, 0.0]), Layer("b", "b", [2.0, 4.0])], 4, HEIGHT)
    half = WIDTH // 2
    assert f'<path class="a" d="M0 {HEIGHT}V{HEIGHT // 2}H{half}V{HEIGHT}Z"/>' in html
    assert f'<path class="b" d="M0 {HEIGHT // 2}V0H{half}V{HEIGHT // 2}ZM{half} {HEIGHT}V0H{WIDTH}V{HEIGHT}Z"/>' in html


def test_a_line_is_interrupted_where_there_is_no_value() -> None:
    html = line(Layer("p50", "p50", [1.0, None, 10.0, 10.0]), LogScale(0, 1), 100)
    assert html == f'<path class="p50" d="M0 100H250M500 {100 - HEIGHT}H750V{100 - HEIGHT}H1000"/>'
    assert line(Layer("p50", "p50", [None]), LogScale(0, 1), 100) == ""


@pytest.mark.parametrize(
    ("values", "least", "most"), [([0.3, 20], -1, 2), ([1.0], 0, 1), ([5000.0, 0.4], -1, 4), ([], 0, 1), ([0.0], 0, 1)]
)
def test_a_logarithmic_scale_has_room_for_every_value(values: list[float], least: int, most: int) -> None:
    assert LogScale.of(values) == LogScale(least, most)


def test_powers_of_ten_have_readable_labels() -> None:
    assert [tick.text for tick in LogScale(-2, 1).ticks_ms()] == ["10 µs", "100 µs", "1 ms", "10 ms"]
    assert [tick.text for tick in LogScale(0, 4).ticks_ms()] == ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]
    assert len(LogScale(-3, 6).ticks_ms()) <= 5


def test_charts_beside_each_other_have_one_scale() -> None:
    quiet, busy = chart(), chart(counts=(Layer("ok", "ok", [99.0] * 40),), latency=(Layer("p", "p", [900.0] * 40),))
    assert Scales.of([quiet, busy]) == Scales(99.0, LogScale(0, 3))


def test_a_burst_is_cut_off_and_that_is_said() -> None:
    burst = chart(counts=(Layer("ok", "ok", [4.0] * 39 + [400.0]),))
    assert Scales.of([burst]).most == 12
    assert "higher bursts are cut off" in drawn(burst)
    assert "higher bursts are cut off" not in drawn(chart())
    assert "V-" not in drawn(burst)


def test_marks_are_numbered_and_those_too_near_share_a_label() -> None:
    events = (Event(0, "fault", "a"), Event(0.1, "applied", "b"), Event(20, "back", "c"))
    assert re.findall(r'<span style="left:([\d.]+)%">(\d[^< ]*)</span>', drawn(chart(), events))[:2] == [
        ("25.00", "1–2"),
        ("75.00", "3"),
    ]
    told = legend([("fill-ok", "succeeded"), ("line-p50", "median")], events, AXIS)
    assert told.count('<path class="event') == 3
    assert "+20.00 s" in told
    assert '<path class="line-p50"' in told


def test_spans_stay_within_the_chart_and_say_what_they_are() -> None:
    spans = [Span(-5, 5, "x", "five"), Span(29.999, 99, "x", "late"), Span(-99, -98, "x", "early")]
    html = drawn(chart(lanes=[Lane("Errors", spans)], shades=[Span(0, 10, "shade", "out")]))
    found = re.findall(r'<rect class="x" x="([\d.]+)"[^>]* width="([\d.]+)"', html)
    assert [(float(x), float(width)) for x, width in found] == [(125, 250), (998, 2), (0, 2)]
    assert "<title>five</title>" in html
    assert '<rect class="shade" x="250" y="0" width="250"' in html


def test_hostile_text_is_escaped_wherever_it_stands() -> None:
    span = Span(0, 1, "x", HOSTILE)
    one = chart(caption=HOSTILE, lanes=[Lane(HOSTILE, [span])], shades=[span], tips=[HOSTILE] * 40)
    html = drawn(one, (Event(0, "fault", HOSTILE),)) + legend([("x", HOSTILE)], [Event(0, "x", HOSTILE)], AXIS)
    assert "<script" not in html
    assert HOSTILE not in html


def test_nothing_to_show_is_no_error() -> None:
    empty = Chart("nothing", (), ())
    assert "<figure" in timeseries(empty, TimeAxis(0, 0.05, 1), Scales.of([empty]), ())


@pytest.mark.parametrize(
    ("number", "said"),
    [(0.0254, "25 ms"), (0.9999, "1.00 s"), (6.314, "6.31 s"), (99.996, "1 min 40 s"), (125, "2 min 5 s")],
)
def test_measured_durations_keep_two_digits(number: float, said: str) -> None:
    assert precise(number) == said
