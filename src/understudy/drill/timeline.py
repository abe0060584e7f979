"""From series to charts: one for each client of a leg, on one time axis and the same scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from understudy.drill.findings import ClientFindings, LegFindings, Mark, Series, Ticks
from understudy.drill.outage import NOTEWORTHY
from understudy.drill.words import duration, milliseconds, moment
from understudy.pages.panels import Layer
from understudy.pages.timeaxis import TimeAxis
from understudy.pages.timeseries import Chart, Event, Lane, Scales, Span, legend, timeseries

MOST_ERRORS = 4

LEGEND = (
    ("fill-ok", "succeeded"), ("fill-failed", "refused or not sent"), ("fill-indeterminate", "indeterminate"),
    ("line-p50", "latency, median"), ("line-max", "latency, maximum"), ("shade-outage", "longest outage"),
)  # fmt: skip


def timelines(leg: LegFindings) -> Markup:
    """Return the charts of a leg with their legend; nothing where there are no series."""
    if not leg.series:
        return Markup()
    first = leg.series[0]
    axis = TimeAxis(first.from_s, first.bucket_s, len(first.ok), signed=bool(leg.fault))
    clients = {one.name: one for one in leg.clients}
    charts = [_chart(one, clients[one.client], axis) for one in leg.series]
    scales = Scales.of(charts)
    # The servers are watched until they are whole again, which can be long after the last operation.
    seen = [mark for mark in leg.marks if axis.from_s <= mark.at_s <= axis.to_s]
    events = [Event(mark.at_s, mark.kind, _told(mark)) for mark in seen]
    drawn = Markup().join(timeseries(chart, axis, scales, events) for chart in charts)
    return drawn + legend(LEGEND, events, axis)


def _told(mark: Mark) -> str:
    return f"{mark.kind}: {mark.text}" if mark.text else mark.kind


def _chart(series: Series, client: ClientFindings, axis: TimeAxis) -> Chart:
    noteworthy = NOTEWORTHY * (client.resolution_s or 0.0)
    outages = [one for one in client.outages if one.gap_s > noteworthy]
    spans = [
        Span(
            one.began_s, axis.to_s if one.ended_s is None else one.ended_s, "fill-outage",
            f"Shard {one.shard}: {duration(one.gap_s)} without a success, from {moment(one.began_s)}",
        )
        for one in outages
    ]  # fmt: skip
    worst = max(spans, key=lambda span: span.to_s - span.from_s, default=None)
    lanes = [
        Lane(f"Shard {one.shard}: no success for {duration(one.gap_s)}", [span])
        for one, span in zip(outages, spans, strict=True)
    ]
    lanes += [
        Lane(f"{error or 'error without a name'}: {sum(counts):,}", _runs(counts, axis, "fill-error", error))
        for error, counts in list(series.errors.items())[:MOST_ERRORS]
    ]
    lanes += _quiet("Idle connection", series.idle, axis) + _quiet("A fresh client for each call", series.fresh, axis)
    return Chart(
        caption=f"{client.name}: {client.what}" if client.what else client.name,
        counts=(
            Layer("succeeded", "fill-ok", series.ok),
            Layer("failed", "fill-failed", series.failed),
            Layer("indeterminate", "fill-indeterminate", series.indeterminate),
        ),
        latency=(Layer("maximum", "line-max", series.max_ms), Layer("median", "line-p50", series.p50_ms)),
        lanes=lanes,
        shades=[Span(worst.from_s, worst.to_s, "shade-outage", worst.text)] if worst else [],
        tips=_tips(series, axis),
    )


def _tips(series: Series, axis: TimeAxis) -> list[str]:
    columns = zip(series.ok, series.failed, series.indeterminate, series.p50_ms, series.max_ms, strict=True)
    return [
        f"{axis.text(series.from_s + number * series.bucket_s)}: {ok:,} ok, {failed:,} failed, "
        f"{unclear:,} indeterminate; median {milliseconds(p50)}, maximum {milliseconds(most)}"
        for number, (ok, failed, unclear, p50, most) in enumerate(columns)
    ]


def _quiet(label: str, ticks: Ticks, axis: TimeAxis) -> list[Lane]:
    good, bad = sum(ticks.ok), sum(ticks.bad)
    if not good and not bad:
        return []
    spans = _runs(ticks.ok, axis, "fill-good", "succeeded", joined=False)
    spans += _runs(ticks.bad, axis, "fill-failed", "did not succeed", joined=False)
    return [Lane(f"{label}: {good:,} ok, {bad:,} not", spans)]


def _runs(counts: Sequence[int], axis: TimeAxis, style: str, what: str, *, joined: bool = True) -> list[Span]:
    """Return a span for every bucket that has any; neighbours become one where `joined`."""
    found: list[tuple[int, int, int]] = []
    for bucket, count in enumerate(counts):
        if not count:
            continue
        if joined and found and found[-1][1] == bucket:
            found[-1] = (found[-1][0], bucket + 1, found[-1][2] + count)
        else:
            found.append((bucket, bucket + 1, count))
    return list(_spans(found, axis, style, what))


def _spans(found: Iterable[tuple[int, int, int]], axis: TimeAxis, style: str, what: str) -> Iterable[Span]:
    for first, last, count in found:
        from_s, to_s = (axis.from_s + bucket * axis.bucket_s for bucket in (first, last))
        yield Span(from_s, to_s, style, f"{axis.text(from_s)} to {axis.text(to_s)}: {count:,} {what}")
