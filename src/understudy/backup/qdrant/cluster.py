"""All nodes of one Qdrant deployment: every peer must be named, or a part of the vectors would be missing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from understudy.backup.qdrant.names import shown
from understudy.backup.qdrant.node import Node
from understudy.errors import IncompleteError, NotFoundError, RefusedError, UsageError

ACTIVE = "Active"
SETTLED = {ACTIVE, "Listener"}  # a listener gets every write and answers no search, for as long as it is one


class Cluster:
    """The nodes that QDRANT_URL names, in its order; mostly there is one.

    Raises:
        UsageError: no URL, or one that cannot be used.
    """

    def __init__(self, urls: Sequence[str], api_key: str | None) -> None:
        if not urls:
            raise UsageError("looking for Qdrant", "no address was given", "Set QDRANT_URL, as http://host:6333.")
        self.nodes: list[Node] = []
        try:
            for url in urls:
                self.nodes.append(Node(url, api_key))
        except UsageError:
            self.close()
            raise
        self.peers: list[str | None] = []

    def __str__(self) -> str:
        return ", ".join(node.url for node in self.nodes)

    @property
    def first(self) -> Node:
        """Return the node that is asked for what all of them know."""
        return self.nodes[0]

    def close(self) -> None:
        """Close every connection."""
        for node in self.nodes:
            node.close()

    def connect(self) -> None:
        """Make sure that every node answers, knows our key, and that no peer of the cluster is missing.

        Raises:
            UnreachableError: a node does not answer.
            NotAuthorisedError: the key is wrong.
            RefusedError: the cluster has peers that were not named.
            UsageError: the nodes are no one cluster.
        """
        for node in self.nodes:
            _ = node.version
            node.collections()
        views = [node.peers() for node in self.nodes]
        self.peers = [view.own for view in views]
        doing = f"connecting to Qdrant at {self}"
        if any(view.own is None for view in views):
            if len(views) > 1:
                raise UsageError(
                    doing, "these servers are no cluster: each has collections of its own",
                    "Back them up apart, each with an understudy.toml or a profile of its own.",
                )  # fmt: skip
            return
        for node, view in zip(self.nodes, views, strict=True):
            if twins := [other.url for other, peer in zip(self.nodes, self.peers, strict=True) if peer == view.own][1:]:
                raise UsageError(
                    doing, f"{node.url} and {twins[0]} are the same node",
                    "Name each node's own address, not that of a load balancer.",
                )  # fmt: skip
        known = {number: uri for view in views for number, uri in view.all.items()}
        missing = [f"peer {number} ({uri})" for number, uri in sorted(known.items()) if number not in self.peers]
        if missing or len(set(self.peers) - known.keys()) > 0:
            raise RefusedError(
                doing,
                f"the cluster has {len(known)} peers, and QDRANT_URL names {len(self.nodes)}; "
                f"missing: {', '.join(missing) or 'none, but they do not know each other'}",
                "Name the REST address of every node in QDRANT_URL, with commas between: each holds its own shards.",
                missing,
            )

    @property
    def distributed(self) -> bool:
        """Tell whether the nodes are a cluster."""
        return self.peers != [None]

    def chosen(self, wanted: Sequence[str]) -> list[str]:
        """Return the collections to read: those wanted, or all.

        Raises:
            NotFoundError: one that is wanted is not there.
            UsageError: one that is wanted is an alias.
        """
        there = self.first.collections()
        if not wanted:
            return there
        aliases = self.first.aliases()
        for name in wanted:
            if name in there:
                continue
            doing = f"looking for the collection {shown(name)} on {self}"
            if name in aliases:
                raise UsageError(
                    doing, f"it is an alias of {shown(aliases[name])}",
                    "Name the collection in QDRANT_COLLECTIONS; its aliases come along.",
                )  # fmt: skip
            raise NotFoundError(
                doing, f"there is none of that name among {', '.join(map(shown, there)) or 'none'}",
                "Check QDRANT_COLLECTIONS.",
            )  # fmt: skip
        return sorted(set(wanted))

    def holders(self, collection: str) -> tuple[list[int], list[str]]:
        """Return the nodes (by position) that hold shards of a collection, and what is wrong with some shards.

        Raises:
            IncompleteError: a shard has no active replica, so that no snapshot would hold it whole.
            RefusedError: points are moving between shards; no snapshots would fit together.
        """
        if not self.distributed:
            return [0], []
        views = [node.shards(collection) for node in self.nodes]
        if any(view.resharding for view in views):
            raise RefusedError(
                f"planning the snapshots of {shown(collection)}", "its number of shards is being changed",
                "Wait until Qdrant is done with that, then take the backup.",
            )  # fmt: skip
        numbers = frozenset().union(*(view.numbers for view in views))
        active = {number for view in views for number, state in view.local.items() if state == ACTIVE}
        if dead := sorted(numbers - active):
            raise IncompleteError(
                f"planning the snapshots of {shown(collection)}",
                f"{len(dead)} shard(s) have no active replica",
                f"Bring them back (GET /collections/{shown(collection)}/cluster shows their states), then try again.",
                [f"shard {number}" for number in dead],
            )
        warnings = [
            f"{shown(collection)}: shard {number} on {node.url} was {state}"
            for node, view in zip(self.nodes, views, strict=True)
            for number, state in view.local.items()
            if state not in SETTLED
        ]
        holders = [position for position, view in enumerate(views) if view.local]
        return holders or [0], warnings  # without any shard, a snapshot still says how the collection is set up


def minor(version: str) -> tuple[int, int] | None:
    """Return major and minor of `1.15.1` or `v1.15.1-dev`; None where it is no such thing."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
