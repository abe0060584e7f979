"""Time from left to right: where a moment stands, and which moments are labelled."""

from __future__ import annotations

from dataclasses import dataclass

_STEPS_S = tuple(step * 10.0**power for power in range(-2, 6) for step in (1, 2, 5))


@dataclass(frozen=True)
class TimeAxis:
    """`count` buckets of `bucket_s`, the first from `from_s`. `signed`: times are before and after a moment, 0."""

    from_s: float
    bucket_s: float
    count: int
    signed: bool = True

    @property
    def to_s(self) -> float:
        """Return where the last bucket ends."""
        return self.from_s + self.bucket_s * self.count

    def percent(self, at_s: float) -> float:
        """Return where a moment is from left to right, within the chart."""
        return min(100.0, max(0.0, 100 * (at_s - self.from_s) / (self.to_s - self.from_s)))

    def text(self, at_s: float, digits: int = 2) -> str:
        """Return a moment in words."""
        return f"{at_s:+.{digits}f} s" if self.signed and round(at_s, digits) else f"{abs(at_s):.{digits}f} s"

    def ticks(self) -> list[tuple[float, str]]:
        """Return at most eight round moments and their labels."""
        length = self.to_s - self.from_s
        step = next((step for step in _STEPS_S if length / step <= 8), length)
        first = int(self.from_s // step) + (self.from_s % step > 0)
        digits = 0 if step >= 1 else 1 if step >= 0.1 else 2
        moments = [number * step for number in range(first, int(self.to_s // step) + 1)]
        return [(self.percent(at_s), self.text(at_s, digits)) for at_s in moments]
