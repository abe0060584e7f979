"""Load over HTTP from a process of its own: raw sockets, keep-alive, one request at a time on each connection.

Closed model: every connection asks again when it was answered: the most that a server carries. Open model
(`--rate`): requests are due at fixed times whether or not earlier ones were answered, and latency counts from when a
request was due, so that a server that stands still is not spared the requests that it kept from being sent.

python -m benchmarks.http_load http://127.0.0.1:8080/api/v1/queue/join --body '{"event_id":"e","user_id":"u{n}"}'
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from benchmarks.measured import cpu_s

CONNECTIONS = 64
_ANSWERED_WITHIN_S = 10.0
_SETTLING_S = 0.3
_TICK_S = 0.001  # open model: what is due meanwhile is sent at once; to wait for less would take a core of its own
_PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Load:
    """What was answered in `seconds`: how many a second, how many of which status, and latencies in milliseconds."""

    seconds: float
    answered: int
    per_s: float
    by_status: dict[str, int]
    latency_ms: dict[str, float]
    most_late_ms: float = 0.0  # open model: the worst that the generator itself was behind
    server_cpu_us: float = 0.0  # processor time of the server for one answer, where its process was named
    own_cpu_us: float = 0.0  # and of the generator
    first_bodies: list[str] = field(default_factory=list)


def request(method: str, url: str, body: str = "", headers: Sequence[str] = ()) -> bytes:
    """Return a request as bytes; `{n}` and `{v}` in it are filled in for each one sent."""
    split = urlsplit(url)
    path = split.path + (f"?{split.query}" if split.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {split.netloc}", *headers]
    if body:
        lines.append("Content-Type: application/json")
    lines.append("Content-Length: {length}" if body or method == "POST" else "")
    return ("\r\n".join(filter(None, lines)) + "\r\n\r\n" + body).encode()


def filled(template: bytes, prefix: str, values: Sequence[str]) -> Iterator[bytes]:
    """Return requests without end: `{n}` is PREFIX and a number, `{v}` the next of the values."""
    head, _, body = template.partition(b"\r\n\r\n")
    turns: Iterator[str] = itertools.cycle(values or [""])
    for number in itertools.count():
        n, v = f"{prefix}{number}".encode(), next(turns).encode()
        sent = body.replace(b"{n}", n).replace(b"{v}", v)
        top = head.replace(b"{n}", n).replace(b"{v}", v).replace(b"{length}", str(len(sent)).encode())
        yield top + b"\r\n\r\n" + sent


class _Connection(asyncio.Protocol):
    """One keep-alive connection; tells `done(connection, status, body)` of each answer, status 0 where it was lost."""

    def __init__(self, done: Callable[[_Connection, int, bytes], None]) -> None:
        self._done = done
        self._got = b""
        self.transport: asyncio.Transport | None = None
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, data: bytes, due: float) -> None:
        self.due = due
        assert self.transport is not None
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._got = got = self._got + data if self._got else data
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = got[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            stop = head.find(b"\r\n", at)
            whole = end + 4 + int(head[at + 15 : stop if stop >= 0 else None])
            if len(got) < whole:
                return
        elif not got.endswith(b"0\r\n\r\n"):  # chunked
            return
        self._got = b""
        self._done(self, int(got[9:12]), got[end + 4 :])

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self._done(self, 0, b"")


class _Tally:
    def __init__(self, keep_bodies: int, pid: int = 0) -> None:
        self._pid = pid
        self.begin()
        self.latencies: list[float] = []
        self.by_status: Counter[str] = Counter()
        self.bodies: list[str] = []
        self._keep = keep_bodies

    def begin(self) -> None:
        """Count processor time from now on."""
        self._cpu_s, self._own_cpu_s = cpu_s(self._pid), time.process_time()

    def add(self, status: int, took_s: float, body: bytes) -> None:
        self.by_status[str(status or "lost")] += 1
        self.latencies.append(took_s)
        if len(self.bodies) < self._keep:
            self.bodies.append(body.decode(errors="replace"))

    def load(self, seconds: float, late_s: float = 0.0) -> Load:
        answered = len(self.latencies)
        each = 1e6 / max(1, answered)
        server, own = each * (cpu_s(self._pid) - self._cpu_s), each * (time.process_time() - self._own_cpu_s)
        at, by_status = percentiles(self.latencies), dict(self.by_status)
        return Load(seconds, answered, answered / seconds, by_status, at, 1e3 * late_s, server, own, self.bodies)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return percentiles by their names, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {f"p{one:g}": 1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * one / 100))] for one in _PERCENTILES}


async def closed(
    host: str, port: int, requests: Iterator[bytes], seconds: float, connections: int, tally: _Tally
) -> Load:
    """Ask as fast as answers come."""
    loop = asyncio.get_running_loop()
    counting = ended = False

    def done(one: _Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        if counting and not ended:
            tally.add(status, now - one.due, body)
        if one.transport is not None and not ended:
            one.ask(next(requests), now)

    made = [await loop.create_connection(lambda: _Connection(done), host, port) for _ in range(connections)]
    for _, protocol in made:
        protocol.ask(next(requests), time.perf_counter())
    await asyncio.sleep(_SETTLING_S)
    tally.begin()
    counting, begun = True, time.perf_counter()
    await asyncio.sleep(seconds)
    took, ended = time.perf_counter() - begun, True
    measured = tally.load(took)
    for transport, _ in made:
        transport.abort()
    return measured


async def open_model(
    host: str, port: int, requests: Iterator[bytes], seconds: float, connections: int, tally: _Tally, rate: float
) -> Load:
    """Ask at fixed times. A request that finds no free connection waits; its latency counts from when it was due."""
    loop = asyncio.get_running_loop()
    idle: deque[_Connection] = deque()
    waiting: deque[float] = deque()
    under_way = 0

    def done(one: _Connection, status: int, body: bytes) -> None:
        nonlocal under_way
        if one.due:
            tally.add(status, time.perf_counter() - one.due, body)
            one.due = 0.0
            under_way -= 1
        if one.transport is None:
            return
        if waiting:
            under_way += 1
            one.ask(next(requests), waiting.popleft())
        else:
            idle.append(one)

    made = [await loop.create_connection(lambda: _Connection(done), host, port) for _ in range(connections)]
    idle.extend(protocol for _, protocol in made)
    tally.begin()
    begun, sent, total, late = time.perf_counter(), 0, int(rate * seconds), 0.0
    while sent < total:
        now = time.perf_counter()
        while sent < total and (due := begun + sent / rate) <= now:
            late = max(late, now - due)
            sent += 1
            while idle and idle[0].transport is None:
                idle.popleft()
            if idle:
                under_way += 1
                idle.popleft().ask(next(requests), due)
            else:
                waiting.append(due)
        await asyncio.sleep(max(_TICK_S, begun + sent / rate - time.perf_counter()))
    until = time.perf_counter() + _ANSWERED_WITHIN_S
    while (under_way or waiting) and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    for due in [*waiting, *(protocol.due for _, protocol in made if protocol.due)]:
        tally.by_status["unanswered"] += 1
        tally.latencies.append(time.perf_counter() - due)
    measured = tally.load(time.perf_counter() - begun, late)
    for transport, protocol in made:
        protocol.due = 0.0
        transport.abort()
    return measured


def load(
    method: str,
    url: str,
    *,
    body: str = "",
    headers: Sequence[str] = (),
    seconds: float = 3.0,
    connections: int = CONNECTIONS,
    rate: float = 0.0,
    prefix: str = "",
    values: Path | None = None,
    keep: int = 0,
    pid: int = 0,
) -> Load:
    """Run the generator in a process of its own and return what it measured."""
    words = [method, url, "--body", body, "--seconds", str(seconds), "--connections", str(connections)]
    words += ["--rate", str(rate), "--prefix", prefix, "--keep", str(keep), "--pid", str(pid)]
    words += [word for one in headers for word in ("--header", one)]
    words += ["--values", str(values)] if values else []
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.http_load", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    if done.returncode:
        raise SystemExit(f"the load generator failed:\n{done.stderr[-2000:]}")
    return Load(**json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_load", description=__doc__.splitlines()[0])
    parser.add_argument("method", nargs="?", default="POST")
    parser.add_argument("url")
    parser.add_argument("--body", default="", help="`{n}` becomes a number of its own, `{v}` the next of --values")
    parser.add_argument("--header", action="append", default=[], help="for example 'Authorization: Bearer {v}'")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--rate", type=float, default=0.0, help="open model: so many a second; 0: closed model")
    parser.add_argument("--prefix", default="", help="stands before the number of `{n}`")
    parser.add_argument("--values", type=Path, help="a file with one value a line")
    parser.add_argument("--keep", type=int, default=0, help="print so many of the first answers' bodies")
    parser.add_argument("--pid", type=int, default=0, help="the server's process: its processor time is told too")
    asked = parser.parse_args()
    split = urlsplit(asked.url)
    values = asked.values.read_text().split() if asked.values else []
    requests = filled(request(asked.method, asked.url, asked.body, asked.header), asked.prefix, values)
    where = (split.hostname or "127.0.0.1", split.port or 80)

    async def run() -> Load:
        tally = _Tally(asked.keep, asked.pid)
        if asked.rate:
            return await open_model(*where, requests, asked.seconds, asked.connections, tally, asked.rate)
        return await closed(*where, requests, asked.seconds, asked.connections, tally)

    try:
        import uvloop  # noqa: PLC0415 - where it is there, the generator is less in the way
    except ImportError:
        measured = asyncio.run(run())
    else:
        measured = uvloop.run(run())
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
