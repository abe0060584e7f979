"""Charts as HTML with inline SVG: every value stands there as text, and the bar beside it only shows it.

The text is HTML and the bars are SVG, because SVG text shrinks with a narrow screen, and because browsers leave
CSS backgrounds out when they print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_LEAST_PERCENT = 0.4  # so that a small value is still seen


@dataclass(frozen=True)
class Bar:
    """One bar: its label, the value that it shows, that value as text, and a remark below the label.

    One that is not `good` has the colour of failures; the remark must say so in words.
    """

    label: str
    value: float
    text: str
    note: str = ""
    good: bool = True


def bars(caption: str, rows: Sequence[Bar]) -> Markup:
    """Return a horizontal bar chart; the longest bar fills the width. Labels, texts and notes are escaped."""
    longest = max((row.value for row in rows), default=0.0)
    return _chart(caption, "bars", [(row, 0.0, _percent(row.value, longest)) for row in rows])


def timeline(caption: str, rows: Sequence[Bar]) -> Markup:
    """Return bars that each begin where the one before ended: what took how long, and when."""
    total = sum(row.value for row in rows)
    placed: list[tuple[Bar, float, float]] = []
    before = 0.0
    for row in rows:
        placed.append((row, _percent(before, total), _percent(row.value, total)))
        before += row.value
    return _chart(caption, "bars timeline", placed)


def strip(caption: str, rows: Sequence[Bar]) -> Markup:
    """Return one bar cut into shares, numbered, with a legend that tells each share's label and value."""
    total = sum(row.value for row in rows)
    pieces: list[Markup] = []
    legend: list[Markup] = []
    before = 0.0
    for number, row in enumerate(rows, 1):
        start, width = _percent(before, total), _percent(row.value, total)
        shade = (number - 1) % 3 + 1
        pieces.append(
            Markup('<rect class="shade-{}" x="{:.2f}%" width="{:.2f}%" height="100%"/>').format(shade, start, width)
        )
        legend.append(
            Markup('<li><span class="label"><svg class="swatch" aria-hidden="true"><rect class="shade-{}" ')
            .format(shade)
            + Markup('width="100%" height="100%"/></svg>{}</span> <span class="value">{}</span>{}</li>')
            .format(row.label, row.text, _note(row))
        )  # fmt: skip
        before += row.value
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption>'
        '<svg class="strip" aria-hidden="true" focusable="false">{}</svg><ul class="legend">{}</ul></figure>'
    ).format(caption, Markup("").join(pieces), Markup("").join(legend))


def _percent(value: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * value / whole)) if whole > 0 else 0.0


def _chart(caption: str, kind: str, placed: Sequence[tuple[Bar, float, float]]) -> Markup:
    items = Markup("").join(_item(*one) for one in placed)
    return Markup('<figure class="chart"><figcaption>{}</figcaption><ol class="{}">{}</ol></figure>').format(
        caption, kind, items
    )


def _item(row: Bar, start: float, width: float) -> Markup:
    shown = max(width, _LEAST_PERCENT) if row.value > 0 else 0.0
    start = min(start, 100 - shown)
    return Markup(
        '<li{}><span class="label">{}</span> <svg class="bar" aria-hidden="true" focusable="false">'
        '<rect class="track" width="100%" height="100%"/>'
        '<rect class="fill" x="{:.2f}%" width="{:.2f}%" height="100%"/></svg> <span class="value">{}</span>{}</li>'
    ).format(Markup("") if row.good else Markup(' class="failed"'), row.label, start, shown, row.text, _note(row))


def _note(row: Bar) -> Markup:
    return Markup(' <span class="note">{}</span>').format(row.note) if row.note else Markup("")
