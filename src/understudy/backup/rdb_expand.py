"""A set whose keys are in RDB files, as one with parts: a scratch server loads each file, and its keys become lines.

One file after the other, so that no more than one shard is in memory. Memory and disk are looked at first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.backup.check import check_sums
from understudy.backup.component import Taken
from understudy.backup.frozen import Frozen, read_frozen
from understudy.backup.functions import FUNCTIONS
from understudy.backup.rdb_write import FOLDER, MAGIC
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, sums
from understudy.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from understudy.lab.memory import available_bytes
from understudy.lab.scratch import Scratch, ScratchServer
from understudy.pages.figures import count
from understudy.progress import Progress, stage
from understudy.valkey.router import Router

RDB = "rdb"  # in `requires`
_CHUNK_KEYS = 100_000
_SLICE_BYTES = 64 << 20
_LINE_BYTES = 130  # of a line beside its payload, and then some
_MARGIN_BYTES = 64 << 20
_POLICIES = {
    f"{of}-{by}" for of in ("allkeys", "volatile") for by in ("lru", "lfu", "random")
} | {"volatile-ttl", "noeviction"}  # fmt: skip
_HINT = "Use another set, or name the server that wrote it in UNDERSTUDY_SERVER."


def is_rdb_only(backup: BackupSet) -> bool:
    """Tell whether a set's keys are in RDB files and in no part."""
    return RDB in backup.metadata.requires


def rdb_files(backup: BackupSet) -> list[tuple[FileEntry, Mapping[str, Any]]]:
    """Return the RDB files of a set with what is recorded of each; those of a set that has lines as well, too.

    Raises:
        IntegrityError: files and record do not fit.
    """
    recorded = backup.metadata.components.get("redis", {}).get("rdb", [])
    entries = {entry.path: entry for entry in backup.metadata.files}
    try:
        found = [(entries[one["path"]], one) for one in recorded]
        if any(type(one["keys"]) is not int or one["keys"] < 0 for one in recorded):
            raise ValueError("a number of keys is none")
        if is_rdb_only(backup) and not found:
            raise ValueError("it names none")
        named = sorted(one["path"] for one in recorded)
        if named != sorted(path for path in entries if path.startswith(f"{FOLDER}/")):
            raise ValueError("it names others than there are")
        if is_rdb_only(backup) and sum(one["keys"] for one in recorded) != backup.metadata.keys:
            raise ValueError("their keys do not add up to those of the set")
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"reading {backup.metadata.id}", f"what it says of its RDB files is damaged ({error})", "Use another set."
        ) from error
    return found


@contextlib.contextmanager
def expanded(
    backup: BackupSet,
    local: LocalRepository,
    progress: Progress,
    *,
    components: Collection[str] = (),
    match: str | None = None,
) -> Iterator[BackupSet]:
    """Give a set with its keys in parts: itself, or (where they are in RDB files) a copy beside the local sets.

    The copy is removed afterwards. `components` are those that are wanted: without redis nothing is loaded. `match`
    takes only the keys that match a glob into the copy.

    Raises:
        IntegrityError: the set is damaged, or no server of ours can read it; `why` is the server's own reason.
        RefusedError: there is not enough memory or disk, or the set is still encrypted.
        UsageError: there is no server to read it with.
    """
    if not is_rdb_only(backup) or (components and "redis" not in components):
        yield backup
        return
    if backup.metadata.encryption is not None:
        backup.parts()  # it says what is missing
    check_sums(backup, progress)
    with local.scratch("load") as place, contextlib.ExitStack() as stack:
        into = place / "set"
        into.mkdir(mode=0o700)
        _refuse_without_room(backup, place)
        try:
            scratch = stack.enter_context(Scratch(place))
        except NotFoundError as error:
            raise UsageError(
                f"reading {backup.metadata.id}", "its keys are in RDB files, which it takes a server to read, and "
                f"{error.why}", error.hint,
            ) from error  # fmt: skip
        entries, told = _with_lines(backup, scratch, place, into, match, progress)
        stack.close()
        yield _written(backup, into, entries, told)


