"""`/redis/client-list`: who is connected to each server."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.errors import NotAuthorisedError, ServerSaidError, UnderstudyError, UnreachableError
from understudy.probe.arrangement import ASK_WITHIN_S, look
from understudy.probe.connection import Connection
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.wire import Wire

MOST_CLIENTS = 1000
_SHOWN = ("id", "addr", "name", "user", "age", "idle", "db", "cmd", "resp", "lib-name", "lib-ver")


@dataclass(frozen=True)
class ConnectedClient:
    """One connection: the server that has it, and the fields of CLIENT LIST that say who it is."""

    server: str
    fields: dict[str, str]


@dataclass(frozen=True)
class ClientList:
    """`total` counts all of them, also those beyond the most that are listed."""

    mode: Mode
    total: int
    truncated: bool
    clients: tuple[ConnectedClient, ...]
    notes: tuple[str, ...]


def client_list(connection: Connection) -> ClientList:
    """Ask every server for its CLIENT LIST.

    Raises:
        UnreachableError: none answered.
    """
    target = connection.reached()
    found: list[ConnectedClient] = []
    notes: list[str] = []
    answered = 0
    for address in [node.address for node in look(connection).nodes]:
        try:
            found += _of(address, target)
            answered += 1
        except (ServerSaidError, NotAuthorisedError) as error:
            answered += 1
            notes.append(f"{address} does not answer CLIENT LIST: {error.why}")
        except UnderstudyError as error:
            notes.append(f"{address} was not reached: {error.why}")
    if not answered:
        raise UnreachableError("listing clients", "no server answered", items=notes)
    if notes and target.mode is Mode.ENTERPRISE:
        notes.append("An endpoint shares its connections between clients; ask the servers behind it.")
    return ClientList(target.mode, len(found), len(found) > MOST_CLIENTS, tuple(found[:MOST_CLIENTS]), tuple(notes))


def _of(address: Address, target: Target) -> list[ConnectedClient]:
    with Wire(address, target, ASK_WITHIN_S) as wire:
        text = wire.call("CLIENT", "LIST").decode(errors="replace")
    rows = (dict(word.partition("=")[::2] for word in line.split(" ")) for line in text.splitlines() if line)
    return [ConnectedClient(str(address), {name: row[name] for name in _SHOWN if name in row}) for row in rows]
