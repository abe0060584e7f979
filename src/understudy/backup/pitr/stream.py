"""What the objects of an archive are called and what stands in them; specified in docs/archive.md.

A stream is one shard's base, an RDB file, and the pieces of the append-only file that follow it, without a break.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from understudy.errors import IntegrityError, UsageError
from understudy.valkey.slots import as_ranges, from_ranges
from understudy.valkey.topology import SLOTS

FORMAT = "understudy-archive"
VERSION = 1
ROOT = "archive"
STREAM, HEAD, KEY = "stream.json", "head.json", "key.age"
DEFAULT_NAME = "redis-backup"
MOST_DOCUMENT_BYTES = 1 << 20
_MOST_MS = 10**14  # the year 5138: no moment of ours is behind it, and none before it breaks a calendar
_MOST_DATABASES = 1_000_000
_HINT = "Seconds of other streams can still be restored: `understudy list` shows them."
_ID = re.compile(r"(?P<time>\d{8}T\d{6}Z)-(?P<random>[0-9a-f]{4})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PROFILE = re.compile(r"[A-Za-z0-9._]+")
_BASE = re.compile(r"base\.rdb\.gz(\.age)?")
_SLOTS = re.compile(r"slots-(\d{1,14})\.json")
_RANGE = re.compile(r"\d{1,5}(-\d{1,5})?", re.ASCII)
_CHUNK = re.compile(
    r"incr-(?P<seq>\d{8,12})-(?P<from_ms>\d{1,14})-(?P<until_ms>\d{1,14})-(?P<size>\d{1,15})-(?P<sha256>[0-9a-f]{16})"
    r"\.aof\.gz(?P<age>\.age)?"
)


def root_of(name: str | None, profile: str) -> str:
    """Return the folder of an archive in its repository. Raises `UsageError` for a name that cannot be one."""
    name = name or DEFAULT_NAME
    if not _NAME.fullmatch(name) or not _PROFILE.fullmatch(profile):
        raise UsageError(
            f"naming the archive {f'{name}-{profile}'[:200]!r}",
            "letters, digits, dots, dashes and underscores may stand in it, and no dash in the profile",
            "Change BACKUP_NAME or ENV_PROFILE.",
        )
    return f"{ROOT}/{name}-{profile}"


def stream_id(at_ms: int) -> str:
    """Return a fresh id, `<UTC time>-<4 hex>`; later ones sort later."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def is_archive(folder: str) -> bool:
    """Tell whether a folder's name is that of an archive, `<name>-<profile>`."""
    name, _, profile = folder.rpartition("-")
    return bool(_NAME.fullmatch(name) and _PROFILE.fullmatch(profile))


def is_stream_id(text: str) -> bool:
    """Tell whether a folder's name is that of a stream."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Gap:
    """Why nothing leads up to a stream's beginning, and from when on (ms; None: from the beginning of time)."""

    from_ms: int | None
    why: str


@dataclass(frozen=True)
class Base:
    """The object that a stream begins with: size and SHA-256 as it is stored, and its size as an RDB file."""

    path: str
    size: int
    sha256: str
    plain_size: int


@dataclass(frozen=True)
class StreamInfo:
    """What `stream.json` says. A stream exists when that does.

    Attributes:
        node: the primary that was followed when the stream began.
        replid, offset: where in that primary's replication stream that was, at least.
        server: the copy's name and version, which wrote base and pieces.
        databases: how many databases a server needs that loads it.
        encryption: how base and pieces are encrypted, as in a set's metadata; None: not at all.
        begins_ms: the moment from which on the stream can vouch for anything.
        previous: the stream that this one continues without a gap.
        gap: why there is no such stream, where something was archived before.
    """

    id: str
    name: str
    profile: str
    node: str
    replid: str
    offset: int
    mode: str
    server: str
    databases: int
    base: Base
    begins_ms: int
    encryption: Mapping[str, Any] | None = None
    previous: str | None = None
    gap: Gap | None = None
    tool: str = ""

    def encode(self) -> bytes:
        """Return the bytes of `stream.json`."""
        return _sealed({"format": FORMAT, "version": VERSION, **asdict(self)})

    @classmethod
    def decode(cls, data: bytes, where: str) -> StreamInfo:
        """Read `stream.json`.

        Raises:
            IntegrityError: it is damaged, not ours, or of a newer version of the format.
        """
        document = _opened(data, where)
        try:
            if document["format"] != FORMAT:
                raise ValueError("it is of another format")
            if document["version"] != VERSION:
                raise IntegrityError(
                    f"reading {where}", f"it is of version {document['version']}, and we read {VERSION}",
                    "Use a newer Understudy for it.",
                )  # fmt: skip
            base = Base(**{name: document["base"][name] for name in ("path", "size", "sha256", "plain_size")})
            found = cls(
                base=base,
                gap=Gap(document["gap"]["from_ms"], _harmless(str(document["gap"]["why"])))
                if document["gap"]
                else None,
                **{name: document[name] for name in _PLAIN},
            )
            _check(found)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"reading {where}", f"it is damaged ({error})", _HINT) from error
        return found


_PLAIN = (
    "id", "name", "profile", "node", "replid", "offset", "mode", "server", "databases", "begins_ms", "encryption",
    "previous", "tool",
)  # fmt: skip


