"""Write collections back: checks before anything is touched, snapshots node by node, aliases in one step at the end.

Qdrant itself replaces a collection's data when it recovers from a snapshot. A collection cannot be renamed there, so
that restoring beside the old one and switching would leave it under another name; docs/qdrant.md says what an
interruption leaves. Running the same restore again completes it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from understudy.backup.component import RestoreReport
from understudy.backup.qdrant.beside import Beside
from understudy.backup.qdrant.cluster import SETTLED, Cluster, minor
from understudy.backup.qdrant.names import FOLDER, shown, vectors_in
from understudy.backup.qdrant.node import UPLOADED, Node
from understudy.backup.qdrant.recorded import Collection, File, Recorded
from understudy.backup.set import BackupSet
from understudy.errors import IntegrityError, NotFoundError, RefusedError, UnderstudyError, UnreachableError
from understudy.progress import Progress, stage

_SETTLED_WITHIN_S = 3600.0
_LOOK_EVERY_S = 0.5
_PATIENCE_S = 10.0


def check_target(cluster: Cluster, recorded: Recorded) -> None:
    """Refuse what cannot succeed, before anything is written.

    Raises:
        IntegrityError: the snapshots are of a newer Qdrant than a node's.
        RefusedError: nodes are missing, or a collection or an alias of that name stands in the way.
    """
    doing = f"restoring to Qdrant at {cluster}"
    theirs = minor(recorded.version)
    for node in cluster.nodes:
        ours = minor(node.version)
        if theirs and ours and theirs > ours:
            raise IntegrityError(
                doing, f"the set was taken from Qdrant {recorded.version}, and {node.url} is {node.version}",
                "Qdrant reads snapshots of its own version or of an older one: upgrade the server first.",
            )  # fmt: skip
    if recorded.nodes > len(cluster.nodes):
        raise RefusedError(
            doing, f"the set was taken from {recorded.nodes} nodes, and QDRANT_URL names {len(cluster.nodes)}",
            "Restore to a cluster of at least as many nodes, and name them all.",
        )  # fmt: skip
    there, aliases = cluster.first.collections(), cluster.first.aliases()
    problems = [
        f"{shown(collection.name)} is there an alias of {shown(aliases[collection.name])}"
        for collection in recorded.collections
        if collection.name in aliases
    ]
    problems += [f"the alias {shown(alias)} is there a collection" for alias in recorded.aliases if alias in there]
    for collection in recorded.collections:
        if collection.name in there:
            now, then = _fixed(cluster.first.describe(collection.name)["config"]), _fixed(collection.config)
            problems += [
                f"{shown(collection.name)} has there {field} {now.get(field)}, and in the set {then.get(field)}"
                for field in sorted(now.keys() | then.keys())
                if now.get(field) != then.get(field)
            ]
    if problems:
        raise RefusedError(
            doing, problems[0],
            "Qdrant cannot recover into it. Delete what stands there if it may go "
            "(curl -X DELETE …/collections/NAME), or restore to another server.",
            problems,
        )  # fmt: skip


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a collection cannot change later: the sizes and distances of its vectors, and its shards.

    Qdrant compares more before it recovers, in a form that differs between versions; that is left to it.
    """
    params = config.get("params") or {}
    vectors = params.get("vectors") or {}
    named = {"vectors": vectors} if "size" in vectors else {f"vectors {name}": each for name, each in vectors.items()}
    found = {name: f"{each.get('size')} {each.get('distance')}" for name, each in named.items()}
    found |= {f"sparse vectors {name}": "yes" for name in params.get("sparse_vectors") or {}}
    return found | {"shard_number": params.get("shard_number"), "sharding_method": params.get("sharding_method")}


def overwrites(cluster: Cluster, recorded: Recorded) -> list[str]:
    """Return one line for each collection with vectors, and each alias, that a restore would change."""
    there, aliases = cluster.first.collections(), cluster.first.aliases()
    lines = [
        f"Qdrant {cluster}: the {vectors_in(collection.name, count)}"
        for collection in recorded.collections
        if collection.name in there and (count := cluster.first.count(collection.name))
    ]
    lines += [
        f"Qdrant {cluster}: the alias {shown(alias)}, now of {shown(aliases[alias])}, then of {shown(name)}"
        for alias, name in recorded.aliases.items()
        if aliases.get(alias, name) != name
    ]
    return lines


def replaced(cluster: Cluster, recorded: Recorded) -> list[str]:
    """Return the collections that a restore would change there, and those whose aliases it would switch."""
    there, aliases = cluster.first.collections(), cluster.first.aliases()
    found = {collection.name for collection in recorded.collections if collection.name in there}
    return sorted(
        found | {aliases[alias] for alias, name in recorded.aliases.items() if aliases.get(alias, name) != name}
    )


