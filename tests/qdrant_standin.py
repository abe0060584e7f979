"""A stand-in for Qdrant: as much of its REST API as a backup needs, written from the published API description.

No Qdrant server can be installed where these tests run: none is on PyPI, npm or in Debian. So this is NOT Qdrant, and a
test that passes here proves nothing about Qdrant itself. What keeps it honest is tests/backup/test_qdrant_contract.py:
the same assertions run against this and, when QDRANT_URL is set, against a real server.

One process serves all nodes of a cluster, each on a port of its own: `with standin(folder, nodes=3) as qdrant: …`.
Replication is not there: every shard is on one node. Points live in memory, snapshots are tar files on the disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from support import eventually
from understudy.lab.ports import claim_few

Document = dict[str, Any]
# one for all: every `httpx.get` would load the certificates again
CLIENT = httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
DIMENSIONS = 4


@dataclass(frozen=True)
class StandIn:
    """A running stand-in: one URL a node."""

    urls: tuple[str, ...]
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return ",".join(self.urls)

    def set(self, **switches: Any) -> None:
        """Turn failures on and off; see `Shared.switches`."""
        CLIENT.post(f"{self.urls[0]}/standin", json=switches).raise_for_status()

    def seen(self) -> list[Document]:
        """Every request so far: method, path, query, and whether a key came in the header."""
        return CLIENT.get(f"{self.urls[0]}/standin").raise_for_status().json()  # type: ignore[no-any-return]

    def left(self) -> list[str]:
        """Every snapshot that lies on a server."""
        return CLIENT.get(f"{self.urls[0]}/standin/left").raise_for_status().json()  # type: ignore[no-any-return]

    def reset(self) -> StandIn:
        """Empty it, and turn every failure off."""
        CLIENT.post(f"{self.urls[0]}/standin/reset").raise_for_status()
        return self


@contextmanager
def standin(
    folder: Path, nodes: int = 1, *, api_key: str = "", prefix: str = "", host: str = "127.0.0.1", tls: str = ""
) -> Iterator[StandIn]:
    """Run it in a process of its own until the block ends; `tls` is `certificate:key`, two files."""
    block = claim_few(nodes)
    settings = {"ports": [block.first + n for n in range(nodes)], "folder": str(folder), "prefix": prefix, "host": host}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("qdrant_server.py"))],
        env={**os.environ, "STANDIN": json.dumps({**settings, "tls": tls}), "STANDIN_KEY": api_key},
    )
    scheme, shown = "https" if tls else "http", f"[{host}]" if ":" in host else host
    urls = tuple(f"{scheme}://{shown}:{port}{prefix}" for port in settings["ports"])  # type: ignore[attr-defined]
    try:
        for url in urls:
            eventually(lambda url=url: _answers(url), within_s=30)
        yield StandIn(urls, process)
    finally:
        process.kill()
        process.wait()
        block.release()


def _answers(url: str) -> bool:
    try:
        return CLIENT.get(f"{url}/healthz").is_success
    except httpx.HTTPError:
        return False


def filled(url: str, collection: str, points: int, *, api_key: str = "", **config: Any) -> None:
    """Make a collection with so many points, numbered from 0, always the same ones; works on a real Qdrant too."""
    headers = {"api-key": api_key} if api_key else {}
    place = f"{url}/collections/{quote(collection, safe='')}"
    body = {"vectors": {"size": DIMENSIONS, "distance": "Cosine"}, **config}
    CLIENT.put(place, json=body, headers=headers).raise_for_status()
    for first in range(0, points, 1000):
        rows = {"points": [point(number) for number in range(first, min(first + 1000, points))]}
        CLIENT.put(f"{place}/points", params={"wait": "true"}, json=rows, headers=headers).raise_for_status()


def point(number: int) -> Document:
    """The point of that number."""
    vector = [1.0, number % 7 / 7, number % 11 / 11, number % 13 / 13]
    return {"id": number, "vector": vector, "payload": {"text": f"청크 {number}", "topic": number % 5}}
