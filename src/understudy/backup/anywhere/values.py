"""Read payloads: restored into a scratch server and asked for again, many a round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from understudy.valkey.payload import FIELDS_EXPIRE, TYPE_NAMES
from understudy.valkey.wire import Command, Reply, ReplyError, Wire, error_for

# what a scratch server that reads payloads is started with: sorted sets keep the sign of a zero only as skip lists,
# and the servers of any version know the option by this name
SCRATCH_LINES = ("zset-max-ziplist-entries 0", f"proto-max-bulk-len {1536 << 20}")
_ASK: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "string": ("GET", ()),
    "list": ("LRANGE", (0, -1)),
    "set": ("SMEMBERS", ()),
    "zset": ("ZRANGE", (0, -1, "WITHSCORES")),
    "hash": ("HGETALL", ()),
    "stream": ("XINFO", ("FULL", "COUNT", 0)),
}
KINDS = frozenset(_ASK)


@dataclass(frozen=True)
class Value:
    """A key's value as the server told it; of a hash also when each field expires, in milliseconds since 1970."""

    kind: str
    reply: Any
    expiries: dict[bytes, int] = field(default_factory=dict)

    @cached_property
    def stream(self) -> dict[bytes, Any]:
        """Return what XINFO STREAM FULL says."""
        return fields(self.reply)

    @cached_property
    def groups(self) -> list[dict[bytes, Any]]:
        """Return a stream's groups, in the same words."""
        return [fields(group) for group in self.stream[b"groups"]]


def fields(reply: Reply) -> dict[bytes, Any]:
    """Return a flat array of names and values as a dict."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def ask(name: bytes, kind: str, entries: int = 0) -> Command:
    """Return the command that gives a whole value; of a stream at most so many entries and pending ones (0: all)."""
    word, rest = _ASK[kind]
    return ("XINFO", "STREAM", name, "FULL", "COUNT", entries) if word == "XINFO" else (word, name, *rest)


def read_values(wire: Wire, payloads: Sequence[bytes], entries: int = 0) -> list[Value | ReplyError]:
    """Return what the payloads hold; where the scratch server refuses one, its answer. Its database is empty again.

    Raises:
        ServerSaidError: the server says something else than that it does not read a payload.
    """
    kinds = [TYPE_NAMES[payload[0]] for payload in payloads]
    names = [b"%d" % number for number in range(len(payloads))]
    replies = wire.pipeline(
        [("RESTORE", name, 0, payload, "REPLACE") for name, payload in zip(names, payloads, strict=True)]
        + [ask(name, kind, entries) for name, kind in zip(names, kinds, strict=True) if kind in KINDS]
    )
    restored, told = replies[: len(names)], iter(replies[len(names) :])
    values: list[Value | ReplyError] = []
    for kind, reply in zip(kinds, restored, strict=True):
        answer = next(told) if kind in KINDS else ReplyError("ERR no command reads a value of this type")
        if isinstance(reply, ReplyError):
            values.append(reply)
        elif isinstance(answer, ReplyError) and kind in KINDS:
            raise error_for(wire.address, (_ASK[kind][0],), answer)
        else:
            values.append(answer if isinstance(answer, ReplyError) else Value(kind, answer))
    expiring = [
        at
        for at, (payload, value) in enumerate(zip(payloads, values, strict=True))
        if payload[0] in FIELDS_EXPIRE and isinstance(value, Value) and value.reply
    ]
    commands: list[Command] = []
    for at in expiring:
        words = values[at].reply[::2]  # type: ignore[union-attr]  # refused ones are not among them
        commands.append(("HPEXPIRETIME", names[at], "FIELDS", len(words), *words))
    answers = wire.pipeline([*commands, ("FLUSHDB",)])
    for at, reply in zip(expiring, answers, strict=False):
        if isinstance(reply, ReplyError):
            raise error_for(wire.address, ("HPEXPIRETIME",), reply)
        value = values[at]
        assert isinstance(value, Value)  # noqa: S101 - chosen so above
        words = value.reply[::2]
        when = {word: expiry for word, expiry in zip(words, reply, strict=True) if expiry >= 0}
        values[at] = Value(value.kind, value.reply, when)
    return values
