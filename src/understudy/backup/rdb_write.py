"""Have servers that stand still write what they hold as RDB files of a set, `rdb/shard-NNN.rdb`, one a shard.

A file holds the shard's own slots and nothing else, keys whose time is over included, with idle time or frequency
where the server's `maxmemory-policy` keeps them. It is written before any key is read: reading is a use.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from understudy.backup.durable import sync
from understudy.backup.set import FileEntry
from understudy.errors import RefusedError, ServerSaidError, UsageError
from understudy.lab.complaint import complaint
from understudy.pages.figures import count
from understudy.progress import Progress, stage
from understudy.valkey.discovery import parse_info
from understudy.valkey.slots import as_ranges, key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire

Result = TypeVar("Result")
FOLDER = "rdb"
MAGIC = re.compile(rb"(?:REDIS|VALKEY)(\d{3,4})")
HEAD_BYTES = 16
_WITHIN_S = 24 * 3600.0
_LOOK_EVERY_S = 0.1
_CHUNK_BYTES = 1 << 20
_UNLINK_AT_ONCE = 1000


def refuse_unfit(formats: Collection[str], engine: str, match: str | None) -> None:
    """Refuse RDB files where none can be had: they come from copies of the primaries, and are whole.

    Raises:
        UsageError: keys are to be read by `scan`, or only some of them.
    """
    if FOLDER not in formats:
        return
    doing = "choosing the format of the set (--format, BACKUP_FORMAT)"
    if engine == "scan":
        raise UsageError(
            doing, "only a copy of a primary writes an RDB file, and the engine scan makes none",
            "Add --engine replica (BACKUP_ENGINE), or take lines: --format jsonl.",
        )  # fmt: skip
    if match:
        raise UsageError(
            doing, f"an RDB file holds every key, and only those that match {match!r} are to be read",
            "Take lines: --format jsonl. Or back up everything (without --match and BACKUP_MATCH) and restore a part: "
            "understudy restore --match.",
        )  # fmt: skip


@dataclass(frozen=True)
class RdbFile:
    """What the metadata says of one of them.

    Attributes:
        path: inside the set, before encryption.
        keys: in it, all databases together.
        databases: that hold keys.
        slots: the shard's, as ranges; None outside of a cluster.
        memory_bytes: what the server that wrote it took, which is about what one that loads it will take.
        policy: its `maxmemory-policy`: whether idle time or frequency is in the file.
    """

    path: str
    keys: int
    databases: list[int]
    slots: list[str] | None
    memory_bytes: int
    policy: str

    def as_data(self) -> dict[str, Any]:
        """Return it as it stands in the metadata."""
        return asdict(self)


@dataclass(frozen=True)
class Written:
    """One of them as it lies there: its entry in the set, what is told of it, and its RDB version."""

    entry: FileEntry
    told: RdbFile
    version: int


def write_files(
    copies: Sequence[tuple[Target, frozenset[int] | None, bool]], into: Path, progress: Progress
) -> list[Written]:
    """Write one file a server below `into`. Each is a target, its slots, and whether it holds keys of no others.

    Every server is of this machine, nobody else writes to it, and it stands still; keys of slots that are not its own
    are deleted from it first.

    Raises:
        RefusedError: a server could not write, for want of room for example; `why` is its own reason.
    """
    (into / FOLDER).mkdir(parents=True, mode=0o700, exist_ok=True)
    with stage(progress, "Looking at the copies", None, "keys"):
        told = _side_by_side(
            _account, [(number, *one) for number, one in enumerate(copies)], lambda: progress.advance(0)
        )
    with stage(progress, "Writing RDB files", None, "bytes"):
        written = _save([target for target, _, _ in copies], progress)
        for place, file in zip(written, told, strict=True):
            shutil.move(place, into / file.path)
    with (
        stage(progress, "Adding up RDB files", sum((into / one.path).stat().st_size for one in told), "bytes"),
        ThreadPoolExecutor(2) as pool,
    ):
        return [*pool.map(lambda file: _entry(into, file, progress), told)]


def counted(written: Sequence[Written], beside_lines: bool, libraries: int) -> dict[str, Any]:
    """Return what the metadata says of the files; and, where the set has no lines, of the keys in them."""
    account: dict[str, Any] = {"rdb": [one.told.as_data() for one in written]}
    if beside_lines:
        return account
    keys = sum(one.told.keys for one in written)
    return account | {
        "keys": keys,
        "rdb_versions": sorted({one.version for one in written}),
        "summary": count(keys, "key") + (f", {count(libraries, 'function')}" if libraries else ""),
    }


def _account(number: int, target: Target, slots: frozenset[int] | None, alone: bool) -> RdbFile:
    with Wire(target.seeds[0], target, _WITHIN_S) as wire:
        if slots is not None and not alone:
            for db in _keyspace(wire):
                wire.call("SELECT", db)
                _drop_others(wire, slots)
        keyspace = _keyspace(wire)
        memory = parse_info(wire.call("INFO", "memory"))
    return RdbFile(
        f"{FOLDER}/shard-{number:03d}.rdb", sum(keyspace.values()), sorted(keyspace) or [0],
        None if slots is None else as_ranges(slots), int(memory.get("used_memory", 0)),
        memory.get("maxmemory_policy", ""),
    )  # fmt: skip


def _keyspace(wire: Wire) -> dict[int, int]:
    """Return how many keys each database holds, where it holds any."""
    rows = parse_info(wire.call("INFO", "keyspace")).items()  # "db0": "keys=3,expires=0,…"
    return {int(name[2:]): int(text.split(",")[0].partition("=")[2]) for name, text in rows if name.startswith("db")}


def _drop_others(wire: Wire, slots: frozenset[int]) -> None:
    """Delete keys of slots that are another shard's: a source keeps them for a while after they have moved."""
    for names in _names(wire):
        others = [name for name in names if key_slot(name) not in slots]
        for start in range(0, len(others), _UNLINK_AT_ONCE):
            wire.call("UNLINK", *others[start : start + _UNLINK_AT_ONCE])


