"""Targets in words: which nodes of a lab are meant, by the roles that the servers report at this moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from understudy.errors import NotFoundError, RefusedError, UnderstudyError, UsageError
from understudy.lab.layout import of_kind, running
from understudy.lab.live import Lab
from understudy.lab.server import LabNode
from understudy.valkey.discovery import discover
from understudy.valkey.target import Mode

WORDS = ("primary", "replica", "one", "majority", "all-primaries", "all", "shard:N", "primary:N", "replica:N")
_ASK_WITHIN_S = 1.0


@dataclass(frozen=True)
class ShardNodes:
    """One shard's nodes now; `primary` is None while nobody is."""

    primary: LabNode | None
    replicas: tuple[LabNode, ...]

    @property
    def nodes(self) -> tuple[LabNode, ...]:
        """Return all of them, the primary first."""
        return ((self.primary,) if self.primary else ()) + self.replicas


def shards_of(lab: Lab) -> list[ShardNodes]:
    """Return a lab's shards by their first slot. Asked are running nodes only: a paused one would not answer.

    Raises:
        UnreachableError: nobody answers.
    """
    if lab.layout == "standalone":
        return [_by_role(lab)]
    mode = Mode.SENTINEL if lab.layout == "sentinel" else Mode.OSS_CLUSTER
    target = lab.target(mode)
    asked = running(lab.nodes, "sentinel" if mode is Mode.SENTINEL else "valkey")
    topology = discover(target.at(*(node.address for node in asked)) if asked else target)
    here = {node.address: node for node in of_kind(lab.nodes, "valkey")}
    return [
        ShardNodes(
            here.get(shard.primary.address) if shard.primary else None,
            tuple(node for replica in shard.replicas if (node := here.get(replica.address))),
        )
        for shard in topology.shards
    ]


def shard_with(lab: Lab, node: LabNode) -> ShardNodes:
    """Return the shard that a data node belongs to now.

    Raises:
        NotFoundError: it belongs to none: it serves no slots and follows nobody, or is no data node.
    """
    for shard in shards_of(lab):
        if any(node.name == one.name for one in shard.nodes):
            return shard
    raise NotFoundError(f"looking for the shard of {node.name}", "it belongs to none at this moment")


def chosen(lab: Lab, words: Sequence[str], randomness: random.Random | None = None) -> tuple[LabNode, ...]:
    """Return the nodes that words mean, each once, in the order of the words.

    A word is one of `WORDS` (N counts shards from 1; without it the first is meant), or a node's name or port. `one`
    is any data node, drawn from `randomness`; `majority` the first primaries of which more than half are.

    Raises:
        UsageError: there is no such shard.
        NotFoundError: no node is called so, or the shard has none of that role.
    """
    nodes = {node.name: node for word in words for node in _meant(lab, word, randomness or random.Random())}  # noqa: S311
    return tuple(nodes.values())


def _meant(lab: Lab, word: str, randomness: random.Random) -> Sequence[LabNode]:
    data = of_kind(lab.nodes, "valkey")
    role, _, number = word.partition(":")
    match role:
        case "all" if not number:
            return data
        case "one" if not number:
            return [randomness.choice(data)]
        case "all-primaries" | "majority" if not number:
            primaries = [shard.primary for shard in shards_of(lab) if shard.primary]
            return primaries if role == "all-primaries" else primaries[: len(primaries) // 2 + 1]
        case "primary" | "replica" | "shard":
            return _of_shard(lab, word, role, number)
        case _:
            return [_named(lab, word)]


def _of_shard(lab: Lab, word: str, role: str, number: str) -> Sequence[LabNode]:
    shards = shards_of(lab)
    if not (number.isdecimal() or (not number and word != "shard")) or not 1 <= int(number or 1) <= len(shards):
        raise UsageError(
            f"choosing the nodes {word!r} of the lab {lab.name}",
            f"it has {len(shards)} shard{'s' if len(shards) > 1 else ''}, counted from 1",
            f"For example {role}:{len(shards)}.",
        )
    shard = shards[int(number or 1) - 1]
    if role == "shard":
        return shard.nodes
    found = [shard.primary] if role == "primary" and shard.primary else shard.replicas if role == "replica" else []
    if not found:
        raise NotFoundError(
            f"choosing the nodes {word!r} of the lab {lab.name}", f"that shard has no {role} now", "understudy status"
        )
    return found[:1]


def _named(lab: Lab, word: str) -> LabNode:
    try:
        return lab.node(word)
    except NotFoundError as error:
        error.hint += f" Or in words: {', '.join(WORDS)}."
        raise


def _by_role(lab: Lab) -> ShardNodes:
    primary, replicas = None, []
    for node in of_kind(lab.nodes, "valkey"):
        try:
            role = lab.call(node, "ROLE", timeout_s=_ASK_WITHIN_S)[0]
        except UnderstudyError:
            role = "master" if node.role == "primary" else "slave"  # it is down: what it was started as
        if role == "master":
            primary = primary or node
        else:
            replicas.append(node)
    return ShardNodes(primary, tuple(replicas))


def data_only(doing: str, nodes: Sequence[LabNode]) -> None:
    """Refuse sentinels and proxies.

    Raises:
        RefusedError: one of the nodes is no data node.
    """
    for node in nodes:
        if node.kind != "valkey":
            raise RefusedError(doing, f"{node.name} holds no data", "Name a data node, or use `kill` or `pause`.")
