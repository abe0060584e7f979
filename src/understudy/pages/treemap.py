"""Shares of a whole as areas: HTML labels over SVG tiles. What it shows must stand beside it as text.

The tiles are as near to squares as can be: each row is closed when one more tile would make its worst one longer.
Source: Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_ASPECT = 2.6  # of the area on a wide screen
_LABEL_PERCENT = (7.0, 11.0)  # smaller tiles have a tooltip only


@dataclass(frozen=True)
class Tile:
    """One share: its label, its value, and that value as text; `faint` for a remainder."""

    label: str
    value: float
    text: str
    faint: bool = False


@dataclass(frozen=True)
class Place:
    """Where a tile stands: percent of the whole's width and height."""

    x: float
    y: float
    width: float
    height: float


def placed(values: Sequence[float], aspect: float = _ASPECT) -> list[Place]:
    """Return a place for each value above zero, in the order given; largest first looks best."""
    total = sum(values)
    scaled = [value * aspect / total for value in values] if total else []
    return [
        Place(100 * x / aspect, 100 * y, 100 * width / aspect, 100 * height)
        for x, y, width, height in _squarified(scaled, aspect, 1.0)
    ]


def _squarified(areas: Sequence[float], width: float, height: float) -> Iterator[tuple[float, float, float, float]]:
    x = y = 0.0
    at = 0
    while at < len(areas):
        side = max(min(width, height), 1e-9)
        end = at + 1
        while end < len(areas) and _worst(areas[at : end + 1], side) <= _worst(areas[at:end], side):
            end += 1
        row = areas[at:end]
        thick = sum(row) / side
        along = 0.0
        for area in row:
            long = area / thick if thick else 0.0
            yield (x, y + along, thick, long) if width >= height else (x + along, y, long, thick)
            along += long
        if width >= height:
            x, width = x + thick, width - thick
        else:
            y, height = y + thick, height - thick
        at = end


def _worst(row: Sequence[float], side: float) -> float:
    total = sum(row)
    return max(side * side * max(row) / total**2, total**2 / (side * side * max(min(row), 1e-12)))


def treemap(caption: str, tiles: Sequence[Tile]) -> Markup:
    """Return the picture. Labels and texts are escaped; screen readers pass it over for the text beside it."""
    shown = [tile for tile in tiles if tile.value > 0]
    places = placed([tile.value for tile in shown])
    rects = Markup().join(_rect(*one) for one in zip(shown, places, strict=True))
    labels = Markup().join(_label(*one) for one in zip(shown, places, strict=True))
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption><div class="treemap" aria-hidden="true">'
        '<svg focusable="false">{}</svg>{}</div></figure>'
    ).format(caption, rects, labels)


def _rect(tile: Tile, place: Place) -> Markup:
    return Markup(
        '<rect{} x="{:.3f}%" y="{:.3f}%" width="{:.3f}%" height="{:.3f}%"><title>{}: {}</title></rect>'
    ).format(Markup(' class="faint"') if tile.faint else Markup(), place.x, place.y, place.width, place.height,
             tile.label, tile.text)  # fmt: skip


def _label(tile: Tile, place: Place) -> Markup:
    if place.width < _LABEL_PERCENT[0] or place.height < _LABEL_PERCENT[1]:
        return Markup()
    return Markup(
        '<span style="left:{:.3f}%;top:{:.3f}%;width:{:.3f}%;height:{:.3f}%" title="{}: {}"><b>{}</b><br>{}</span>'
    ).format(place.x, place.y, place.width, place.height, tile.label, tile.text, tile.label, tile.text)
