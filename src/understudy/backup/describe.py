"""Say what a set holds, in a line for each component: what its metadata recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from understudy.backup.components import NAMES, kind
from understudy.backup.set import Metadata
from understudy.pages.figures import count


def title_of(name: str) -> str:
    """Return how people write a component's name; that of one which we do not know as it is."""
    return kind(name).title if name in NAMES else name


def summary_of(name: str, recorded: Mapping[str, Any]) -> str:
    """Return what a component holds, as it recorded it itself: "25 tables, 150 rows"."""
    if isinstance(summary := recorded.get("summary"), str):
        return summary
    return count(recorded["keys"], "key") if isinstance(recorded.get("keys"), int) else f"see components.{name}"


def held_in(metadata: Metadata) -> str:
    """Return the names of the components that a set holds."""
    return ", ".join(title_of(name) for name in metadata.components)


def lines(metadata: Metadata) -> list[str]:
    """Return what is worth knowing: each component, the span, what is missing, warnings, encryption."""
    told: list[str] = []
    if set(metadata.components) != {"redis"}:
        told += [f"{title_of(name)}: {summary_of(name, said)}" for name, said in metadata.components.items()]
    if len(metadata.components) > 1 and metadata.span_s is not None:
        told.append(f"Span: {metadata.span_s:.1f} s from the first component's begin to the last one's end")
    told += _engine(metadata.components.get("redis", {}))
    told += [f"Missing: {title_of(name)} ({why})" for name, why in metadata.missing.items()]
    if metadata.encryption is not None:
        for_whom = [f"{count(len(metadata.encryption.get('recipients', ())), 'recipient')}"]
        for_whom += ["a passphrase"] if metadata.encryption.get("passphrase") else []
        told.append(f"Encrypted with age for {' and '.join(for_whom)}")
    return told


def _engine(recorded: Mapping[str, Any]) -> list[str]:
    """Return the instant that copies of the primaries stood still at, or why there are none."""
    if why := recorded.get("not_replica"):
        return [f"Engine: scan, not replica: {why}"]
    if not (cut := recorded.get("cut")):
        return []
    if not cut["one_instant"]:
        return [f"Cut: an instant of its own for each of {count(len(cut['shards']), 'shard')}, until {cut['instant']}"]
    held = f", writes held for {cut['paused_ms']:.1f} ms" if cut["paused_ms"] else ""
    again = f", after {count(len(cut['abandoned']), 'abandoned attempt')}" if cut["abandoned"] else ""
    return [f"Cut: {count(len(cut['shards']), 'shard')} at one instant, {cut['instant']}{held}{again}"]


def lacking(metadata: Metadata, meant: Collection[str], newest_with: Callable[[str], str | None]) -> list[str]:
    """Return what somebody would expect in a set and does not find there: a sentence each.

    `meant` are the components that are wanted; `newest_with` returns the newest set that holds one.
    """
    told = []
    for name in [one for one in NAMES if one in meant and one not in metadata.components]:
        why = f": {metadata.missing[name]}" if name in metadata.missing else ""
        newest = newest_with(name)
        where = (
            f"the newest set with it is {newest} (--component {name} latest)"
            if newest
            else "no other set here holds it"
        )
        told.append(f"{title_of(name)} is missing in this set{why}; {where}")
    return told + (filtered(metadata) if "redis" in meant or not meant else [])


def filtered(metadata: Metadata) -> list[str]:
    """Return a sentence where a set holds only the keys that match a glob; none of a second that was read with it."""
    said = metadata.components.get("redis", {})
    match = None if said.get("at") else said.get("match")
    return [f"this set holds only the keys that match {match!r}"] if match else []
