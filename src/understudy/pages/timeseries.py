"""What happened when: counts and latency over time with the events that explain them, as HTML with inline SVG.

One chart for each that is looked at; charts with the same axis and scales stand below each other and compare. Text is
HTML and keeps its size on a narrow screen. Nothing is told by colour alone: failures are hatched, marks are numbered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from understudy.pages.panels import HEIGHT, WIDTH, Layer, LogScale, Tick, line, stack
from understudy.pages.timeaxis import TimeAxis

_TITLE = 20
_GAP = 10
_LANE = 30
_NEAR_PERCENT = 3.5
_BURST = 3
_LINE_SWATCH = Markup('<path class="{}" d="M0 7H14"/>')
_AREA_SWATCH = Markup('<rect class="{}" width="14" height="14"/>')


@dataclass(frozen=True)
class Event:
    """Something that happened at a moment; `style` is the CSS class of its line, `text` says what it was."""

    at_s: float
    style: str
    text: str


@dataclass(frozen=True)
class Span:
    """From when to when, the CSS class that shows it, and what it was."""

    from_s: float
    to_s: float
    style: str
    text: str


@dataclass(frozen=True)
class Lane:
    """A row of spans below the panels, with a label above it."""

    label: str
    spans: Sequence[Span]


@dataclass(frozen=True)
class Chart:
    """Everything about one that is looked at. `shades` reach over the whole height. `tips` has a text a bucket."""

    caption: str
    counts: Sequence[Layer]
    latency: Sequence[Layer]
    lanes: Sequence[Lane] = ()
    shades: Sequence[Span] = ()
    tips: Sequence[str] = ()


@dataclass(frozen=True)
class Scales:
    """What the upper edge of counts is, in operations of a bucket, and the powers of ten of latency, in ms.

    Answers that were held up come all at once: bursts of more than thrice what is usual are cut off, `cut` says so.
    """

    most: float
    latency: LogScale
    cut: bool = False

    @classmethod
    def of(cls, charts: Sequence[Chart]) -> Scales:
        """Return the scales that have room for all of several charts."""
        totals = [
            sum(value or 0 for value in bucket)
            for chart in charts
            for bucket in zip(*(layer.values for layer in chart.counts), strict=True)
        ]
        latency = [value for chart in charts for layer in chart.latency for value in layer.values if value is not None]
        highest = max(totals, default=0) or 1
        edge = min(highest, _BURST * median([total for total in totals if total] or [1]))
        return cls(edge, LogScale.of(latency), cut=edge < highest)


@dataclass(frozen=True)
class Panel:
    """A part of a chart: its title, the labels of its scale, and what is drawn above a bottom, given in pixels."""

    title: str
    ticks: Sequence[Tick]
    draw: Callable[[float], Markup]


def timeseries(chart: Chart, axis: TimeAxis, scales: Scales, events: Sequence[Event]) -> Markup:
    """Return the chart of one; captions, labels and texts are escaped."""
    per_s = scales.most / axis.bucket_s
    panels = [
        Panel(
            f"Operations a second{' (higher bursts are cut off)' if scales.cut else ''}",
            [Tick(0, "0"), Tick(1, f"{per_s:,.0f}/s")],
            lambda bottom: stack(chart.counts, scales.most, bottom),
        ),
        Panel(
            "Latency",
            scales.latency.ticks_ms(),
            lambda bottom: Markup().join(line(layer, scales.latency, bottom) for layer in chart.latency),
        ),
    ]
    return framed(chart, axis, panels, events)


def framed(chart: Chart, axis: TimeAxis, panels: Sequence[Panel], events: Sequence[Event]) -> Markup:
    """Return panels below each other, with the lanes, shades and tips of a chart."""
    bottoms = [(_TITLE + HEIGHT) * (1 + number) + _GAP * number for number in range(len(panels))]
    lanes_px = bottoms[-1] + _GAP
    height = lanes_px + _LANE * len(chart.lanes)
    ticks = [
        (bottom - HEIGHT * tick.up, tick) for bottom, panel in zip(bottoms, panels, strict=True) for tick in panel.ticks
    ]
    drawing = Markup().join(_span(span, axis, 0, height) for span in chart.shades)
    drawing += Markup().join(_rule(at_px) for at_px, _ in ticks)
    labels = Markup()
    for bottom, panel in zip(bottoms, panels, strict=True):
        drawing += panel.draw(bottom)
        labels += _label("title", bottom - HEIGHT - _TITLE, panel.title)
    for number, lane in enumerate(chart.lanes):
        top = lanes_px + _LANE * number
        labels += _label("title", top, lane.label)
        drawing += _rule(top + _LANE - 1)
        drawing += Markup().join(_span(span, axis, top + _TITLE, _LANE - _TITLE - 2) for span in lane.spans)
    drawing += Markup().join(_tip(number, text, axis, lanes_px) for number, text in enumerate(chart.tips))
    drawing += Markup().join(_event(event, axis, height) for event in events)
    scale = Markup().join(
        Markup('<span style="top:{:.0f}px">{}</span>').format(at_px, tick.text) for at_px, tick in ticks
    )
    return Markup(
        '<figure class="chart times"><figcaption>{}</figcaption><div class="plot" style="height:{}px">'
        '<div class="scale" aria-hidden="true">{}</div><div class="area">'
        '<div class="numbers" aria-hidden="true">{}</div>'
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>{}'
        '<div class="moments" aria-hidden="true">{}</div></div></div></figure>'
    ).format(
        chart.caption, height, scale, _numbers(events, axis), WIDTH, height, chart.caption, drawing, labels,
        Markup().join(Markup('<span style="left:{:.2f}%">{}</span>').format(*tick) for tick in axis.ticks()),
    )  # fmt: skip


def legend(layers: Sequence[tuple[str, str]], events: Sequence[Event], axis: TimeAxis) -> Markup:
    """Return what the styles of layers mean (rows of style and name), and each numbered event with its moment."""
    shapes = Markup().join(
        Markup('<li><svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">{}</svg>{}</li>').format(
            (_LINE_SWATCH if style.startswith("line") else _AREA_SWATCH).format(style), name
        )
        for style, name in layers
    )
    rows = Markup().join(
        Markup(
            '<li><svg class="swatch" viewBox="0 0 14 14" aria-hidden="true"><path class="event {}" d="M7 0V14"/></svg>'
            '<span class="at">{}</span>{}</li>'
        ).format(event.style, axis.text(event.at_s), event.text)
        for event in events
    )
    return Markup('<ul class="legend shapes">{}</ul>').format(shapes) + (
        Markup('<ol class="events">{}</ol>').format(rows) if events else Markup()
    )


def _rule(at_px: float) -> Markup:
    return Markup('<path class="rule" d="M0 {:.4g}H{}"/>').format(at_px, WIDTH)


def _label(style: str, top_px: float, text: str) -> Markup:
    return Markup('<span class="{}" style="top:{:.0f}px">{}</span>').format(style, top_px, text)


def _span(span: Span, axis: TimeAxis, top_px: float, height_px: float) -> Markup:
    left = axis.percent(span.from_s) * WIDTH / 100
    width = max(2.0, axis.percent(span.to_s) * WIDTH / 100 - left)
    return Markup('<rect class="{}" x="{:.4g}" y="{}" width="{:.4g}" height="{}"><title>{}</title></rect>').format(
        span.style, min(left, WIDTH - 2), top_px, width, height_px, span.text
    )


def _event(event: Event, axis: TimeAxis, height: float) -> Markup:
    at = axis.percent(event.at_s) * WIDTH / 100
    return Markup('<path class="event {}" d="M{:.4g} 0V{}"><title>{}: {}</title></path>').format(
        event.style, at, height, axis.text(event.at_s), event.text
    )


def _tip(number: int, text: str, axis: TimeAxis, height: float) -> Markup:
    width = WIDTH / axis.count
    return Markup('<rect class="tip" x="{:.4g}" width="{:.4g}" height="{}"><title>{}</title></rect>').format(
        number * width, width, height, text
    )


def _numbers(events: Sequence[Event], axis: TimeAxis) -> Markup:
    """Return the numbers of events above their lines; those too near to tell apart share a label."""
    groups: list[tuple[float, int, int]] = []
    for number, event in enumerate(events, 1):
        at = axis.percent(event.at_s)
        if groups and at - groups[-1][0] < _NEAR_PERCENT:
            groups[-1] = (groups[-1][0], groups[-1][1], number)
        else:
            groups.append((at, number, number))
    return Markup().join(
        Markup('<span style="left:{:.2f}%">{}</span>').format(at, f"{first}" if first == last else f"{first}–{last}")
        for at, first, last in groups
    )
