"""One node: the calls of Qdrant's REST API that we use, with their answers as values.

Source: the OpenAPI description that the Qdrant project publishes with each release, that of 1.19.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from understudy.backup.qdrant.beside import Beat
from understudy.backup.qdrant.names import in_url, shown
from understudy.backup.qdrant.wire import LONG_S, Wire
from understudy.errors import IntegrityError, NotFoundError, ServerSaidError, UnreachableError

_BLOCK_BYTES = 1 << 20
UPLOADED = "understudy-restore.snapshot"  # the same each time: a restore that was cut off is tidied up by its repeat


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on a server: its name there, size in bytes and SHA-256, where the server tells them."""

    name: str
    size: int | None
    checksum: str | None


@dataclass(frozen=True)
class Peers:
    """What a node says about its cluster: its own id, and every peer's id with its address; none outside a cluster."""

    own: str | None
    all: Mapping[str, str]


@dataclass(frozen=True)
class Shards:
    """A collection's shards as a node sees them: the states of its own by number, every number, what is under way."""

    local: Mapping[int, str]
    numbers: frozenset[int]
    transfers: int
    resharding: bool


class Node:
    """One node of a Qdrant deployment."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._wire = Wire(url, api_key)
        self.url = self._wire.url

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    @cached_property
    def version(self) -> str:
        """Return the server's version. Raises `ServerSaidError` where something else answers."""
        answer = self._wire.ask("GET", "", f"asking {self.url} for its version")
        if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
            raise ServerSaidError(f"asking {self.url} for its version", "it is no Qdrant", "Check QDRANT_URL.")
        return str(answer["version"])

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        with self._understood(doing := f"listing the collections of {self.url}"):
            rows = self._wire.ask("GET", "collections", doing)["collections"]
            return sorted(str(row["name"]) for row in rows)

    def aliases(self) -> dict[str, str]:
        """Return every alias with its collection."""
        with self._understood(doing := f"listing the aliases of {self.url}"):
            rows = self._wire.ask("GET", "aliases", doing)["aliases"]
            return {str(row["alias_name"]): str(row["collection_name"]) for row in rows}

    def change_aliases(self, actions: list[dict[str, Any]]) -> None:
        """Do all of these changes at once, or none."""
        self._wire.ask("POST", "collections/aliases", f"switching aliases on {self.url}", body={"actions": actions})

    def describe(self, collection: str) -> dict[str, Any]:
        """Return what `GET /collections/{name}` says: status, config, payload_schema and counts."""
        with self._understood(doing := f"describing {self._named(collection)}"):
            answer = self._wire.ask("GET", self._path(collection), doing)
            return {**answer, "config": {**answer["config"]}}

    def count(self, collection: str) -> int:
        """Return how many points a collection holds, exactly, on all nodes together."""
        with self._understood(doing := f"counting {self._named(collection)}"):
            path = self._path(collection, "points/count")
            return int(self._wire.ask("POST", path, doing, body={"exact": True}, read_s=LONG_S)["count"])

    def peers(self) -> Peers:
        """Return the cluster that the node belongs to."""
        with self._understood(doing := f"asking {self.url} for its cluster"):
            answer = self._wire.ask("GET", "cluster", doing)
            if answer.get("status") != "enabled":
                return Peers(None, {})
            peers = {str(number): str(row.get("uri", "")) for number, row in answer["peers"].items()}
            return Peers(str(answer["peer_id"]), peers)

    def shards(self, collection: str) -> Shards:
        """Return where a collection's shards are, and in which state."""
        with self._understood(doing := f"asking for the shards of {self._named(collection)}"):
            answer = self._wire.ask("GET", self._path(collection, "cluster"), doing)
            local = {int(row["shard_id"]): str(row["state"]) for row in answer["local_shards"]}
            others = (int(row["shard_id"]) for row in answer["remote_shards"])
            transfers, resharding = answer.get("shard_transfers", []), bool(answer.get("resharding_operations"))
            return Shards(local, frozenset({*local, *others}), len(transfers), resharding)

    def make_snapshot(self, collection: str) -> Snapshot:
        """Have the node make a snapshot of its part of a collection; returns when it is complete."""
        doing = f"making a snapshot of {self._named(collection)}"
        with self._understood(doing):
            path, wait = self._path(collection, "snapshots"), {"wait": "true"}
            answer = self._wire.ask("POST", path, doing, params=wait, read_s=LONG_S)
            size, checksum = answer.get("size"), answer.get("checksum")
            return Snapshot(
                str(answer["name"]), size if isinstance(size, int) else None, str(checksum) if checksum else None
            )

    def snapshots(self, collection: str) -> list[str]:
        """Return the names of the snapshots of a collection that lie on the node."""
        with self._understood(doing := f"listing the snapshots of {self._named(collection)}"):
            return [str(row["name"]) for row in self._wire.ask("GET", self._path(collection, "snapshots"), doing)]

    def delete_snapshot(self, collection: str, name: str) -> None:
        """Delete a snapshot; harmless when it is gone."""
        path = self._path(collection, f"snapshots/{in_url(name)}")
        doing = f"deleting the snapshot {shown(name)} of {self._named(collection)}"
        with contextlib.suppress(NotFoundError):
            self._wire.ask("DELETE", path, doing, params={"wait": "true"})

    def download(self, collection: str, snapshot: Snapshot, place: Path, beat: Beat) -> tuple[int, str]:
        """Write a snapshot to a new file; return its size and SHA-256.

        Raises:
            IntegrityError: what arrived is not what the server said it would be.
            UnreachableError: it was cut off.
        """
        doing = f"downloading the snapshot of {self._named(collection)}"
        path, digest, size = self._path(collection, f"snapshots/{in_url(snapshot.name)}"), hashlib.sha256(), 0
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, self._wire.stream(path, doing) as reply:
            beat.on_stop(_breaker(reply))
            for block in reply.iter_bytes(_BLOCK_BYTES):
                file.write(block)
                digest.update(block)
                size += len(block)
                beat(len(block))
        if snapshot.size is not None and size < snapshot.size:
            raise UnreachableError(
                doing, f"{size:,} bytes of {snapshot.size:,} came from {self.url}", "Try again; look at a proxy's log."
            )
        if snapshot.checksum and digest.hexdigest() != snapshot.checksum.lower():
            raise IntegrityError(
                doing, f"what came from {self.url} does not have the checksum that Qdrant gave",
                "Try again. If it stays, check the server's disk and memory, and any proxy in between.",
            )  # fmt: skip
        return size, digest.hexdigest()

    def recover(self, collection: str, place: Path, sha256: str, beat: Beat) -> None:
        """Upload a snapshot and have the node recover its part of the collection from it."""
        with place.open("rb") as file:
            body = {"snapshot": (UPLOADED, _Watched(file, beat), "application/octet-stream")}
            self._wire.ask(
                "POST", self._path(collection, "snapshots/upload"), f"restoring {self._named(collection)}",
                params={"priority": "snapshot", "wait": "true", "checksum": sha256}, files=body, read_s=LONG_S,
            )  # fmt: skip

    def _named(self, collection: str) -> str:
        return f"{shown(collection)} on {self.url}"

    @staticmethod
    def _path(collection: str, rest: str = "") -> str:
        return f"collections/{in_url(collection)}" + (f"/{rest}" if rest else "")

    @contextlib.contextmanager
    def _understood(self, doing: str) -> Iterator[None]:
        """Refuse an answer of another shape than Qdrant's."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"{self.url} answered in a way that Qdrant does not ({type(error).__name__}: {error})"
            raise ServerSaidError(
                doing, why, "Check QDRANT_URL, and whether we know this version of Qdrant."
            ) from error


def _breaker(reply: Any) -> Callable[[], None]:
    """Return what wakes a thread that waits for the next block of an answer."""

    def wake() -> None:
        with contextlib.suppress(OSError, KeyError, AttributeError):
            reply.extensions["network_stream"].get_extra_info("socket").shutdown(2)

    return wake


class _Watched:
    """A file that tells how much of it was read: httpx sends it block by block."""

    def __init__(self, file: IO[bytes], beat: Beat) -> None:
        self._file = file
        self._beat = beat
        self.fileno, self.seek, self.tell = file.fileno, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._beat(len(data))
        return data
