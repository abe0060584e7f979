"""An archive made by hand, object by object as docs/archive.md describes them: any history, with no time passing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isal import igzip

from understudy.backup.age import encrypt_file
from understudy.backup.pitr.objects import LocalObjects
from understudy.backup.pitr.stream import Base, ChunkName, Gap, Head, Slots, StreamInfo
from understudy.progress import Silent
from understudy.valkey.wire import pack

Commands = Iterable[Sequence[bytes | str | int]]


def second(at: int, *commands: Sequence[bytes | str | int]) -> bytes:
    """What an append-only file says of one second."""
    return b"#TS:%d\r\n" % at + b"".join(pack(command) for command in commands)


@dataclass
class MadeStream:
    """One stream. `begins_ms` is the moment of its base; pieces are put behind each other."""

    folder: Path
    begins_ms: int
    rdb: bytes
    mode: str = "standalone"
    node: str = "127.0.0.1:7001"
    gap: tuple[int | None, str] | None = None
    recipients: Sequence[Any] = ()
    replid: str = "a" * 40
    offset: int = 0
    previous: str | None = None
    seq: int = 0
    until_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.until_ms = self.begins_ms
        stored = self._stored(self.rdb)
        base = f"base.rdb.gz{self._age}"
        (self.folder / base).write_bytes(stored)
        name, _, profile = self.folder.parent.name.rpartition("-")
        info = StreamInfo(
            self.folder.name, name, profile, self.node, self.replid, self.offset, self.mode, "valkey 9.1.2", 16,
            Base(base, len(stored), hashlib.sha256(stored).hexdigest(), len(self.rdb)), self.begins_ms,
            {"method": "age", "recipients": [], "passphrase": False} if self.recipients else None,
            self.previous, Gap(*self.gap) if self.gap else None,
        )  # fmt: skip
        (self.folder / "stream.json").write_bytes(info.encode())
        if self.mode != "oss-cluster":
            self.serves(self.begins_ms, None)

    @property
    def _age(self) -> str:
        return ".age" if self.recipients else ""

    def _stored(self, plain: bytes) -> bytes:
        if not self.recipients:
            return bytes(igzip.compress(plain))
        one, two = self.folder / "plain", self.folder / "locked"
        one.write_bytes(plain)
        encrypt_file(one, two, self.recipients, Silent())
        stored = two.read_bytes()
        one.unlink()
        two.unlink()
        return stored

    def serves(self, from_ms: int, slots: Iterable[int] | None, moving: Iterable[int] = ()) -> None:
        """Say what the shard serves from a moment on."""
        found = Slots(from_ms, None if slots is None else frozenset(slots), frozenset(moving))
        (self.folder / found.path).write_bytes(found.encode())

    def piece(self, plain: bytes, until_ms: int, from_ms: int | None = None) -> Path:
        """Put a piece behind the others; it vouches up to a moment, without a hole if `from_ms` is not given."""
        stored = self._stored(plain)
        sha256 = hashlib.sha256(stored).hexdigest()[:16]
        since = self.until_ms if from_ms is None else from_ms
        name = ChunkName(self.seq, since, until_ms, len(plain), sha256, bool(self.recipients))
        self.seq += 1
        self.until_ms = until_ms
        (self.folder / str(name)).write_bytes(stored)
        self.head(until_ms)
        return self.folder / str(name)

    def head(self, until_ms: int) -> None:
        """Say how far it is vouched for."""
        (self.folder / "head.json").write_bytes(Head(until_ms, self.seq, until_ms).encode())


@dataclass(frozen=True)
class MadeArchive:
    """An archive in a directory of sets."""

    directory: Path
    name: str = "redis-backup-local"

    @property
    def objects(self) -> LocalObjects:
        """Its objects."""
        return LocalObjects(self.directory)

    @property
    def root(self) -> str:
        """Its folder."""
        return f"archive/{self.name}"

    def stream(self, stream_id: str, begins_ms: int, rdb: bytes, **more: Any) -> MadeStream:
        """Begin a stream."""
        return MadeStream(self.directory / self.root / stream_id, begins_ms, rdb, **more)
