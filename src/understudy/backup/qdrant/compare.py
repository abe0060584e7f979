"""A Qdrant against what a set recorded: counts, how collections are set up, indexes and aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from understudy.backup.component import Comparison, Counted
from understudy.backup.qdrant.cluster import Cluster
from understudy.backup.qdrant.names import shown, vectors_in
from understudy.backup.qdrant.recorded import Collection, Recorded
from understudy.progress import Progress, stage


def compare(cluster: Cluster, recorded: Recorded, progress: Progress) -> Comparison:
    """Count every collection of the set and compare it; a set of all collections also misses no other."""
    there, aliases = cluster.first.collections(), cluster.first.aliases()
    counted: list[str] = []
    counts: list[Counted] = []
    differences: list[str] = []
    with stage(progress, "Comparing collections", len(recorded.collections), "collections"):
        for collection in recorded.collections:
            if collection.name not in there:
                then = vectors_in(collection.name, collection.low, collection.high)
                differences.append(f"the collection {shown(collection.name)} is missing ({then})")
                counts.append(Counted(f"vectors in {shown(collection.name)}", collection.low, 0))
                continue
            found = cluster.first.count(collection.name)
            differences += _set_up(collection, cluster.first.describe(collection.name))
            within = collection.low <= found <= collection.high
            expected = found if within else (collection.high if found > collection.high else collection.low)
            counts.append(Counted(f"vectors in {shown(collection.name)}", expected, found))
            text = vectors_in(collection.name, found)
            if not within:
                then = vectors_in(collection.name, collection.low, collection.high)
                differences.append(f"{text}, and the set recorded {then}")
            elif collection.low != collection.high:
                text += f" (recorded {collection.low} to {collection.high}: writes went on during the snapshot)"
            counted.append(text)
            progress.advance(1)
    if recorded.complete:
        names = {collection.name for collection in recorded.collections}
        differences += [f"the collection {shown(name)} is not in the set" for name in there if name not in names]
        differences += [
            f"the alias {shown(alias)} (of {shown(name)}) is not in the set"
            for alias, name in aliases.items()
            if alias not in recorded.aliases
        ]
    for alias, name in recorded.aliases.items():
        if alias not in aliases:
            differences.append(f"the alias {shown(alias)} (of {shown(name)}) is missing")
        elif aliases[alias] != name:
            differences.append(
                f"the alias {shown(alias)} is of {shown(aliases[alias])}, and the set recorded {shown(name)}"
            )
    return Comparison(", ".join(counted) or "no collections", tuple(differences), tuple(counts))


def _set_up(collection: Collection, about: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is set up otherwise than recorded; what a newer server says in addition is no difference."""
    name, now = shown(collection.name), dict(_flat(about["config"]))
    for path, then in _flat(collection.config):
        if now.get(path) != then:
            yield f"{name}: {path} is {now.get(path)}, and the set recorded {then}"
    indexes = {field: row.get("data_type") for field, row in about.get("payload_schema", {}).items()}
    for field, kind in collection.indexes.items():
        if field not in indexes:
            yield f"{name}: the payload index on {shown(field)} is missing"
        elif indexes[field] != kind:
            yield f"{name}: the payload index on {shown(field)} is of {indexes[field]}, and the set recorded {kind}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf with its path, without those that are null."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif value is not None:
        yield path, value
