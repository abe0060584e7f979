"""Servers of ours that load a base and the commands that followed it, and then stand still."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.backup.pitr.catalog import Stream
from understudy.backup.pitr.fetch import Fetched
from understudy.backup.pitr.windows import Part
from understudy.errors import ServerSaidError, UnreachableError
from understudy.progress import Progress, stage
from understudy.valkey.discovery import parse_info
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import Wire

if TYPE_CHECKING:
    from understudy.lab.scratch import ScratchServer

_AOF = "appendonly.aof"
_MANIFEST = f"file {_AOF}.1.base.rdb seq 1 type b\nfile {_AOF}.1.incr.aof seq 1 type i\n"
LINES = (
    *("appendonly yes", "appendfsync no", "aof-load-truncated no", "auto-aof-rewrite-percentage 0"),
    *(f'rename-command {name} ""' for name in ("REPLICAOF", "SLAVEOF", "MIGRATE", "FAILOVER", "MODULE")),
)
"""What such a server is configured with: an end that is torn is refused, not passed over, and so is what no primary
ever sends: an archive that somebody changed has it reach for no other server.
"""
_LOOK_EVERY_S = 0.1
_ANSWERS_WITHIN_S = 60.0  # a server that loads looks at its clients now and then


@dataclass(frozen=True)
class Shard:
    """A stream, the server that holds it as it was, and its share of the second."""

    stream: Stream
    server: ScratchServer
    part: Part
    bytes: int


def seeded(one: Fetched) -> Callable[[Path], None]:
    """Return what puts a stream's files where a server looks for them."""

    def seed(folder: Path) -> None:
        place = folder / "appendonlydir"
        place.mkdir(mode=0o700)
        one.base.rename(place / f"{_AOF}.1.base.rdb")
        one.increments.rename(place / f"{_AOF}.1.incr.aof")
        (place / f"{_AOF}.manifest").write_text(_MANIFEST)

    return seed


def load(shards: Sequence[Shard], progress: Progress) -> None:
    """Wait until every server has loaded; then the files may go. Raises `IntegrityError` where one refuses."""
    with stage(progress, "Loading", sum(shard.bytes for shard in shards), "bytes"):
        for shard in shards:
            done = 0
            while shard.server.alive and (loaded := _loaded(shard)) is not None:
                progress.advance(max(0, loaded - done))
                done = max(done, loaded)
                time.sleep(_LOOK_EVERY_S)
            shard.server.await_loaded(progress)
            progress.advance(max(0, shard.bytes - done))
            with contextlib.closing(shard.server.wire(_ANSWERS_WITHIN_S)) as wire:
                wire.call("CONFIG", "SET", "appendonly", "no")
            shutil.rmtree(shard.server.directory / "appendonlydir", ignore_errors=True)


def _loaded(shard: Shard) -> int | None:
    """Return how many bytes a server has loaded; None once it is through, or where it does not say."""
    server = shard.server
    plain = Target((server.address,), Mode.STANDALONE, password=server.password)
    try:
        with contextlib.closing(Wire(server.address, plain, _ANSWERS_WITHIN_S)) as wire:
            facts = parse_info(wire.call("INFO", "persistence"))
    except (ServerSaidError, UnreachableError):
        return None
    return int(facts.get("loading_loaded_bytes", 0)) if facts.get("loading") == "1" else None
