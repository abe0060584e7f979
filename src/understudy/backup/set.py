"""What a backup set is: its name, its metadata, and the rules by which a directory is one.

The format is specified in docs/backup-set.md. A set exists when its `metadata.json` does.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from understudy.errors import IntegrityError, NotFoundError, RefusedError, UsageError

FORMAT = "understudy-backup-set"
VERSION = 1
ENCRYPTED_VERSION = 2  # an old reader would find no keys in an encrypted set, and restore nothing with success
LATER_VERSION = 3  # a set that says what it `requires`: an old reader would miss the keys in it
BIG_INDEX = "slices/index-"
KNOWN = ("rdb", "slices")  # what we know of that: keys in RDB files, keys in slices
METADATA = "metadata.json"
SUMS = "SHA256SUMS"
MOST_METADATA_BYTES = 64 << 20
MOST_NAME = 64  # with a part's path behind it, it has to fit into the hundred bytes of a tar header
_MOST_KEYS = 1 << 50
_SECOND = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z")
_LATER_FIELDS: dict[str, type[Any]] = {
    "tier": str, "span_s": float, "missing": dict, "encryption": dict, "requires": list,
}  # fmt: skip
_ID = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<profile>[A-Za-z0-9._]+)"
    r"-(?P<time>\d{8}T\d{6}Z)-(?P<random>[0-9a-f]{4,16})"
)
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, order=True)
class SetId:
    """The name of a set, `<name>-<profile>-<UTC time>-<random>`; newer ones sort later.

    Of two sets of one second the random part decides: it begins with the milliseconds, whatever the sets are called.
    """

    created: datetime
    random: str = field(init=False, repr=False)
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "random", self.text.rpartition("-")[2])

    @classmethod
    def new(cls, name: str, profile: str, now: datetime) -> SetId:
        """Return a fresh id. Raises `UsageError` for a name or profile that cannot stand in a file name."""
        # the random part begins with the time within the second, so that names sort as the sets were made
        random = (now.microsecond // 1000 << 6) | secrets.randbelow(1 << 6)
        text = f"{name}-{profile}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{random:04x}"
        try:
            if len(text) > MOST_NAME:
                raise NotFoundError("", "")
            made = cls.parse(text)
            if made.profile != profile:  # a dash in it: it would be read back as a part of the name
                raise NotFoundError("", "")
            return made
        except NotFoundError as error:
            raise UsageError(
                f"naming the set {text[:200]!r}",
                f"at most {MOST_NAME} letters, digits, dots, dashes and underscores may stand in it, and no dash in "
                "the profile",
                "Change ENV_PROFILE or the name.",
            ) from error  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> SetId:
        """Read an id. Raises `NotFoundError` where the text is none."""
        if match := _ID.fullmatch(text):
            try:
                created = datetime.strptime(match["time"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            except ValueError:
                pass
            else:
                return cls(created, text)
        raise NotFoundError(f"looking for {text[:200]!r}", "that is no set's name", "`understudy list` shows the sets.")

    @property
    def name(self) -> str:
        """Return the first part; `safety` is what was taken before a restore overwrote something."""
        match = _ID.fullmatch(self.text)
        return match["name"] if match else ""

    @property
    def profile(self) -> str:
        """Return the profile that the set was made under."""
        match = _ID.fullmatch(self.text)
        return match["profile"] if match else ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class FileEntry:
    """One file of a set: its path inside the set, size in bytes, SHA-256, and number of keys if it holds keys.

    Of an encrypted file, path, size and SHA-256 are the encrypted one's; `plain_size` is what it was before.
    """

    path: str
    size: int
    sha256: str
    keys: int | None = None
    plain_size: int | None = None


@dataclass(frozen=True)
class Metadata:
    """What `metadata.json` says. `components` maps a component's name to what it recorded.

    `tier` is the schedule's (None: taken by hand), `span_s` the seconds from the first component's begin to the last
    one's end, `missing` names optional components that failed, and why; `encryption` says how files are encrypted.
    `requires` names where keys are that are in no part: a reader that does not know one of them must not read the set.
    """

    id: SetId
    profile: str
    finished_at: datetime
    tool: str
    components: Mapping[str, Mapping[str, Any]]
    files: tuple[FileEntry, ...] = field(default=())
    tier: str | None = None
    span_s: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    encryption: Mapping[str, Any] | None = None
    requires: Sequence[str] = ()

    @property
    def version(self) -> int:
        """Return the lowest version of the format that tells all of it."""
        if self.requires:
            return LATER_VERSION
        return VERSION if self.encryption is None else ENCRYPTED_VERSION

    def encode(self) -> bytes:
        """Return the bytes of `metadata.json`; the last field is the checksum of all others."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "version": self.version,
            "id": str(self.id),
            "profile": self.profile,
            "created_at": self.id.created.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "tool": self.tool,
            "components": self.components,
            "files": [
                {name: value for name, value in vars(entry).items() if value is not None} for entry in self.files
            ],
        }
        for name in _LATER_FIELDS:
            if value := getattr(self, name):
                document[name] = value
        document["checksum"] = _checksum(document)
        return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"

    @classmethod
    def decode(cls, data: bytes, where: str) -> Metadata:
        """Read `metadata.json`.

        Raises:
            IntegrityError: it is damaged, not ours, or of a newer version of the format.
        """
        try:
            document = orjson.loads(data)
            if document["format"] != FORMAT:
                raise ValueError("it is of another format")
            version = document["version"]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"reading {where}", f"it is no metadata of a backup set ({error})",
                "Use another set (`understudy list`); `understudy check SET` tells whether it is whole.",
            ) from error  # fmt: skip
        if version not in (VERSION, ENCRYPTED_VERSION, LATER_VERSION):
            raise IntegrityError(
                f"reading {where}", f"it is of format version {version}, and we read up to {LATER_VERSION}",
                "Use a newer Understudy for it.",
            )  # fmt: skip
        try:
            if document.pop("checksum") != _checksum(document):
                raise ValueError("its checksum does not match")
            files = tuple(_entry(row) for row in document["files"])
            if len({entry.path for entry in files}) != len(files):
                raise ValueError("it lists a file twice")
            if version < LATER_VERSION and (version == ENCRYPTED_VERSION) != ("encryption" in document):
                raise ValueError("version 2 is for encrypted sets")
            if (version == LATER_VERSION) != bool(document.get("requires")):
                raise ValueError("version 3 is for sets that say what they require")
            if unknown := [one for one in document.get("requires", ()) if one not in KNOWN]:
                raise IntegrityError(
                    f"reading {where}", f"keys of it are kept in a way that we do not know: {str(unknown[0])[:80]!r}",
                    "Use a newer Understudy for it.",
                )  # fmt: skip
            return cls(
                SetId.parse(document["id"]), str(document["profile"]),
                datetime.fromisoformat(document["finished_at"]), str(document["tool"]),
                _components(document["components"]), files,
                **{name: _later(name, document[name]) for name in _LATER_FIELDS if name in document},
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, NotFoundError) as error:
            raise IntegrityError(f"reading {where}", f"it is damaged ({error})", "Use another set.") from error

    @property
    def keys(self) -> int:
        """Return how many keys the set holds."""
        if "rdb" in self.requires:  # they are in no part: what was counted when it was taken
            return int(self.components.get("redis", {}).get("keys", 0))
        return sum(entry.keys or 0 for entry in self.files)

    @property
    def called(self) -> str:
        """Return what to call it to somebody: its id; of a second of an archive, which is no set for long, that."""
        at = self.components.get("redis", {}).get("at")
        return f"the archive at {at}" if isinstance(at, str) and _SECOND.fullmatch(at) else str(self.id)

    @property
    def size(self) -> int:
        """Return the bytes of all files together."""
        return sum(entry.size for entry in self.files)

    @property
    def plain_size(self) -> int:
        """Return the bytes of all files together, decrypted."""
        return sum(entry.size if entry.plain_size is None else entry.plain_size for entry in self.files)

    def with_files(self, files: tuple[FileEntry, ...]) -> Metadata:
        """Return the same metadata with these files."""
        return replace(self, files=files)

    def decrypted(self, files: tuple[FileEntry, ...]) -> Metadata:
        """Return the metadata of the same set with these plain files."""
        return replace(self, files=files, encryption=None)


