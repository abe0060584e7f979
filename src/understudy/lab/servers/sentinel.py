"""Sentinel: the same binary as the server, and the configuration in which a sentinel keeps what it knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from understudy.lab.servers.valkey import OWN_SOURCE, Binary, quoted, write_config

SERVICE = "mymaster"


@dataclass(frozen=True)
class SentinelConfig:
    """What a sentinel is started with.

    `replicas` (ports) and `others` (port and id of the other sentinels) are what it would learn within some ten
    seconds by itself; written down as a sentinel that was restarted would have them, it knows them at once.
    """

    binary: Binary
    port: int
    announce_port: int
    sentinel_id: str
    directory: Path
    primary: int
    replicas: tuple[int, ...]
    others: tuple[tuple[int, str], ...]
    quorum: int
    down_after_ms: int
    password: str | None = None
    own_source: bool = False
    bind: str = "127.0.0.1"

    def argv(self) -> list[str]:
        """Write the configuration, unless the sentinel keeps its state in it already; return the command."""
        path = self.directory / "sentinel.conf"
        if not path.exists():
            write_config(path, self._lines())
        return [self.binary.path, str(path), "--sentinel"]

    def _lines(self) -> list[str]:
        lines = [
            f"bind {self.bind}",
            f"port {self.port}",
            "protected-mode no",
            f"dir {quoted(self.directory)}",
            "daemonize no",
            "sentinel announce-ip 127.0.0.1",
            f"sentinel announce-port {self.announce_port}",
            f"sentinel myid {self.sentinel_id}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary} {self.quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {self.down_after_ms}",
            f"sentinel failover-timeout {SERVICE} {max(10 * self.down_after_ms, 10_000)}",
            f"sentinel parallel-syncs {SERVICE} 1",
        ]
        if self.password is not None:
            lines += [
                f"requirepass {quoted(self.password)}",
                f"sentinel sentinel-pass {quoted(self.password)}",
                f"sentinel auth-pass {SERVICE} {quoted(self.password)}",
            ]
        if self.own_source:
            lines.append(f"bind-source-addr {OWN_SOURCE}")
        lines += [f"sentinel known-replica {SERVICE} 127.0.0.1 {port}" for port in self.replicas]
        lines += [f"sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {known}" for port, known in self.others]
        return lines
