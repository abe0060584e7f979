"""The parts of a time chart that have a scale: stacked counts, and lines on a logarithmic one. SVG paths, one a series.

The plot is `WIDTH` units wide however wide the screen is; vertical units are CSS pixels, so that labels outside the
SVG find their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

WIDTH = 1000
HEIGHT = 84
"""A panel without its title."""


@dataclass(frozen=True)
class Layer:
    """One series: its name, the CSS class that shows it, and a value for each bucket; None is a gap."""

    name: str
    style: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Tick:
    """A label on a panel's scale, `up` from its bottom: 0 to 1."""

    up: float
    text: str


def drawn(path: Sequence[str], style: str) -> Markup:
    """Return a path, or nothing where there is nothing to draw."""
    return Markup('<path class="{}" d="{}"/>').format(style, "".join(path)) if path else Markup()


def stack(layers: Sequence[Layer], top: float, bottom_px: float) -> Markup:
    """Return layers upon each other, the first at the bottom; what is above `top`, the upper edge, is cut off."""
    count = max((len(layer.values) for layer in layers), default=0)
    below = [0.0] * count
    found = Markup()
    for layer in layers:
        path = []
        for bucket, value in enumerate(layer.values):
            if value:
                left, right = bucket * WIDTH / count, (bucket + 1) * WIDTH / count
                parts = (below[bucket], below[bucket] + value)
                low, high = (bottom_px - HEIGHT * min(1.0, part / top) for part in parts)
                path.append(f"M{left:.4g} {low:.4g}V{high:.4g}H{right:.4g}V{low:.4g}Z")
                below[bucket] += value
        found += drawn(path, layer.style)
    return found


@dataclass(frozen=True)
class LogScale:
    """Powers of ten from `least` to `most`, both included."""

    least: int
    most: int

    @classmethod
    def of(cls, values: Sequence[float]) -> LogScale:
        """Return the scale that has room for all values above zero, and at least one power."""
        seen = [value for value in values if value > 0] or [1.0]
        least = floor(log10(min(seen)))
        return cls(least, max(least + 1, ceil(log10(max(seen)))))

    def up(self, value: float) -> float:
        """Return how far up a value stands, from 0 to 1."""
        if value <= 0:
            return 0.0
        return min(1.0, max(0.0, (log10(value) - self.least) / (self.most - self.least)))

    def ticks_ms(self) -> list[Tick]:
        """Return a label for every power, not more than five; the values are milliseconds."""
        step = ceil((self.most - self.least) / 4)
        return [Tick(self.up(10.0**power), _ms(power)) for power in range(self.least, self.most + 1, step)]


def _ms(power: int) -> str:
    return (
        f"{10 ** (power - 3):g} s" if power >= 3 else f"{10.0**power:g} ms" if power >= 0 else f"{10 ** (power + 3)} µs"
    )


def line(layer: Layer, scale: LogScale, bottom_px: float) -> Markup:
    """Return a line in steps, interrupted where there is no value."""
    count = len(layer.values)
    path: list[str] = []
    drawing = False
    for bucket, value in enumerate(layer.values):
        if value is None:
            drawing = False
            continue
        left, right = bucket * WIDTH / count, (bucket + 1) * WIDTH / count
        level = bottom_px - HEIGHT * scale.up(value)
        path.append(f"V{level:.4g}H{right:.4g}" if drawing else f"M{left:.4g} {level:.4g}H{right:.4g}")
        drawing = True
    return drawn(path, layer.style)