def _entry(row: Mapping[str, Any]) -> FileEntry:
    path, size, sha256, keys, plain = row["path"], row["size"], row["sha256"], row.get("keys"), row.get("plain_size")
    if not isinstance(path, str) or not safe_path(path):
        raise ValueError("a file's path leaves the set")
    if not isinstance(size, int) or size < 0 or not isinstance(sha256, str):
        raise ValueError("a file's size or checksum is none")
    if keys is not None and (type(keys) is not int or not 0 <= keys < _MOST_KEYS):
        raise ValueError("a number of keys is none")
    if plain is not None and (type(plain) is not int or plain < 0):
        raise ValueError("a file's plain size is none")
    return FileEntry(path, size, sha256, keys, plain)


def _components(document: Any) -> dict[str, dict[str, Any]]:
    """Check the fields that readers rely on; a set of nothing is none."""
    if not document:
        raise ValueError("it names no component")
    for name, section in document.items():
        databases, match = section.get("databases", []) if name == "redis" else [], section.get("match")
        if not isinstance(databases, list) or any(type(db) is not int or not 0 <= db < 1 << 31 for db in databases):
            raise ValueError("a component's databases are no numbers")
        if not isinstance(match, str | None):
            raise ValueError("a component's match is no text")
        types = section.get("types", {}) if name == "redis" else {}
        if name == "redis" and type(section.get("keys", 0)) is not int:
            raise ValueError("a component's number of keys is none")
        if not isinstance(types, dict) or not all(type(number) is int for number in types.values()):
            raise ValueError("a component's keys by type are no numbers")
    return dict(document)


