"""What Prometheus may ask of a gateway. One registry for each, so that several can run in one process."""

from __future__ import annotations

from collections import OrderedDict

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from understudy.http.tally import Counts, Times
from understudy.waitingroom.values import Event

PREFIX = "waitingroom"
MEDIA_TYPE = CONTENT_TYPE_LATEST
MOST_EVENTS = 200  # with gauges of their own: the events seen last
_LENGTHS = (1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
_GAUGES = ("stream_length", "waiting", "admitted", "inside", "held", "sold", "remaining", "pending")
_TEXTS = {
    "stream_length": "Entries in the event's stream",
    "waiting": "Tickets in the line",
    "admitted": "Tickets called and not yet inside",
    "inside": "Tickets inside",
    "held": "Seats held",
    "sold": "Seats sold",
    "remaining": "Seats that are free",
    "pending": "Messages that a worker took and did not acknowledge",
}


class Metrics:
    """Counters are this gateway's own; the gauges of an event are the same on every gateway."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counts(f"{PREFIX}_http_requests", "Requests answered", ("route", "method", "status"), registry)
        self.request_times = Times(
            f"{PREFIX}_http_request_duration_seconds", "Time to the end of the answer", "route", registry
        )
        self.enqueued = Counts(f"{PREFIX}_enqueue", "Joins by result", ("result",), registry)
        self.dedupe_hits = Counts(f"{PREFIX}_dedupe_hits", "Joins that were a repetition", (), registry)
        self.user_stream_length = Times(
            f"{PREFIX}_user_stream_length", "Entries in the user's stream after a join", "", registry, _LENGTHS
        )
        self.script_times = Times(
            f"{PREFIX}_lua_script_duration_seconds", "Time of an operation, the way to the server included",
            "operation", registry,
        )  # fmt: skip
        self.script_errors = Counts(
            f"{PREFIX}_lua_script_errors", "Operations that were refused or failed, by code", ("operation", "code"),
            registry,
        )  # fmt: skip
        self.streams = Gauge(f"{PREFIX}_sse_streams", "Streams of places under way", registry=registry)
        self._gauges = {
            name: Gauge(f"{PREFIX}_{name}", _TEXTS[name], ("event",), registry=registry) for name in _GAUGES
        }
        self._events: OrderedDict[str, None] = OrderedDict()

    def observe(self, operation: str, seconds: float, code: str) -> None:
        """Count an operation; `code` is empty where it succeeded."""
        self.script_times.add(operation, seconds)
        if code:
            self.script_errors.add(operation, code)

    def stands(self, event: Event) -> None:
        """Set the gauges of an event."""
        self._events[event.event_id] = None
        self._events.move_to_end(event.event_id)
        for name, gauge in self._gauges.items():
            gauge.labels(event.event_id).set(getattr(event.counts, name))
        if len(self._events) > MOST_EVENTS:
            self.forget(next(iter(self._events)))

    def forget(self, event: str) -> None:
        """Remove the gauges of an event."""
        if event in self._events:
            del self._events[event]
            for gauge in self._gauges.values():
                gauge.remove(event)

    def exposed(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
