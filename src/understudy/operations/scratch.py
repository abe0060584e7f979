"""Where a component is restored into for a rehearsal: a server of its own, never the one that was backed up.

One file for each component in `scratches/`. Whatever is started or written is gone when the block ends, also after
Ctrl-C.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from understudy.backup.component import Component
from understudy.backup.set import BackupSet
from understudy.errors import RefusedError, UsageError
from understudy.operations.rehearsal.checks import Check
from understudy.settings import Settings


class NoScratchError(Exception):
    """Nothing can be had to restore this component into; the text says why, and what would help."""


@dataclass(frozen=True)
class Scratch:
    """A server for one rehearsal.

    `server` is what it is, in words. `addresses` gives the environment in which a program finds it, and that database
    of it (passwords included: for a child's environment, never for a log), `secrets` what must not be shown of that.
    `ask` puts a check's question.
    """

    component: Component
    server: str
    addresses: Callable[[str | int | None], Mapping[str, str]] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    ask: Callable[[Check], Any]


def refuse(name: str, backup: BackupSet, settings: Settings) -> None:
    """Refuse, before anything is started, a server that was named for rehearsals and is not empty.

    Raises:
        RefusedError: it is not.
    """
    module = importlib.import_module(f"understudy.operations.scratches.{name}")
    if hasattr(module, "refuse"):
        module.refuse(backup, settings)


def scratch_for(name: str, backup: BackupSet, settings: Settings) -> AbstractContextManager[Scratch]:
    """Return the context in which a component's scratch server runs.

    Raises (when entered):
        NoScratchError: there is none to be had.
        RefusedError: the server that is named for it is not empty.
    """
    module = importlib.import_module(f"understudy.operations.scratches.{name}")
    return module.scratch(backup, settings)  # type: ignore[no-any-return]


def refuse_production(settings: Settings) -> None:
    """Refuse to rehearse in the servers that are backed up.

    Raises:
        RefusedError: REHEARSE_POSTGRES_URL or REHEARSE_QDRANT_URL is the production server's.
    """
    secret = settings.postgres_url, settings.rehearse_postgres_url
    production, rehearsal = (url.get_secret_value() if url else None for url in secret)
    for name, ours, theirs, port in (
        ("POSTGRES_URL", rehearsal, production, 5432),
        ("QDRANT_URL", settings.rehearse_qdrant_url, settings.qdrant_url, 6333),
    ):
        if ours and theirs and (_servers(ours, port, f"REHEARSE_{name}") & _servers(theirs, port, name)):
            raise RefusedError(
                "rehearsing", f"REHEARSE_{name} is the server of {name}, which is backed up",
                "Name another server: a rehearsal writes to it and empties it again.",
            )  # fmt: skip


def _servers(urls: str, default_port: int, name: str) -> set[tuple[str, int]]:
    """Return every address that a URL, or several with commas between, can mean."""
    found: set[tuple[str, int]] = set()
    try:
        for host, port in _hosts(urls, default_port):
            found.add((host.lower(), port))
            found |= {(address, port) for address in _resolved(host)}
    except ValueError as error:
        raise UsageError(f"reading {name}", "it is no URL", "See docs/settings.md.") from error
    return found


def _hosts(urls: str, default_port: int) -> Iterable[tuple[str, int]]:
    scheme, _, rest = urls.partition("://")
    for one in rest.rpartition("@")[2].split(",") if scheme.startswith("postgres") else urls.split(","):
        parts = urlsplit(f"//{one.partition('://')[2] or one}".strip())
        asked = parse_qs(parts.query)
        host = asked.get("host", [parts.hostname or "localhost"])[0]
        yield host, int(asked.get("port", [parts.port or default_port])[0])


def _resolved(host: str) -> set[str]:
    if host.startswith("/"):
        return {"127.0.0.1", "::1"}  # a socket of this machine
    try:
        return {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
