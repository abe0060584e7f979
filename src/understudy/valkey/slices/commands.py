"""The commands that build a value: where the key stands in them, how big they are, and who understands them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from understudy.valkey.wire import Command

Newest = tuple[str, tuple[int, ...]]  # a server's name and version: ("valkey", (8, 1, 8))

# what a value that was built with commands does not have, by type; a DUMP carries all of it
LOST: dict[str, tuple[str, ...]] = {
    "stream": ("how long each consumer has been idle; when and how often each pending entry was delivered is kept",),
}
# what a server older than these has no command for
_SINCE: dict[str, dict[str, tuple[int, ...]]] = {
    "field expiry": {"valkey": (9, 0), "redis": (7, 4)},  # HPEXPIREAT
    "stream counters": {"valkey": (7, 2), "redis": (7, 0)},  # ENTRIESADDED, MAXDELETEDID, ENTRIESREAD
}
_MOST_COMMANDS = 4096
_MOST_WORDS = 4096
_MOST_COMMAND_BYTES = 1 << 20


def takes(newest: Newest | None, feature: str) -> bool:
    """Tell whether a server has the commands of a feature; one that nobody knows (or None) is taken to be new."""
    if newest is None or newest[0] not in _SINCE[feature]:
        return True
    return newest[1] >= _SINCE[feature][newest[0]]


def adapted(command: Command, newest: Newest | None) -> Command | None:
    """Return a command as a server takes it, without what it cannot hold; None where nothing is left of it."""
    if command[0] == b"HPEXPIREAT":
        return command if takes(newest, "field expiry") else None
    if command[0] in (b"XSETID", b"XGROUP") and not takes(newest, "stream counters"):
        return command[:3] if command[0] == b"XSETID" else command if command[1] != b"SETID" else command[:5]
    return command


def key_place(command: Command) -> int:
    """Return where the key stands among a command's words: second, and third behind `XGROUP CREATE`."""
    return 2 if command[0] in (b"XGROUP", "XGROUP") else 1


def named(commands: Iterable[Command], name: bytes) -> list[tuple[bytes | str | int, ...]]:
    """Return the same commands for another key."""
    return [(*command[: (at := key_place(command))], name, *command[at + 1 :]) for command in commands]


def size_of(command: Command) -> int:
    """Return about how many bytes a command has when it is sent."""
    return sum(len(word) if isinstance(word, bytes) else 8 for word in command) + 8 * len(command)


def grouped(head: tuple[bytes, bytes], words_of: Iterable[bytes], slice_bytes: int, each: int = 1) -> Iterator[Command]:
    """Yield commands of several elements; so many words (`each`) make an element and stay together."""
    most_bytes = min(slice_bytes, _MOST_COMMAND_BYTES)
    words: list[bytes] = []
    size = 0
    for element in words_of:
        words.append(element)
        size += len(element) + 8
        if (size >= most_bytes or len(words) >= _MOST_WORDS) and not len(words) % each:
            yield (*head, *words)
            words, size = [], 0
    if words:
        yield (*head, *words)


def batched(commands: Iterable[Command], slice_bytes: int) -> Iterator[list[Command]]:
    """Yield commands in batches that reach `slice_bytes` by their last command, and hardly more."""
    batch: list[Command] = []
    size = 0
    for command in commands:
        more = size_of(command)
        if batch and size + more > slice_bytes:
            yield batch
            batch, size = [], 0
        batch.append(command)
        size += more
        if size >= slice_bytes or len(batch) >= _MOST_COMMANDS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