def _check(info: StreamInfo) -> None:
    texts = (info.id, info.name, info.profile, info.node, info.replid, info.mode, info.server, info.tool)
    numbers = (info.offset, info.databases, info.begins_ms, info.base.size, info.base.plain_size)
    if not all(isinstance(one, str) for one in texts) or not is_stream_id(info.id):
        raise ValueError("a text is none")
    if not all(type(one) is int and one >= 0 for one in numbers):
        raise ValueError("a number is none")
    if info.begins_ms >= _MOST_MS or info.databases > _MOST_DATABASES:
        raise ValueError("a number is too large")
    if not isinstance(info.base.path, str) or not _BASE.fullmatch(info.base.path):
        raise ValueError("the base is called something else")
    if not isinstance(info.base.sha256, str) or not re.fullmatch("[0-9a-f]{64}", info.base.sha256):
        raise ValueError("the checksum of the base is none")
    if info.previous is not None and not (isinstance(info.previous, str) and is_stream_id(info.previous)):
        raise ValueError("the stream before is called something else")
    if info.gap and not (
        info.gap.from_ms is None or (type(info.gap.from_ms) is int and 0 <= info.gap.from_ms < _MOST_MS)
    ):
        raise ValueError("the gap begins nowhere")
    if info.encryption is not None and not isinstance(info.encryption, Mapping):
        raise ValueError("the encryption is none")


@dataclass(frozen=True)
class Slots:
    """What a shard served from a moment on (None: it is no cluster), and which slots came or went just then."""

    from_ms: int
    slots: frozenset[int] | None
    moving: frozenset[int] = field(default=frozenset())

    @property
    def path(self) -> str:
        """Return the object's name."""
        return f"slots-{self.from_ms}.json"

    def encode(self) -> bytes:
        """Return the object's bytes."""
        slots = None if self.slots is None else as_ranges(self.slots)
        return _sealed({"from_ms": self.from_ms, "slots": slots, "moving": as_ranges(self.moving)})

    @classmethod
    def decode(cls, data: bytes, where: str) -> Slots:
        """Read one. Raises `IntegrityError` where it is damaged."""
        document = _opened(data, where)
        try:
            ranges = [*(document["slots"] or ()), *document["moving"]]
            if not all(_RANGE.fullmatch(one) and int(one.rpartition("-")[2]) < SLOTS for one in ranges):
                raise ValueError("a slot is none")
            slots = None if document["slots"] is None else frozenset(from_ranges(document["slots"]))
            found = cls(int(document["from_ms"]), slots, frozenset(from_ranges(document["moving"])))
            if not 0 <= found.from_ms < _MOST_MS:
                raise ValueError("a moment is none")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"reading {where}", f"it is damaged ({error})", _HINT) from error
        return found


def slots_from_ms(path: str) -> int | None:
    """Return the moment in the name of a `slots-….json`; None where it is another object."""
    found = _SLOTS.fullmatch(path)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Head:
    """How far a stream is: what it vouches for behind its last chunk, and the number of the next one.

    `ended` says why nothing follows: the archiver was stopped, or another stream took over. `changes` is how many
    documents say what the shard served.
    """

    until_ms: int
    seq: int
    written_ms: int
    offset: int = 0
    lag_bytes: int = 0
    lag_ms: int = 0
    ended: str | None = None
    changes: int = 0

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return _sealed(asdict(self))

    @classmethod
    def decode(cls, data: bytes, where: str) -> Head:
        """Read one. Raises `IntegrityError` where it is damaged."""
        document = _opened(data, where)
        try:
            numbers = {
                name: int(document[name]) for name in ("until_ms", "seq", "written_ms", "offset", "lag_bytes", "lag_ms")
            }
            numbers["changes"] = int(document.get("changes", 0))
            if not all(0 <= number < 1 << 63 for number in numbers.values()) or numbers["until_ms"] >= _MOST_MS:
                raise ValueError("a number is none")
            return cls(**numbers, ended=None if document["ended"] is None else str(document["ended"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise IntegrityError(f"reading {where}", f"it is damaged ({error})", _HINT) from error


class ChunkName(NamedTuple):
    """A piece of the append-only file, and what its name says.

    It vouches for the moments in (from_ms, until_ms]; `size` bytes are in it, and `sha256` begins the checksum of the
    object as it is stored.
    """

    seq: int
    from_ms: int
    until_ms: int
    size: int
    sha256: str
    encrypted: bool = False

    def __str__(self) -> str:
        suffix = ".age" if self.encrypted else ""
        return f"incr-{self.seq:08d}-{self.from_ms}-{self.until_ms}-{self.size}-{self.sha256}.aof.gz{suffix}"

    @classmethod
    def parse(cls, text: str) -> ChunkName | None:
        """Read a name; None where the object is something else."""
        found = _CHUNK.fullmatch(text)
        if not found or int(found["from_ms"]) > int(found["until_ms"]):
            return None
        seq, from_ms, until_ms, size = (int(found[name]) for name in ("seq", "from_ms", "until_ms", "size"))
        name = cls(seq, from_ms, until_ms, size, found["sha256"], found["age"] is not None)
        return name if str(name) == text else None


def _harmless(text: str) -> str:
    """Return a text in one line, without what a terminal might act on."""
    return (text if text.isprintable() else repr(text))[:500]


def _sealed(document: dict[str, Any]) -> bytes:
    document["checksum"] = _checksum(document)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _opened(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
        if document.pop("checksum") != _checksum(document):
            raise ValueError("its checksum does not match")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"reading {where}", f"it is damaged ({error})", _HINT) from error
    return dict(document)


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