class Restoring:
    """One restore of a set, or of some of its collections, into a cluster."""

    def __init__(self, cluster: Cluster, backup: BackupSet, recorded: Recorded, progress: Progress) -> None:
        self._cluster = cluster
        self._backup = backup
        self._progress = progress
        self._recorded = recorded
        self._sha256 = {entry.path: entry.sha256 for entry in backup.metadata.files}
        self._size = {entry.path: entry.size for entry in backup.metadata.files}

    def run(self, *, dry_run: bool) -> RestoreReport:
        """Recover every collection, count it, then switch the aliases; with `dry_run` only tell how much it would be.

        Raises:
            UnderstudyError: a collection could not be restored; `items` names those that were.
        """
        report = RestoreReport(counts={"collections": 0, "vectors": 0, "aliases": 0})
        if dry_run:
            report.counts = {
                "collections": len(self._recorded.collections),
                "vectors": sum(collection.low for collection in self._recorded.collections),
                "aliases": len(self._recorded.aliases),
            }
            return report
        self._mind_versions()
        done: list[str] = []
        try:
            for collection in self._recorded.collections:
                for file in collection.files:
                    self._file(self._cluster.nodes[file.node], collection, file)
                self._counted(collection, report)
                done.append(f"restored: {shown(collection.name)}")
            report.counts["aliases"] = self._switch_aliases()
        except UnderstudyError as error:
            error.items += done
            raise
        return report

    def _mind_versions(self) -> None:
        theirs, ours = minor(self._recorded.version), minor(self._cluster.first.version)
        if theirs and ours and (theirs[0], theirs[1] + 1) < ours:
            self._progress.say(
                f"Warning: Qdrant: the set is of {self._recorded.version}, the server {self._cluster.first.version}; "
                "Qdrant promises to read snapshots of the same minor version and of the one before."
            )

    def _file(self, node: Node, collection: Collection, file: File) -> None:
        """Upload one snapshot; whatever happens, the uploaded copy does not stay on the server."""
        place, name = self._backup.directory / file.path, collection.name
        with (
            stage(self._progress, f"Restoring {shown(name)}", self._size[file.path], "bytes"),
            Beside(lambda beat: node.recover(name, place, self._sha256[file.path], beat)) as work,
        ):
            try:
                work.wait(self._progress)
            except UnderstudyError:
                with contextlib.suppress(UnderstudyError):  # the first error is the one to tell
                    node.delete_snapshot(name, UPLOADED)
                raise
            except BaseException:
                self._interrupted(node, name, work)
                raise
        try:
            node.delete_snapshot(name, UPLOADED)  # Qdrant keeps what was uploaded to it
        except UnderstudyError as error:
            self._progress.say(
                f"Warning: Qdrant: {UPLOADED} of {shown(name)} stays on {node.url}, which needs room: {error.why}"
            )
        if self._cluster.distributed:
            self._settle(name)

    def _interrupted(self, node: Node, name: str, work: Beside[None]) -> None:
        """Stop sending; where all was sent, the server goes on, and needs its copy until it is done."""
        work.stop()
        work.outcome(_PATIENCE_S)
        if work.ended:
            with contextlib.suppress(UnderstudyError):
                node.delete_snapshot(name, UPLOADED)
        else:
            self._progress.say(
                f"{node.url} goes on restoring {shown(name)}, and keeps {UPLOADED}; the same restore completes it."
            )

    def _settle(self, name: str) -> None:
        """Wait until every replica is active and nothing is moved: the next upload would disturb that."""
        self._until(
            f"waiting for the replicas of {shown(name)}",
            lambda: all(
                not view.transfers and SETTLED.issuperset(view.local.values())
                for view in (node.shards(name) for node in self._cluster.nodes)
            ),
            f"Look at GET /collections/{shown(name)}/cluster, and run the restore again.",
        )

    def _until(self, doing: str, holds: Callable[[], bool], hint: str) -> None:
        end = time.monotonic() + _SETTLED_WITHIN_S
        while True:
            with contextlib.suppress(NotFoundError):  # a node hears of a new collection a moment later
                if holds():
                    return
            self._progress.advance(0)
            if time.monotonic() > end:
                raise UnreachableError(doing, f"they were not all active within {_SETTLED_WITHIN_S:.0f} s", hint)
            time.sleep(_LOOK_EVERY_S)

    def _counted(self, collection: Collection, report: RestoreReport) -> None:
        count = self._cluster.first.count(collection.name)
        report.counts["collections"] += 1
        report.counts["vectors"] += count
        if not collection.low <= count <= collection.high:
            expected = vectors_in(collection.name, collection.low, collection.high)
            report.fail(f"{vectors_in(collection.name, count)} after the restore, and the set recorded {expected}")

    def _switch_aliases(self) -> int:
        """Point every alias of the set where the set says, in one request; return how many there are."""
        now = self._cluster.first.aliases()
        actions: list[dict[str, Any]] = []
        for alias, name in self._recorded.aliases.items():
            if now.get(alias) == name:
                continue
            if alias in now:
                actions.append({"delete_alias": {"alias_name": alias}})
            actions.append({"create_alias": {"collection_name": name, "alias_name": alias}})
        if actions:
            self._cluster.first.change_aliases(actions)
        return len(self._recorded.aliases)


def sources(recorded: Recorded) -> list[str]:
    """Return each snapshot with what it holds, and the aliases, as a person would name them."""
    lines = []
    for collection in recorded.collections:
        holds, files = vectors_in(collection.name, collection.low, collection.high), collection.files
        parts = [f", part {number} of {len(files)}" for number in range(1, len(files) + 1)] if len(files) > 1 else [""]
        lines += [f"{file.path} ({holds}{part})" for file, part in zip(files, parts, strict=True)]
    if recorded.aliases:
        lines.append(f"{FOLDER}/aliases.json ({_aliases(len(recorded.aliases))})")
    return lines


def _aliases(number: int) -> str:
    return "1 alias" if number == 1 else f"{number} aliases"