def _refuse_without_room(backup: BackupSet, place: Path) -> None:
    """Refuse what would not fit: one shard's memory, the lines of all."""
    found = rdb_files(backup)
    doing = f"loading the RDB files of {backup.metadata.id}"
    needed = sum(entry.size * 4 // 3 + one["keys"] * _LINE_BYTES for entry, one in found)
    if needed > (free := shutil.disk_usage(place).free):
        raise RefusedError(
            doing, f"their lines need about {needed:,} bytes, and {free:,} are free in {place.parent}",
            "Free some space, or name another directory with --out-dir (BACKUP_DIR).",
        )  # fmt: skip
    sizes = [one["memory_bytes"] for _, one in found if type(one.get("memory_bytes")) is int]
    needed, there = max(sizes, default=0) + _MARGIN_BYTES, available_bytes()
    if there is not None and needed > there:
        raise RefusedError(
            doing, f"a server needs about {needed:,} bytes of memory for it, and {there:,} are free",
            "Use a machine with more memory, or a set with lines (--format jsonl or both).",
        )  # fmt: skip


def _with_lines(
    backup: BackupSet, scratch: Scratch, place: Path, into: Path, match: str | None, progress: Progress
) -> tuple[list[FileEntry], list[Taken]]:
    """Write the lines of one file after the other below `into`; return their entries, and what was taken of each."""
    parts: list[FileEntry] = []
    others: list[FileEntry] = []
    told: list[Taken] = []
    (into / "keys").mkdir(mode=0o700)
    for number, (entry, recorded) in enumerate(rdb_files(backup)):
        work, aside = place / f"work-{number}", place / f"aside-{number}"
        work.mkdir(mode=0o700)
        aside.mkdir(mode=0o700)
        with _loaded(backup, entry, recorded, scratch, number, progress) as server:
            plan = {
                "chunk_keys": _CHUNK_KEYS,
                "match": match,
                "compress": False,
                "shard": number,
                "slice_bytes": _SLICE_BYTES,
            }
            taken = read_frozen([Frozen(server.target)], plan, work, aside, progress, {})
            _compare_counts(taken, recorded, entry, server, match, progress)
        told.append(taken)
        for part in taken.parts:
            path = f"keys/keys-part-{len(parts):05d}.jsonl"
            (work / part.file).rename(into / path)
            parts.append(FileEntry(path, part.size, part.sha256, part.keys))
        for other in taken.files:
            if other.path != FUNCTIONS:  # the set has them of all shards
                (into / other.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                (aside / other.path).rename(into / other.path)
                others.append(other)
    return [*parts, *others], told


@contextlib.contextmanager
def _loaded(
    backup: BackupSet, entry: FileEntry, recorded: Mapping[str, Any], scratch: Scratch, number: int, progress: Progress
) -> Iterator[ScratchServer]:
    """Give a server that holds what a file holds, keys whose time is over included.

    A server that starts as a replica, of a port where nobody listens, keeps those; then it is made a primary.
    """
    source = (backup.directory / entry.path).resolve()
    with source.open("rb") as file:
        if not MAGIC.match(file.read(16)):
            raise IntegrityError(f"loading {entry.path}", "it is no RDB file of Valkey or Redis", "Use another set.")
    lines = ["replicaof 127.0.0.1 1"]
    if (policy := str(recorded.get("policy"))) in _POLICIES:  # under another, idle times or frequencies are lost
        lines.append(f"maxmemory-policy {policy}")
    with stage(progress, f"Loading {entry.path}", entry.size, "bytes"):
        server = scratch.server(
            f"shard-{number:03d}", lines=lines, seed=lambda folder: (folder / "dump.rdb").symlink_to(source)
        )
        try:
            server.await_loaded(progress)
        except IntegrityError as error:
            raise IntegrityError(f"loading {entry.path} of {backup.metadata.id}", error.why, _HINT) from error
    try:
        with contextlib.closing(Router(server.target)) as router:
            held = _held(router)
            if held != recorded["keys"]:
                raise IntegrityError(
                    f"loading {entry.path} of {backup.metadata.id}",
                    f"it holds {held:,} keys, and the metadata says {recorded['keys']:,}", "Use another set.",
                )  # fmt: skip
            router.wire(server.address).call("REPLICAOF", "NO", "ONE")
        yield server
    finally:
        server.stop()


def _held(router: Router) -> int:
    text: bytes = router.wire(router.target.seeds[0]).call("INFO", "keyspace")
    return sum(int(number) for number in re.findall(rb"keys=(\d+)", text))


def _compare_counts(
    taken: Taken, recorded: Mapping[str, Any], entry: FileEntry, server: ScratchServer, match: str | None,
    progress: Progress,
) -> None:  # fmt: skip
    """See to it that what is missing is only what a server cannot show."""
    missing = recorded["keys"] - taken.metadata["keys"]
    if match or missing <= 0:
        return
    if server.target.import_source:
        raise IntegrityError(f"reading {entry.path}", f"{count(missing, 'key')} of it could not be read", _HINT)
    progress.say(
        f"Left out: {count(missing, 'key')} of {entry.path} whose time is over. A Valkey of 8.1 or newer reads them."
    )


def _written(backup: BackupSet, into: Path, entries: list[FileEntry], told: list[Taken]) -> BackupSet:
    """Put the set's other files beside the lines; write sums and metadata."""
    loaded = {entry.path for entry, _ in rdb_files(backup)}
    for entry in backup.metadata.files:
        if entry.path not in loaded and entry.path != SUMS:
            _put(backup.directory / entry.path, into / entry.path)
            entries.append(entry)
    entries.sort(key=lambda entry: entry.keys is None)
    text = sums(tuple(entries))
    (into / SUMS).write_bytes(text)
    listed = (*entries, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest()))
    recorded = {name: value for name, value in backup.metadata.components["redis"].items() if name != "rdb"}
    metadata = dataclasses.replace(
        backup.metadata,
        files=listed,
        components={**backup.metadata.components, "redis": recorded | _account(told)},
        requires=sorted({one for each in told for one in each.requires}),
    )
    (into / METADATA).write_bytes(metadata.encode())
    return BackupSet(into, metadata)


def _account(told: list[Taken]) -> dict[str, Any]:
    types: Counter[str] = Counter()
    for one in told:
        types.update(one.metadata["types"])
    return {
        "keys": sum(one.metadata["keys"] for one in told),
        "types": dict(sorted(types.items())),
        "databases": sorted({db for one in told for db in one.metadata["databases"]}),
        "part_keys": [keys for one in told for keys in one.metadata["part_keys"]],
        "rdb_versions": sorted({version for one in told for version in one.metadata["rdb_versions"]}),
    }


def _put(source: Path, place: Path) -> None:
    """Have a file in two directories; a copy, where they are on different disks or it is somebody else's."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, place)