def _names(wire: Wire) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        cursor, names = wire.call("SCAN", cursor, "COUNT", 10_000)
        yield names
        if cursor == b"0":
            return


def _save(targets: Sequence[Target], progress: Progress) -> list[Path]:
    """Have all of them write side by side; return where their files are.

    SAVE, not BGSAVE: nobody waits for these servers, and a fork could fail for want of memory.
    """
    places = [_place(target) for target in targets]
    seen = 0

    def tell() -> None:
        nonlocal seen
        now = sum(_grown(place) for place in places)
        progress.advance(max(0, now - seen))
        seen = max(seen, now)

    _side_by_side(_save_one, [*zip(targets, places, strict=True)], tell)
    return places


def _save_one(target: Target, place: Path) -> None:
    try:
        with Wire(target.seeds[0], target, _WITHIN_S) as wire:
            wire.call("SAVE")
    except ServerSaidError as error:
        why = complaint(place.parent / "server.log") if (place.parent / "server.log").is_file() else error.why
        raise RefusedError(
            f"writing an RDB file in {place.parent}", f"the server could not: {why}",
            "Free some space there, or use --format jsonl.",
        ) from error  # fmt: skip


def _side_by_side(
    act: Callable[..., Result], items: Sequence[tuple[Any, ...]], tell: Callable[[], None]
) -> list[Result]:
    """Do it for every item, each in a thread of its own, and tell how far that is; return the results in order.

    The threads only wait for servers: where `tell` ends the work, they end with those.
    """
    doing: list[Future[Result]] = []

    def one(item: tuple[Any, ...], done: Future[Result]) -> None:
        try:
            done.set_result(act(*item))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            done.set_exception(error)

    for item in items:
        doing.append(Future())
        threading.Thread(target=one, args=(item, doing[-1]), daemon=True).start()
    while wait(doing, _LOOK_EVERY_S).not_done:
        tell()
    tell()
    return [each.result() for each in doing]


def _place(target: Target) -> Path:
    """Return the file that a server writes."""
    with Wire(target.seeds[0], target) as wire:
        told = [wire.call("CONFIG", "GET", name)[1].decode() for name in ("dir", "dbfilename")]
    return Path(*told)


def _grown(place: Path) -> int:
    """Return how many bytes of a file are written so far: under another name until it is whole."""
    with contextlib.suppress(OSError, ValueError):  # between the two names there is none
        return max(one.stat().st_size for one in (*place.parent.glob("temp-*.rdb"), place) if one.exists())
    return 0


def _entry(into: Path, told: RdbFile, progress: Progress) -> Written:
    place, digest = into / told.path, hashlib.sha256()
    place.chmod(0o600)
    sync(place)
    with place.open("rb") as file:
        head = MAGIC.match(file.read(HEAD_BYTES))
        file.seek(0)
        while data := file.read(_CHUNK_BYTES):
            digest.update(data)
            progress.advance(len(data))
    if head is None:
        raise RefusedError(f"reading {place}", "what the server wrote is no RDB file", "Use --format jsonl.")
    return Written(FileEntry(told.path, place.stat().st_size, digest.hexdigest()), told, int(head[1]))
