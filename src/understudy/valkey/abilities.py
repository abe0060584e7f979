"""What a server can hold, found by asking it: each command is tried on a name that nobody uses.

`COMMAND INFO` would tell less: a proxy does not pass it on, and it says nothing of what the user may do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from understudy.errors import NotAuthorisedError
from understudy.valkey.target import Address
from understudy.valkey.wire import Command, Reply, ReplyError, error_for

_LACKING = ("unknown command", "unsupported command", "wrong number of arguments", "unknown subcommand", "syntax error")


@dataclass(frozen=True)
class Abilities:
    """Whether fields of a hash expire, whether a stream's counters can be set, and whether there are functions."""

    field_expiries: bool = True
    stream_counters: bool = True
    functions: bool = True

    def as_data(self) -> dict[str, bool]:
        """Return plain data, for a worker."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Abilities:
        """Read what `as_data` wrote."""
        return cls(**data)


def abilities_of(
    address: Address, run: Callable[[Sequence[Command]], Sequence[Reply]], names: Sequence[bytes]
) -> Abilities:
    """Ask a server. `run` sends commands to it and returns the replies; `names` are keys of its own that nobody uses.

    More than one name asks a proxy for the servers behind it: what one of them lacks, is lacking.

    Raises:
        NotAuthorisedError: the user may not run one of the commands: what the server can do stays unknown.
    """
    tries: list[Command] = []
    for name in names:
        tries += [
            ("HPEXPIREAT", name, 1, "FIELDS", 1, "f"),
            ("XSETID", name, "0-0", "ENTRIESADDED", 0, "MAXDELETEDID", "0-0"),
            ("FUNCTION", "LIST"),
        ]
    known = [_known(address, one, reply) for one, reply in zip(tries, run(tries), strict=True)]
    return Abilities(all(known[0::3]), all(known[1::3]), all(known[2::3]))


def _known(address: Address, command: Command, reply: Reply) -> bool:
    if not isinstance(reply, ReplyError):
        return True
    error = error_for(address, command, reply)
    if isinstance(error, NotAuthorisedError):
        if command[0] == "FUNCTION":
            return True  # who loads functions will hear the same
        word = str(command[0])
        error.hint = (
            f"The server must be asked by trying {word}: ACL SETUSER NAME +{word.lower()}, or name another user."
        )
        raise error
    return not any(word in str(reply).lower() for word in _LACKING)
