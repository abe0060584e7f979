"""What Prometheus may ask of the probe. One registry for each application, so that several can run in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from understudy.http.observe import RequestMetrics
from understudy.probe.arrangement import Change
from understudy.probe.ping import Pings

PREFIX = "understudy_probe"
MEDIA_TYPE = CONTENT_TYPE_LATEST
_LATENCY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Numbers of the client under test, of health checks, of the topology and of our own answers."""

    def __init__(self, interval_s: float) -> None:
        self.registry = registry = CollectorRegistry()
        self.http = RequestMetrics(PREFIX, registry)
        self._up = Gauge(
            f"{PREFIX}_up", "Whether this client got an answer when last asked", ("client",), registry=registry
        )
        self._stuck = Gauge(f"{PREFIX}_stuck", "Whether only the client under test gets no answer", registry=registry)
        self._latency = Histogram(
            f"{PREFIX}_ping_duration_seconds", "Time of a PING that was answered; of a cluster, of all primaries",
            ("client",), buckets=_LATENCY_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            f"{PREFIX}_errors", "Errors of the clients by class", ("client", "error"), registry=registry
        )
        self._checks = Counter(f"{PREFIX}_health_checks", "Health checks by result", ("result",), registry=registry)
        self._healthy = Gauge(f"{PREFIX}_healthy", "Whether the last health check found all well", registry=registry)
        self._checked = Gauge(
            f"{PREFIX}_last_health_check_timestamp_seconds", "When the last health check ended", registry=registry
        )
        self._check_time = Histogram(
            f"{PREFIX}_health_check_duration_seconds", "Time of a health check", registry=registry
        )
        self._changes = Counter(
            f"{PREFIX}_topology_changes", "Changes of the topology by kind, as health checks saw them", ("kind",),
            registry=registry,
        )  # fmt: skip
        Gauge(f"{PREFIX}_health_check_interval_seconds", "Time between health checks", registry=registry).set(
            interval_s
        )
        for result in ("healthy", "unhealthy"):
            self._checks.labels(result)

    def pinged(self, pings: Pings) -> None:
        """Count a PING of both clients."""
        for name, ping in (("long_lived", pings.long_lived), ("fresh", pings.fresh)):
            self._up.labels(name).set(ping.connected)
            if ping.latency_ms is not None:
                self._latency.labels(name).observe(ping.latency_ms / 1000)
            else:
                self.failed(name, ping.error)
        self._stuck.set(pings.stuck)

    def failed(self, client: str, error: str) -> None:
        """Count an error of a client."""
        self._errors.labels(client, error).inc()

    def checked(self, healthy: bool, took_s: float, at_s: float) -> None:
        """Count a health check."""
        self._checks.labels("healthy" if healthy else "unhealthy").inc()
        self._healthy.set(healthy)
        self._checked.set(at_s)
        self._check_time.observe(took_s)

    def changed(self, changes: tuple[Change, ...]) -> None:
        """Count changes of the topology."""
        for one in changes:
            self._changes.labels(one.kind).inc()

    def exposed(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
