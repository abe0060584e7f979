"""A sale over time: joins, entries, seats sold, what was refused for want of a server, and how long answers took."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from markupsafe import Markup

from understudy.drill.words import milliseconds
from understudy.pages.figures import precise
from understudy.pages.panels import Layer, LogScale, Tick, line, stack
from understudy.pages.timeaxis import TimeAxis
from understudy.pages.timeseries import Chart, Event, Lane, Panel, Span, framed, legend
from understudy.sale.findings import Outage, SaleFindings, Series

NOTEWORTHY_S = 1.0
_STYLES = {"fault": "fault", "undone": "undone", "promoted": "promoted", "switched": "switched", "whole": "back"}
_LEGEND = (
    ("fill-ok", "acknowledged, or sold"), ("fill-failed", "answered 503"), ("fill-indeterminate", "no answer"),
    ("line-p50", "latency, median"), ("line-max", "latency, maximum"), ("shade-outage", "nothing done for buyers"),
)  # fmt: skip


def timeline(found: SaleFindings) -> Markup:
    """Return the chart of a sale with its legend."""
    series = found.series
    axis = TimeAxis(0.0, series.bucket_s, len(series.unavailable), signed=False)
    events = [Event(one.at_s, _STYLES.get(one.kind, ""), one.text) for one in found.marks]
    spans = [_span(one) for one in found.outages if one.gap_s >= NOTEWORTHY_S]
    chart = Chart(
        caption=f"{found.tally.seats:,} seats, {found.tally.buyers:,} buyers, on {found.layout}",
        counts=(), latency=(), lanes=[Lane(span.text, [span]) for span in spans],
        shades=[Span(one.from_s, one.to_s, "shade-outage", one.text) for one in spans], tips=_tips(series, axis),
    )  # fmt: skip
    return framed(chart, axis, _panels(found), events) + legend(_LEGEND, events, axis)


def _span(one: Outage) -> Span:
    text = f"{one.fault}: nothing done for buyers for {precise(one.gap_s)}"
    return Span(one.from_s, one.from_s + one.gap_s, "fill-outage", text)


def _panels(found: SaleFindings) -> list[Panel]:
    series = found.series
    seats = float(found.tally.seats)
    sold = Layer("sold", "fill-ok", _filled(series.sold))
    bad = [Layer("503", "fill-failed", series.unavailable), Layer("none", "fill-indeterminate", series.unanswered)]
    lines = (Layer("maximum", "line-max", series.max_ms), Layer("median", "line-p50", series.p50_ms))
    scale = LogScale.of([value for layer in lines for value in layer.values if value is not None])
    return [
        _rate("Joins a second", [Layer("joins", "fill-ok", series.done["join"])], series),
        _rate("Entries a second", [Layer("entries", "fill-ok", series.done["enter"])], series),
        Panel("Seats sold", [Tick(0, "0"), Tick(1, f"{seats:,.0f}")], partial(stack, [sold], seats)),
        _rate("503 and no answer, a second", bad, series),
        Panel(
            "Latency of what was answered", scale.ticks_ms(),
            lambda bottom: Markup().join(line(layer, scale, bottom) for layer in lines),
        ),
    ]  # fmt: skip


def _rate(title: str, layers: Sequence[Layer], series: Series) -> Panel:
    most = max(sum(value or 0 for value in bucket) for bucket in zip(*(one.values for one in layers), strict=True))
    top = float(most or 1)
    return Panel(title, [Tick(0, "0"), Tick(1, f"{top / series.bucket_s:,.0f}/s")], partial(stack, layers, top))


def _filled(values: Sequence[int | None]) -> list[int]:
    found, last = [], 0
    for value in values:
        last = last if value is None else value
        found.append(last)
    return found


def _tips(series: Series, axis: TimeAxis) -> list[str]:
    rows = zip(
        series.done["join"], series.done["enter"], _filled(series.sold), series.unavailable, series.unanswered,
        series.p50_ms, strict=True,
    )  # fmt: skip
    return [
        f"{axis.text(number * series.bucket_s)}: {joins:,} joins, {entries:,} entries, {sold:,} sold so far, "
        f"{bad:,} answers 503, {none:,} without an answer; median {milliseconds(p50)}"
        for number, (joins, entries, sold, bad, none, p50) in enumerate(rows)
    ]
