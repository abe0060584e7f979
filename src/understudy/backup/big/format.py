"""Big keys of a set: each a file of commands, and an index with a line for each. See docs/backup-set.md.

What is read may be hostile: only commands that build the one key, of the type that its line names, are let through.
"""

from __future__ import annotations

import hashlib
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hiredis
import orjson

from understudy.backup.anywhere.losses import FIELD_EXPIRY, STREAM_COUNTERS
from understudy.backup.durable import write_file
from understudy.backup.set import BIG_INDEX, BackupSet, FileEntry, is_index
from understudy.errors import IntegrityError, RefusedError
from understudy.valkey.abilities import Abilities
from understudy.valkey.slices import key_place
from understudy.valkey.slices.commands import batched
from understudy.valkey.wire import Command, pack

FOLDER = "slices"
REQUIRES = "slices"
_READ_BYTES = 1 << 18
_MOST_COMMAND_BYTES = (1 << 30) + (1 << 20)  # an element may be half a gigabyte, a hash's field and value both
_MOST_HEAD_BYTES = 16  # of a command's first line, which says how many words it has
_LEAST_BYTES = 6  # of a word
_MOST_LINE_BYTES = 1 << 30
_MOST_NUMBER = 1 << 62
_BUILD = {
    "string": {b"SET", b"APPEND"},
    "list": {b"RPUSH"},
    "set": {b"SADD"},
    "zset": {b"ZADD"},
    "hash": {b"HSET", b"HPEXPIREAT"},
    "stream": {b"XADD", b"XSETID", b"XGROUP", b"XCLAIM", b"XDEL", b"XTRIM"},
}
_SCORE, _ID = re.compile(rb"-?(?:inf|[0-9])"), re.compile(rb"[0-9]")
_OF_GROUPS = {b"CREATE", b"CREATECONSUMER", b"SETID", b"DESTROY"}