def _later(name: str, value: Any) -> Any:
    """Check a field that sets have only where it says something."""
    if not isinstance(value, _LATER_FIELDS[name]):
        raise ValueError(f"{name} is of the wrong kind")
    if name == "missing" and not all(isinstance(why, str) for why in value.values()):
        raise ValueError("the reason why a component is missing is no text")
    return value


def lost_file(directory: Path, metadata: Metadata) -> str | None:
    """Return the first file of a set that does not lie in its directory with its size; no file is read."""
    for entry in metadata.files:
        try:
            there = (directory / entry.path).lstat().st_size == entry.size
        except OSError:
            there = False
        if not there:
            return entry.path
    return None


def safe_path(path: str) -> bool:
    """Tell whether a path may stand inside a set: relative, plain names, no way out."""
    return bool(_PATH.fullmatch(path)) and ".." not in PurePosixPath(path).parts and path != METADATA


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True)
class BackupSet:
    """A set that lies in a directory: where, and what its metadata says."""

    directory: Path
    metadata: Metadata

    @classmethod
    def open(cls, directory: Path) -> BackupSet:
        """Read a set's metadata; its files are not looked at.

        Raises:
            NotFoundError: there is no set in this directory.
            IntegrityError: its metadata is damaged, or missing where its sums are there.
        """
        place = directory / METADATA
        try:
            if place.exists() and not stat.S_ISREG(place.lstat().st_mode):
                raise IntegrityError(f"reading {place}", "it is no plain file", "Use another set.")
            with place.open("rb") as file:
                data = file.read(MOST_METADATA_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            if (directory / SUMS).is_file():
                raise IntegrityError(
                    f"opening the set in {directory}", f"its {METADATA} is missing: it was deleted, by whomever",
                    "Use another set, or its archive or copy if you have one.",
                ) from None  # fmt: skip
            raise NotFoundError(
                f"opening the set in {directory}", f"there is no {METADATA}", "`understudy list` shows the sets."
            ) from None
        except OSError as error:
            raise NotFoundError(f"opening the set in {directory}", error.strerror or str(error)) from error
        if len(data) > MOST_METADATA_BYTES:
            raise IntegrityError(f"reading {place}", "it is larger than any metadata can be")
        return cls(directory, Metadata.decode(data, str(place)))

    def parts(self) -> list[FileEntry]:
        """Return the files that hold keys as lines, in order. Raises `RefusedError` where they are encrypted."""
        if self.metadata.encryption is not None:
            raise RefusedError(
                f"reading {self.metadata.id}", "it is encrypted", "Give the key: BACKUP_IDENTITY or BACKUP_PASSPHRASE."
            )
        return [entry for entry in self.metadata.files if entry.keys is not None and not is_index(entry.path)]


def is_index(path: str) -> bool:
    """Tell whether a path inside a set is that of an index of big keys: it counts keys, and is no part."""
    return path.startswith(BIG_INDEX)


def sums(files: tuple[FileEntry, ...]) -> bytes:
    """Return the text of SHA256SUMS, for `sha256sum -c`."""
    return "".join(f"{entry.sha256}  {entry.path}\n" for entry in files).encode()
