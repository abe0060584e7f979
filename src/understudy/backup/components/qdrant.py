"""The qdrant component: collections as snapshots of Qdrant's own, over its REST API, and their aliases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from understudy.backup.component import Comparison, RestoreOptions, RestoreReport, Taken
from understudy.backup.qdrant import restore, snapshot
from understudy.backup.qdrant.cluster import Cluster
from understudy.backup.qdrant.compare import compare
from understudy.backup.qdrant.names import shown
from understudy.backup.qdrant.recorded import Recorded
from understudy.backup.qdrant.take import Taking
from understudy.backup.set import BackupSet
from understudy.errors import UsageError
from understudy.progress import Progress

if TYPE_CHECKING:
    from understudy.settings import Settings


class QdrantComponent:
    """The collections behind one URL, or behind those of all nodes of a cluster. Connects when first used.

    `collections` are those to back up, to restore and to compare; none: all of them.
    """

    name = "qdrant"
    title = "Qdrant"

    def __init__(self, urls: Sequence[str], *, api_key: str | None = None, collections: Sequence[str] = ()) -> None:
        self._urls = tuple(urls)
        self._api_key = api_key
        self._collections = tuple(collections)

    @classmethod
    def from_settings(cls, settings: Settings) -> QdrantComponent:
        """Return the component that QDRANT_URL, QDRANT_API_KEY and QDRANT_COLLECTIONS name.

        Raises:
            UsageError: QDRANT_URL is not set.
        """
        urls = [url.strip() for url in (settings.qdrant_url or "").split(",") if url.strip()]
        if not urls:
            raise UsageError("looking for Qdrant", "QDRANT_URL is not set", "Set it, as http://host:6333.")
        key = settings.qdrant_api_key
        return cls(urls, api_key=key.get_secret_value() if key else None, collections=settings.qdrant_collections)

    @cached_property
    def cluster(self) -> Cluster:
        """Return the nodes, once every one of them has answered."""
        cluster = Cluster(self._urls, self._api_key)
        try:
            cluster.connect()
        except BaseException:
            cluster.close()
            raise
        return cluster

    def connect(self) -> None:
        """Make sure that every node answers and knows our key, and that no peer of the cluster was left out.

        Raises:
            UnreachableError: a node does not answer.
            NotAuthorisedError: the API key is wrong.
            RefusedError: the cluster has peers that QDRANT_URL does not name.
        """
        _ = self.cluster

    def close(self) -> None:
        """Close the connections, if there are any."""
        if cluster := self.__dict__.pop("cluster", None):
            cluster.close()

    def where(self) -> str:
        """Return its address."""
        return ", ".join(urlsplit(one).netloc.rpartition("@")[2] for one in self._urls)

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:  # noqa: ARG002 - the port's shape
        """Have every node make a snapshot of each collection, download and check it, delete it there."""
        return Taking(self.cluster, into, progress).run(self._collections)

    def _recorded(self, backup: BackupSet) -> Recorded:
        return Recorded.of(backup).only(self._collections, f"choosing collections of {backup.metadata.id}")

    def sources(self, backup: BackupSet) -> list[str]:
        """Return the snapshots with what they hold, and the file of aliases."""
        return restore.sources(self._recorded(backup))

    def foresee(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> None:
        """Nothing is lost: `check_target` refuses what cannot be restored as it was."""

    def check_target(self, backup: BackupSet, options: RestoreOptions) -> None:  # noqa: ARG002 - the port's shape
        """Refuse a server that is too old, nodes that are missing, and collections that are set up otherwise.

        How much room the server has, it does not tell.
        """
        restore.check_target(self.cluster, self._recorded(backup))

    def overwrites(self, backup: BackupSet, options: RestoreOptions) -> list[str]:  # noqa: ARG002 - the port's shape
        """Return collections that hold vectors, and aliases that point elsewhere."""
        return restore.overwrites(self.cluster, self._recorded(backup))

    def keeping(self, backup: BackupSet, options: RestoreOptions) -> QdrantComponent:  # noqa: ARG002 - the port's shape
        """Return a component that takes these collections, and those that the aliases point to now."""
        names = restore.replaced(self.cluster, self._recorded(backup))
        return QdrantComponent(self._urls, api_key=self._api_key, collections=names)

    def restore(self, backup: BackupSet, options: RestoreOptions, progress: Progress) -> RestoreReport:
        """Have every node recover from its snapshot; what a collection held before is gone. Aliases come last."""
        recorded = self._recorded(backup)
        names = {collection.name for collection in recorded.collections}
        if left_out := [shown(each.name) for each in Recorded.of(backup).collections if each.name not in names]:
            progress.say(f"Qdrant: not restored, because of QDRANT_COLLECTIONS: {', '.join(left_out)}")
        return restore.Restoring(self.cluster, backup, recorded, progress).run(dry_run=options.dry_run)

    def compare(self, backup: BackupSet, progress: Progress) -> Comparison:
        """Compare counts, how collections are set up, payload indexes and aliases with what the set recorded."""
        return compare(self.cluster, self._recorded(backup), progress)

    @staticmethod
    def read_through(backup: BackupSet, progress: Progress) -> None:
        """Read every snapshot from its first header to its end."""
        snapshot.read_through(backup, progress)