@dataclass(frozen=True)
class BigKey:
    """One line of the index.

    Attributes:
        file: of the commands, inside the set.
        commands: in the file.
        length: bytes of a string, elements of anything else.
        size: of the file, in bytes.
    """

    key: bytes
    db: int
    kind: str
    expire_at_ms: int | None
    file: str
    commands: int
    length: int
    size: int

    def as_data(self) -> dict[str, Any]:
        """Return it as its line says it."""
        try:
            named = {"key": self.key.decode()}
        except UnicodeDecodeError:
            named = {"key_b64": b2a_base64(self.key, newline=False).decode()}
        return {
            **named, "db": self.db, "type": self.kind, "expire_at_ms": self.expire_at_ms, "file": self.file,
            "commands": self.commands, "length": self.length, "bytes": self.size,
        }  # fmt: skip

    @classmethod
    def from_data(cls, row: Mapping[str, Any], where: str) -> BigKey:
        """Read a line. Raises `IntegrityError` where it is none."""
        try:
            key = row["key"].encode() if "key" in row else a2b_base64(row["key_b64"], strict_mode=True)
            found = cls(
                key,
                row["db"],
                row["type"],
                row["expire_at_ms"],
                row["file"],
                row["commands"],
                row["length"],
                row["bytes"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise damaged(where, "a line is none of a big key") from error
        numbers = (found.db, found.commands, found.length, found.size, found.expire_at_ms or 0)
        if any(type(number) is not int or not 0 <= number < _MOST_NUMBER for number in numbers) or found.db >= 1 << 31:
            raise damaged(where, "a number is out of range")
        if type(found.kind) is not str or found.kind not in _BUILD:
            raise damaged(where, "a line names a type that is none")
        if type(found.file) is not str or found.expire_at_ms == 0:
            raise damaged(where, "a line names a file or an expiry that is none")
        return found


def damaged(where: str, why: str) -> IntegrityError:
    """Return the error for a file that cannot be read."""
    return IntegrityError(f"reading {where}", why, "Use another set: `understudy list` shows them.")


def gather(
    results: Sequence[Mapping[str, Any]], work: Path, into: Path, first: int = 0
) -> tuple[tuple[FileEntry, ...], tuple[str, ...]]:
    """Put the big keys that tasks have read below `into`; return their files, and what the set then requires.

    `first` is the number of the first task: of several indices in one set, each has another number.
    """
    entries: list[FileEntry] = []
    for number, result in enumerate(results, first):
        lines: list[bytes] = []
        for at, row in enumerate(result.get("big", ())):
            path = f"{FOLDER}/{number:03d}-{at:05d}.resp"
            (into / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (work / row["file"]).rename(into / path)
            entries.append(FileEntry(path, row["bytes"], row["sha256"]))
            line = {name: value for name, value in row.items() if name != "sha256"} | {"file": path}
            lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if lines:
            data, path = b"".join(lines), f"{BIG_INDEX}{number:03d}.jsonl"
            write_file(into / path, data)
            entries.append(FileEntry(path, len(data), hashlib.sha256(data).hexdigest(), len(lines)))
    return tuple(entries), (REQUIRES,) if entries else ()


def indices(backup: BackupSet) -> list[FileEntry]:
    """Return the set's indices. Raises `RefusedError` where they are encrypted."""
    found = [entry for entry in backup.metadata.files if is_index(entry.path)]
    if found and backup.metadata.encryption is not None:
        raise RefusedError(
            f"reading {backup.metadata.id}", "it is encrypted", "Give the key: BACKUP_IDENTITY or BACKUP_PASSPHRASE."
        )
    return found


def big_keys(backup: BackupSet) -> Iterator[BigKey]:
    """Yield the lines of all indices.

    Raises:
        IntegrityError: a line is none, or names a file that is not the set's, of another size, or another key's.
        RefusedError: they are encrypted.
    """
    left = {entry.path: entry.size for entry in backup.metadata.files if entry.path.startswith(f"{FOLDER}/")}
    for index in indices(backup):
        left.pop(index.path)
    for index in indices(backup):
        with (backup.directory / index.path).open("rb") as file:
            while line := file.readline(_MOST_LINE_BYTES):
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise damaged(index.path, "a line is no JSON") from error
                found = BigKey.from_data(row, index.path)
                if left.pop(found.file, None) != found.size:
                    raise damaged(index.path, f"{found.file[:200]!r} is no file of its key")
                yield found
    if left:
        raise damaged(FOLDER, f"no index names {next(iter(left))}")


def commands(directory: Path, big: BigKey) -> Iterator[list[bytes]]:
    """Yield the commands of a big key, one at a time.

    Raises:
        IntegrityError: the file is cut off, or holds anything but commands that build this key.
    """
    size = (directory / big.file).stat().st_size
    done = 0
    try:
        for command in _arrays(directory / big.file, size):
            _check(command, big)
            done += 1
            yield command
    except (hiredis.ProtocolError, ValueError, EOFError) as error:
        raise damaged(big.file, f"it is no file of commands ({error})") from error
    if done != big.commands:
        raise damaged(big.file, f"it holds {done:,} commands, and its line says {big.commands:,}")


def _arrays(path: Path, size: int) -> Iterator[Any]:
    """Yield the arrays of a RESP file. How many elements each announces is looked at before memory is taken for them.

    Raises:
        ValueError, EOFError: it is written in another way than ours, or cut off.
    """
    reader = hiredis.Reader()
    begins = 0  # where the next array does, in the file
    head = b""  # what has been read of its first line
    known = False  # whether that line was looked at
    read = 0
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            reader.feed(data)
            while True:
                if not known:
                    head += data[max(0, begins - read) :][: _MOST_HEAD_BYTES - len(head)]
                    line, end, _ = head.partition(b"\r\n")
                    if not end and len(head) < _MOST_HEAD_BYTES:
                        break
                    if not end or line[:1] != b"*" or not line[1:].isdigit() or int(line[1:]) > size // _LEAST_BYTES:
                        raise ValueError("a command's first line is none")
                    known = True
                command = reader.gets()
                if command is False:
                    break
                yield command
                begins += len(pack(command)) if type(command) is list else size
                head, known = b"", False
            read += len(data)
            if read - begins > _MOST_COMMAND_BYTES:
                raise ValueError("a command is longer than any can be")
    if begins != read:
        raise EOFError("it ends in the middle of one")


def lost_of(directory: Path, big: BigKey, able: Abilities) -> set[str]:
    """Return the kinds of what a server that is so able cannot hold of a key."""
    if big.kind == "stream" and not able.stream_counters:
        return {STREAM_COUNTERS}
    if big.kind == "hash" and not able.field_expiries:
        return {FIELD_EXPIRY} if any(command[0] == b"HPEXPIREAT" for command in commands(directory, big)) else set()
    return set()


def _check(command: Any, big: BigKey) -> None:
    if type(command) is not list or len(command) < 2 or set(map(type, command)) != {bytes}:
        raise damaged(big.file, "it holds something that is no command")
    if command[0] not in _BUILD[big.kind] or (command[0] == b"XGROUP" and command[1] not in _OF_GROUPS):
        raise damaged(big.file, f"{command[0][:20]!r} is no command that builds a {big.kind}")
    place = key_place(command)
    if len(command) <= place + (big.kind != "stream") or command[place] != big.key:
        raise damaged(big.file, "a command is not for the key of its line")
    if not _plain(command):
        raise damaged(big.file, f"a {command[0].decode()} of it has other words than it takes to build a {big.kind}")


def _plain(command: Sequence[bytes]) -> bool:
    """Tell whether a command has no options but those that we write: others change what it does, and its reply."""
    word, words = command[0], len(command)
    if word in (b"SET", b"APPEND"):
        return words == 3
    if word == b"HSET":
        return words > 3 and not words % 2
    if word == b"ZADD":
        return words > 3 and not words % 2 and bool(_SCORE.match(command[2]))
    return word != b"XADD" or (words > 3 and bool(_ID.match(command[2])))


def batches(directory: Path, big: BigKey, slice_bytes: int) -> Iterator[list[Command]]:
    """Yield the commands in batches of about `slice_bytes`."""
    return batched(commands(directory, big), slice_bytes)
