"""What the report draws of its own: the sale over time with its kill, and whose seat each is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import ceil, sqrt

from markupsafe import Markup

from understudy.demo.seats import Seats
from understudy.demo.sold import Sold
from understudy.drill import words
from understudy.pages.figures import count, precise
from understudy.pages.panels import Layer, Tick, stack
from understudy.pages.timeaxis import TimeAxis
from understudy.pages.timeseries import Chart, Event, Lane, Panel, Span, framed, legend
from understudy.sale.findings import Series

_STYLES = {"fault": "fault", "undone": "undone", "promoted": "promoted", "whole": "back"}
_TOLD = {"fault": "the server of the sale is killed", "undone": "the dead server is started again"}
_LEGEND = (
    ("fill-ok", "done for a buyer, or sold"), ("fill-failed", "answered 503: try again"),
    ("fill-indeterminate", "no answer"), ("shade-outage", "nothing done for any buyer"),
)  # fmt: skip
_LEAST_COLUMNS = 20
_WIDER = 3  # than high
_SHADES = 3


def timeline(sold: Sold) -> Markup:
    """Return the sale over time: seats sold, what was done for buyers, who was without service how long."""
    found, series = sold.found, sold.found.series
    axis = TimeAxis(0.0, series.bucket_s, len(series.unavailable), signed=False)
    marks = [one for one in found.marks if one.kind in _STYLES]
    events = [Event(one.at_s, _STYLES[one.kind], _TOLD.get(one.kind, one.text)) for one in marks]
    spans = [
        Span(one.from_s, one.from_s + one.gap_s, "fill-outage", f"Buyers: {precise(one.gap_s)} without service")
        for one in found.outages
    ]
    chart = Chart(
        caption=f"{count(found.tally.buyers, 'buyer')}, {count(found.tally.seats, 'seat')}, one killed server",
        counts=(), latency=(), lanes=[Lane(one.text, [one]) for one in [*spans, *_clients(sold)]],
        shades=[Span(one.from_s, one.to_s, "shade-outage", one.text) for one in spans],
        tips=_tips(series, axis),
    )  # fmt: skip
    seats = float(found.tally.seats or 1)
    panels = [
        Panel(
            "Seats sold", [Tick(0, "0"), Tick(1, f"{seats:,.0f}")],
            partial(stack, [Layer("sold", "fill-ok", _filled(series))], seats),
        ),
        _requests(series),
    ]  # fmt: skip
    return framed(chart, axis, panels, events) + legend(_LEGEND, events, axis)


def _clients(sold: Sold) -> list[Span]:
    """Return the longest outage of each client, in the sale's seconds."""
    killed_s = sold.outage.at_s if sold.outage else 0.0
    spans = []
    for client in sold.leg.clients:
        worst = words.worst_outage(client)
        if worst is None:
            continue
        to_s = worst.began_s + worst.gap_s
        text = f"Client, {client.name}: {words.downtime(client)}"
        spans.append(Span(killed_s + worst.began_s, killed_s + to_s, "fill-outage", text))
    return spans


def _requests(series: Series) -> Panel:
    done = [sum(bucket) for bucket in zip(*series.done.values(), strict=True)]
    layers = [
        Layer("done", "fill-ok", done), Layer("503", "fill-failed", series.unavailable),
        Layer("none", "fill-indeterminate", series.unanswered),
    ]  # fmt: skip
    top = float(max(map(sum, zip(done, series.unavailable, series.unanswered, strict=True)), default=0) or 1)
    ticks = [Tick(0, "0"), Tick(1, f"{top / series.bucket_s:,.0f}/s")]
    return Panel("Joins, entries, holds and sales a second", ticks, partial(stack, layers, top))


def _filled(series: Series) -> list[int]:
    found, last = [], 0
    for value in series.sold:
        last = last if value is None else value
        found.append(last)
    return found


def _tips(series: Series, axis: TimeAxis) -> list[str]:
    done = [sum(bucket) for bucket in zip(*series.done.values(), strict=True)]
    rows = zip(_filled(series), done, series.unavailable, series.unanswered, strict=True)
    return [
        f"{axis.text(number * series.bucket_s)}: {sold:,} sold so far, {some:,} done, {bad:,} answers 503, "
        f"{none:,} without an answer"
        for number, (sold, some, bad, none) in enumerate(rows)
    ]


def seat_maps(seats: Seats, keys_after_wipe: int) -> Markup:
    """Return the seats three times: before the loss, after the wipe, after the restore; a shade for each buyer.

    After the wipe nobody looks at seats: so many keys of any kind were left.
    """
    shades: dict[str, int] = {}
    for name in seats.names:
        for holders in (seats.before, seats.after):
            if name in holders:
                shades.setdefault(holders[name], len(shades) % _SHADES + 1)
    back = f"{seats.same:,} of {seats.sold:,} with their buyer"
    return Markup('<div class="maps">{}{}{}</div>').format(
        _map("Before the loss", f"{seats.sold:,} sold", seats, seats.before, shades),
        _map("After the wipe", f"{count(keys_after_wipe, 'key')} left in all servers", seats, {}, shades),
        _map("After the restore", back, seats, seats.after, shades),
    )


def _map(title: str, text: str, seats: Seats, holders: Mapping[str, str], shades: Mapping[str, int]) -> Markup:
    odd = set(seats.others) if holders is seats.after else set()
    columns = max(_LEAST_COLUMNS, ceil(sqrt(_WIDER * len(seats.names))))
    cells = Markup().join(
        Markup('<rect class="{}" x="{}" y="{}" width="9" height="9"><title>{}: {}</title></rect>').format(
            "odd" if name in odd else f"shade-{shades[holders[name]]}" if name in holders else "track",
            number % columns * 11, number // columns * 11, name,
            seats.buyer(holders, name) if name in holders else "not sold",
        )
        for number, name in enumerate(seats.names)
    )  # fmt: skip
    height = max(1, ceil(len(seats.names) / columns)) * 11 - 2
    return Markup(
        '<figure class="map"><figcaption><strong>{}</strong> {}</figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}: {}">{}</svg></figure>'
    ).format(title, text, columns * 11 - 2, height, title, text, cells)
