"""What Prometheus may ask of the archiver, on a port of this machine only."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from understudy.backup.pitr.meter import Meter
from understudy.errors import RefusedError

_HOST = "127.0.0.1"
_ASKS_WITHIN_S = 10
_PREFIX = "understudy_archive"
Row = tuple[dict[str, str], float | None]
FIGURES: dict[str, tuple[str, str, Callable[[Meter, float], float | None]]] = {
    "connected": ("gauge", "Whether the copy of the shard follows its primary", lambda m, _: m.connected),
    "lag_bytes": ("gauge", "Bytes that the copy had not yet at the last look", lambda m, _: m.lag_bytes),
    "lag_seconds": (
        "gauge", "Seconds since the last end of a second at which the copy had everything in time",
        lambda m, now: None if m.exact_ms is None else max(0.0, now - m.exact_ms / 1000),
    ),
    "restorable_until_timestamp_seconds": (
        "gauge", "Up to when the repository can give the shard back",
        lambda m, _: None if m.shipped_ms is None else m.shipped_ms / 1000,
    ),
    "last_shipped_timestamp_seconds": ("gauge", "When something was last shipped", lambda m, _: m.last_put_s),
    "shipped_bytes_total": ("counter", "Bytes of bases and pieces that were stored", lambda m, _: m.shipped_bytes),
    "held_bytes": ("gauge", "Bytes of the copy's files on this disk", lambda m, _: m.held_bytes),
    "streams_total": ("counter", "Streams that were begun in the repository", lambda m, _: m.streams),
    "gaps_total": ("counter", "Streams that nothing leads up to: before them is a gap", lambda m, _: m.gaps),
    "missed_seconds_total": (
        "counter", "Seconds that cannot be restored because the copy lagged or was not connected",
        lambda m, _: m.missed_seconds,
    ),
    "clock_ahead_seconds": ("gauge", "How far the primary's clock is ahead of ours", lambda m, _: m.ahead_ms / 1000),
}  # fmt: skip
"""Each figure of a shard: its kind, what it means, and where it comes from."""


def text(meters: Iterable[Meter], shipping: Sequence[str], now_s: float) -> str:
    """Return the exposition format. `shipping` are the shards that are archived just now.

    A meter that is no shard's has troubles, and else nothing.
    """
    lines: list[str] = []
    known = list(meters)
    for name, (kind, meaning, value) in FIGURES.items():
        lines += _told(name, kind, meaning, [({"shard": one.shard}, value(one, now_s)) for one in known if one.shard])
    errors: list[Row] = [
        ({"shard": one.shard, "kind": what}, float(count)) for one in known for what, count in list(one.errors.items())
    ]
    lines += _told("errors_total", "counter", "Troubles by what they were with", errors)
    lines += _told("shards", "gauge", "Shards that are archived", [({}, float(len(shipping)))])
    return "".join(f"{line}\n" for line in lines)


def _told(name: str, kind: str, meaning: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"# HELP {_PREFIX}_{name} {meaning}"
    yield f"# TYPE {_PREFIX}_{name} {kind}"
    for labels, value in rows:
        if value is not None:
            inner = ",".join(f'{label}="{_escaped(said)}"' for label, said in labels.items())
            yield f"{_PREFIX}_{name}{f'{{{inner}}}' if inner else ''} {float(value)!r}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Exporter:
    """Answers `GET /metrics` on loopback until it is closed.

    Raises:
        RefusedError: the port is taken.
    """

    def __init__(self, port: int, told: Callable[[float], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _ASKS_WITHIN_S

            def do_GET(self) -> None:
                body = told(time.time()).encode() if self.path == "/metrics" else b"Metrics are at /metrics.\n"
                self.send_response(200 if self.path == "/metrics" else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing of each request."""

        try:
            self._server = ThreadingHTTPServer((_HOST, port), Handler)
        except OSError as error:
            raise RefusedError(
                f"listening on {_HOST}:{port}", error.strerror or str(error),
                "Name another port: --metrics-port (ARCHIVE_METRICS_PORT); 0 is none.",
            ) from error  # fmt: skip
        self._server.daemon_threads = True
        self._server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
