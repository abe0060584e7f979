"""Read servers that stand still: copies detached at one instant, RDB files or an archive that were loaded.

Each holds a shard, or everything there is. Nothing of them moves, so there is one task a server, and no second try.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.backup import functions
from understudy.backup.big.format import gather
from understudy.backup.component import Taken
from understudy.backup.durable import write_file
from understudy.backup.functions import FUNCTIONS, Library
from understudy.backup.part import Part
from understudy.backup.rdb_write import counted, write_files
from understudy.backup.set import FileEntry
from understudy.backup.workers import run_all
from understudy.errors import IncompleteError
from understudy.pages.figures import count
from understudy.progress import Progress, stage
from understudy.valkey.discovery import parse_info
from understudy.valkey.keyspace import databases
from understudy.valkey.router import Router
from understudy.valkey.slots import as_ranges
from understudy.valkey.target import Target
from understudy.valkey.topology import SLOTS


@dataclass(frozen=True)
class Frozen:
    """A server that holds one shard as it was, and the slots that are its own (None: outside of a cluster).

    Keys of other slots, which were on their way out, are not read; `alone`: it is known to hold none.
    """

    target: Target
    slots: frozenset[int] | None = None
    alone: bool = False


def read_frozen(
    copies: Sequence[Frozen],
    plan: Mapping[str, Any],
    work: Path,
    into: Path,
    progress: Progress,
    account: Mapping[str, Any],
) -> Taken:
    """Read all of them side by side, functions included.

    `plan` is what a task of `tasks/read_keys.py` is to know beside its server: `chunk_keys`, `match`, `slice_bytes`;
    and, in `formats`, what the set is to hold: `jsonl` (also where it is not there), `rdb`, or both.
    `account` is what the metadata says of where it comes from: `engine`, `mode`, `server` and the like.

    Raises:
        IncompleteError: the copies' slots are not all slots, or their functions differ.
    """
    covered = [slot for copy in copies for slot in copy.slots or ()]
    if copies[0].slots is not None and (len(covered) != SLOTS or len(set(covered)) != SLOTS):
        missing = set(range(SLOTS)).difference(covered)
        raise IncompleteError(
            "accounting for every slot", f"{len(missing)} slot(s) are in no copy", items=as_ranges(missing)
        )
    libraries: dict[str, bytes] = {}
    dbs: list[list[int]] = []
    held = 0
    for copy in copies:
        with contextlib.closing(Router(copy.target)) as router:
            dbs.append(databases(router))
            held += _held(router, copy.target)
            _merge(libraries, functions.read(router)[0])
    formats = plan.get("formats", ("jsonl",))
    written = []
    if "rdb" in formats:
        written = write_files([(copy.target, copy.slots, copy.alone) for copy in copies], into, progress)
    plans = [
        {
            **plan,
            "target": copy.target.as_data(),
            "dbs": own,
            "work": str(work),
            "keys_per_s": 0.0,
            "slots": None,
            "ranks": True,
            "gives_way": True,
            "only": None if copy.slots is None or copy.alone else as_ranges(copy.slots),
            "stem": f"shard{number:03d}",
        }
        for number, (copy, own) in enumerate(zip(copies, dbs, strict=True))
    ]
    results: list[dict[str, Any]] = []
    if "jsonl" in formats:
        with stage(progress, "Reading keys", held, "keys"):
            results = run_all("understudy.backup.tasks.read_keys:run", plans, progress.advance)
    big, requires = gather(results, work, into, plan.get("shard", 0))
    files = [one.entry for one in written] + list(big)
    if libraries:
        data = functions.encode(sorted(libraries.items()))
        place = into / FUNCTIONS
        place.parent.mkdir(parents=True, mode=0o700)
        write_file(place, data)
        files.append(FileEntry(FUNCTIONS, len(data), hashlib.sha256(data).hexdigest()))
    parts = tuple(Part(**part) for result in results for part in result["parts"])
    told = summed(results, plan, sorted({db for own in dbs for db in own}), len(libraries))
    if written:
        told |= counted(written, "jsonl" in formats, len(libraries))
    if "jsonl" not in formats:
        del told["types"]  # a server does not count them, and asking for each takes longer than writing the file
    if copies[0].slots is not None:
        told["slots"] = {"covered": SLOTS, "tasks": [as_ranges(copy.slots or ()) for copy in copies]}
    return Taken(
        parts,
        tuple(files),
        {**told, **account, "warnings": [*account.get("warnings", ())]},
        requires if "jsonl" in formats else ("rdb",),
    )


def summed(
    results: Sequence[Mapping[str, Any]], plan: Mapping[str, Any], dbs: Sequence[int], libraries: int
) -> dict[str, Any]:
    """Return what the metadata of the redis component says of the keys that tasks have read, whatever the engine."""
    types: Counter[str] = Counter()
    for result in results:
        types.update(result["types"])
    keys = sum(result["keys"] for result in results)
    return {
        "keys": keys,
        "gone": sum(result["gone"] for result in results),
        "types": dict(sorted(types.items())),
        "databases": list(dbs),
        "functions": libraries,
        "match": plan["match"],
        "chunk_keys": plan["chunk_keys"],
        "summary": count(keys, "key") + (f", {count(libraries, 'function')}" if libraries else ""),
        "part_keys": [part["keys"] for result in results for part in result["parts"]],
        "rdb_versions": sorted({version for result in results for version in result["rdb_versions"]}),
    }


def _merge(libraries: dict[str, bytes], found: Sequence[Library]) -> None:
    for name, code in found:
        if libraries.setdefault(name, code) != code:
            raise IncompleteError(
                f"reading the function library {name!r}", "shards hold different code under this name",
                "Load the same version on every primary (FUNCTION LOAD REPLACE), then take it again.",
            )  # fmt: skip


def _held(router: Router, target: Target) -> int:
    held = parse_info(router.wire(target.seeds[0]).call("INFO", "keyspace"))
    return sum(int(value.split(",")[0].partition("=")[2]) for name, value in held.items() if name.startswith("db"))
