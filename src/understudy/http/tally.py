"""Counters and histograms for a hot path of one thread: no lock, no look-up by label, one addition each.

Prometheus' own take a lock for every increment, which here costs more than what is counted. They are read, when
somebody asks, as prometheus-client's own families.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
Labels = tuple[str, ...]


class Counts(Collector):
    """A counter with labels, whose values must be few."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._family = (name, text, tuple(labels))
        self.counts: defaultdict[Labels, int] = defaultdict(int)
        if not labels:
            self.counts[()] = 0  # what never happened is told too
        registry.register(self)

    def add(self, *labels: str) -> None:
        """Count one."""
        self.counts[labels] += 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return the counts."""
        name, text, labels = self._family
        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in self.counts.items():
            family.add_metric(values, count)
        yield family


class Times(Collector):
    """A histogram with one label, whose values must be few, or with none (""); of seconds, or with other bounds."""

    def __init__(
        self, name: str, text: str, label: str, registry: CollectorRegistry, bounds: Sequence[float] = SECONDS
    ) -> None:
        self._family = (name, text, [label] if label else [])
        self._bounds = bounds
        self._seen: dict[str, list[float]] = {}
        registry.register(self)

    def add(self, label: str, seconds: float) -> None:
        """Count one that took so long, or is so large."""
        buckets = self._seen.get(label)
        if buckets is None:
            buckets = self._seen[label] = [0.0] * (len(self._bounds) + 2)
        buckets[bisect_left(self._bounds, seconds)] += 1
        buckets[-1] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return the histograms."""
        family = HistogramMetricFamily(self._family[0], self._family[1], labels=self._family[2])
        for label, buckets in self._seen.items():
            total, filled = 0.0, []
            for bound, count in zip([*map(str, self._bounds), "+Inf"], buckets, strict=False):
                total += count
                filled.append((bound, total))
            family.add_metric([label] if label else [], filled, buckets[-1])
        yield family
