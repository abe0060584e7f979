"""A probe that serves for real, in this process, on a port of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from redis.credentials import CredentialProvider

from understudy.http.serve import Server, listen, url_of
from understudy.http.stream import Streams
from understudy.lab import Lab, LabNode
from understudy.probe.app import MOST_STREAMS, Options, make_app
from understudy.probe.connection import ClientKind, Connection
from understudy.valkey.discovery import discover
from understudy.valkey.target import Target


@dataclass
class Probe:
    """A probe under test: its address, and a client of it."""

    url: str
    http: httpx.Client
    connection: Connection
    streams: Streams
    end: Callable[[], None]

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = self.http.get(path, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    def lines(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        with self.http.stream("GET", path, params=params) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/x-ndjson"
            for line in answer.iter_lines():
                yield json.loads(line)


def primary_of(running: Lab) -> LabNode:
    """Return the primary of the first shard, as things stand now."""
    primary = discover(running.target()).shards[0].primary
    assert primary
    return running.node(str(primary.address.port))


@contextmanager
def serving(
    target: Target,
    kind: ClientKind = ClientKind.RECOMMENDED,
    *,
    credentials: CredentialProvider | None = None,
    most_streams: int = MOST_STREAMS,
    host: str = "127.0.0.1",
    **options: Any,
) -> Iterator[Probe]:
    """Serve until the block ends."""
    connection = Connection(target, kind, credentials)
    streams = Streams(most_streams, "the probe is ending")
    app = make_app(connection, Options(**{"health_check_interval_ms": 60_000, **options}), streams)
    with listen(host, 0, "") as listening:
        server = Server(app, listening, when_stopping=streams.stop)
        url = url_of(listening)
        thread = threading.Thread(target=server.serve_until_ended)
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=40) as http:
                yield Probe(url, http, connection, streams, server.end)
        finally:
            server.end()
            thread.join(30)
            assert not thread.is_alive()
