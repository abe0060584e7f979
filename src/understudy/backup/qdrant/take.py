"""Read collections: a snapshot on the server, its download, and never a snapshot left behind."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from understudy.backup.component import Taken
from understudy.backup.durable import write_file
from understudy.backup.qdrant.beside import Beside
from understudy.backup.qdrant.cluster import Cluster
from understudy.backup.qdrant.names import ALIASES, FOLDER, in_url, paths, shown, vectors_in
from understudy.backup.qdrant.node import Node, Snapshot
from understudy.backup.qdrant.recorded import Collection, File
from understudy.backup.set import FileEntry
from understudy.errors import NO_ROOM, NotFoundError, UnderstudyError, UnreachableError, out_of_room
from understudy.pages.figures import size as as_size
from understudy.progress import Progress, stage

_PATIENCE_S = 300.0  # for the name of a snapshot that nobody wants any more: the server cannot be told to stop


class Taking:
    """One run over the collections of a cluster."""

    def __init__(self, cluster: Cluster, into: Path, progress: Progress) -> None:
        self._cluster = cluster
        self._into = into
        self._progress = progress
        self._files: list[FileEntry] = []
        self._warnings: list[str] = []

    def run(self, wanted: Sequence[str]) -> Taken:
        """Read the wanted collections, or all; return their files and metadata.

        Raises:
            UnderstudyError: of the kind that fits; no snapshot stays on a server, unless the error says so.
        """
        names = self._cluster.chosen(wanted)
        places = paths(names, len(self._cluster.nodes))
        (self._into / FOLDER).mkdir(mode=0o700, exist_ok=True)
        try:
            found = [each for name in names if (each := self._unless_gone(name, places, named=bool(wanted)))]
            aliases = self._aliases({each.name for each in found}, complete=not wanted)
            text = orjson.dumps(aliases, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2) + b"\n"
            write_file(self._into / ALIASES, text)
        except BaseException as error:
            shutil.rmtree(self._into / FOLDER, ignore_errors=True)  # a set may be published without us
            if isinstance(error, OSError):
                raise out_of_room(error) from error
            raise
        self._files.append(FileEntry(ALIASES, len(text), hashlib.sha256(text).hexdigest()))
        return Taken((), tuple(self._files), self._account(found, aliases, complete=not wanted))

    def _account(self, found: Sequence[Collection], aliases: dict[str, str], *, complete: bool) -> dict[str, Any]:
        nodes, peers = self._cluster.nodes, self._cluster.peers
        versions = sorted({node.version for node in nodes})
        if len(versions) > 1:
            self._warn(f"the nodes are of different versions: {', '.join(versions)}")
        return {
            "server": {"name": "qdrant", "version": self._cluster.first.version},
            "nodes": [
                {"url": node.url, "peer": peer, "version": node.version}
                for node, peer in zip(nodes, peers, strict=True)
            ],
            "complete": complete,
            "collections": [collection.as_data() for collection in found],
            "aliases": aliases,
            "summary": ", ".join(vectors_in(each.name, each.low, each.high) for each in found) or "no collections",
            "warnings": self._warnings,
        }

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._progress.say(f"Warning: Qdrant: {text}")

    def _aliases(self, taken: set[str], *, complete: bool) -> dict[str, str]:
        """Return the aliases of what was taken; one that was switched meanwhile would come back to nothing."""
        there = self._cluster.first.aliases()
        if complete:
            for alias, name in there.items():
                if name not in taken:
                    self._warn(f"the alias {shown(alias)} is not in the set: its collection {shown(name)} is new")
        return {alias: name for alias, name in there.items() if name in taken}

    def _unless_gone(self, name: str, places: dict[tuple[str, int], str], *, named: bool) -> Collection | None:
        """Read a collection; one that is deleted meanwhile is none, unless it was asked for by its name."""
        before = len(self._files)
        try:
            return self._collection(name, places)
        except NotFoundError:
            if named or name in self._cluster.first.collections():
                raise
        for position in range(len(self._cluster.nodes)):
            (self._into / places[name, position]).unlink(missing_ok=True)
        del self._files[before:]
        self._warn(f"{shown(name)} is not in the set: it was deleted meanwhile")
        return None

    def _collection(self, name: str, places: dict[tuple[str, int], str]) -> Collection:
        """Read one collection from every node that holds shards of it."""
        first = self._cluster.first
        holders, problems = self._cluster.holders(name)
        about = first.describe(name)
        if about.get("status") == "red":
            problems.append(f"{shown(name)} is in the state red: Qdrant's log says why")
        for problem in problems:
            self._warn(problem)
        before = first.count(name)
        files = tuple(self._file(name, position, places[name, position]) for position in holders)
        after = first.count(name)
        indexes = {field: row.get("data_type") for field, row in about.get("payload_schema", {}).items()}
        return Collection(name, files, min(before, after), max(before, after), about["config"], indexes)

    def _file(self, name: str, position: int, path: str) -> File:
        node, place = self._cluster.nodes[position], self._into / path
        with self._snapshot(node, name) as snapshot:
            if snapshot.checksum is None:
                self._warn(f"{node.url} gave no checksum for the snapshot of {shown(name)}")
            free = shutil.disk_usage(place.parent).free
            if snapshot.size is not None and snapshot.size > free:
                raise UnreachableError(
                    f"downloading the snapshot of {shown(name)}",
                    f"it has {as_size(snapshot.size)}, and {as_size(free)} are free in {self._into}",
                    NO_ROOM,
                )
            with (
                stage(self._progress, f"Downloading {shown(name)}", snapshot.size, "bytes"),
                Beside(lambda beat: node.download(name, snapshot, place, beat)) as work,
            ):
                size, sha256 = work.wait(self._progress)
        self._files.append(FileEntry(path, size, sha256))
        return File(position, path, snapshot.checksum)

    @contextlib.contextmanager
    def _snapshot(self, node: Node, name: str) -> Iterator[Snapshot]:
        """Give a snapshot on the server, and delete it there, however the block ends."""
        before = node.snapshots(name)
        with (
            stage(self._progress, f"Making a snapshot of {shown(name)}", None, "bytes"),
            Beside(lambda _: node.make_snapshot(name)) as work,
        ):
            try:
                snapshot = work.wait(self._progress)
            except BaseException as error:
                if isinstance(error, UnreachableError) and work.ended and not work.outcome(0):
                    error.items += self._new_ones(node, name, before)  # it may have been made: nobody told its name
                else:
                    self._give_up(node, name, work)
                raise
        try:
            yield snapshot
        except BaseException as error:
            if left := self._delete(node, name, snapshot):
                self._tell(left, error)
            raise
        if left := self._delete(node, name, snapshot):
            self._warn(left)

    def _give_up(self, node: Node, name: str, work: Beside[Snapshot]) -> None:
        """Wait for a snapshot that the server goes on making, and delete it."""
        if not work.ended:
            self._progress.say(f"Waiting for {node.url} to finish the snapshot of {shown(name)}, to delete it there.")
        snapshot = work.outcome(_PATIENCE_S)
        if snapshot and (left := self._delete(node, name, snapshot)):
            self._progress.say(f"Warning: Qdrant: {left}")
        elif not work.ended:
            self._progress.say(f"Warning: Qdrant: {node.url} goes on; delete the snapshot of {shown(name)} later.")

    @staticmethod
    def _new_ones(node: Node, name: str, before: Sequence[str]) -> list[str]:
        """Return lines about snapshots that appeared; one may be somebody else's, so that none is deleted."""
        try:
            new = [one for one in node.snapshots(name) if one not in before]
        except UnderstudyError:
            new = []
        where = f"{node.url}/collections/{in_url(name)}/snapshots"
        return [f"Delete it if it is ours: {where}/{in_url(one)}" for one in new] or [f"It may appear later: {where}"]

    @staticmethod
    def _delete(node: Node, name: str, snapshot: Snapshot) -> str:
        """Delete a snapshot; return what is left where that fails."""
        try:
            node.delete_snapshot(name, snapshot.name)
        except UnderstudyError as error:
            return f"the snapshot {shown(snapshot.name)} of {shown(name)} stays on {node.url}: {error.why}"
        return ""

    def _tell(self, left: str, error: BaseException) -> None:
        if isinstance(error, UnderstudyError):
            error.items.append(left)
        else:
            self._progress.say(f"Warning: Qdrant: {left}")
