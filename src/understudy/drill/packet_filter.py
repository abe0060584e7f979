"""A packet filter of our own (nftables) that cuts servers off from the other servers, and leaves clients alone.

It knows servers by the addresses that `sources.py` makes them call from. The table of rules belongs to the process that
made it (`flags owner`): the kernel removes it when that process ends, and it ends with us, however we end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from understudy.drill.sources import SERVERS, bus_ports, old_links, source
from understudy.errors import RefusedError
from understudy.lab.deadline import Deadline
from understudy.lab.live import Lab
from understudy.lab.server import LabNode
from understudy.lab.servers.valkey import BUS_OFFSET

_DOING = "cutting nodes off with a packet filter"
_RELAY = "method=relay needs neither (Valkey 9, or a sentinel lab)."
_WITHIN_S = 10.0


@dataclass(frozen=True)
class Cut:
    """Who is cut off: `nodes`. `bus` are the lab's bus ports, `links` the ports of links that began before."""

    nodes: tuple[LabNode, ...]
    bus: tuple[int, ...]
    links: tuple[int, ...] = ()


def cut_of(lab: Lab, nodes: Sequence[LabNode]) -> Cut:
    """Return what cuts these nodes off now; their servers call from addresses of their own already."""
    return Cut(tuple(nodes), tuple(bus_ports(lab)), tuple(old_links(lab, nodes)))


def ruleset(table: str, cut: Cut) -> str:
    """Return, in one line, the table that drops what these nodes and other servers say to each other."""
    nodes, everyone = cut.nodes, _set(cut.bus)
    own = _set(map(source, nodes))
    ports = _set(node.inner_port for node in nodes)
    bus = _set(node.inner_port + BUS_OFFSET for node in nodes)  # only servers use it
    rules: tuple[str, ...] = (
        "type filter hook input priority 0; policy accept",
        'iifname != "lo" accept',
        f"ip saddr {own} drop",
        f"ip daddr {own} drop",
        f"ip saddr {SERVERS} tcp dport {ports} drop",
        f"ip daddr {SERVERS} tcp sport {ports} drop",
        f"tcp dport {bus} drop",
        f"tcp sport {bus} drop",
    )
    if cut.links:
        links = _set(cut.links)
        rules += (f"tcp sport {links} tcp dport {everyone} drop", f"tcp sport {everyone} tcp dport {links} drop")
    return f"table ip {table} {{ flags owner; chain cut {{ {'; '.join(rules)}; }}; }}\n"


def check_usable(lab: Lab, nodes: Sequence[LabNode]) -> None:
    """See whether the lab's servers can be told from clients, and whether the kernel would take the rules from us.

    Raises:
        RefusedError: not so.
    """
    if lab.options.bridged:
        raise RefusedError(_DOING, "its containers have a network of their own", "It takes the host's network.")
    binary = lab.binary
    if not binary.knows_7:
        raise RefusedError(_DOING, f"{binary} cannot change where it calls from", "It takes Valkey, or Redis 7.0.")
    if lab.layout == "sentinel":
        raise RefusedError(_DOING, "sentinels cannot change where they call from", "Use method=relay.")
    if any(node.address.port != node.inner_port for node in nodes):
        raise RefusedError(_DOING, "behind Envoy the servers of a TLS lab look alike", "Use method=relay (Valkey 9).")
    if sys.platform != "linux" or not _nft():
        why = "there is no command nft" if sys.platform == "linux" else f"{sys.platform} has no nftables"
        raise RefusedError(_DOING, why, f"It takes Linux, nft and root. {_RELAY}")
    tried = _run("-c", "-f", "-", given=ruleset("understudy_try", Cut(tuple(nodes), tuple(bus_ports(lab)))))
    if tried.returncode != 0:
        why = next(iter((tried.stderr or tried.stdout).splitlines()), "it did not say why")
        raise RefusedError(
            _DOING, f"nft said: {why}", f"It takes root (CAP_NET_ADMIN) and Linux 5.12, and nft 0.9.9. {_RELAY}"
        )


class PacketFilter:
    """The rules in force, from its making until it is closed, or until we end.

    Raises:
        StartError: they were not in force in time.
    """

    def __init__(self, cut: Cut) -> None:
        self.table = f"understudy_{os.getpid()}_{secrets.token_hex(4)}"
        self._process = subprocess.Popen(
            [_nft() or "nft", "-i"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us
            text=True,
        )
        try:
            assert self._process.stdin is not None  # noqa: S101
            self._process.stdin.write(ruleset(self.table, cut))
            self._process.stdin.flush()
            Deadline(_WITHIN_S).until(_DOING, lambda: _run("list", "table", "ip", self.table).returncode == 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the rules; harmless to repeat."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=_WITHIN_S)

    def __enter__(self) -> PacketFilter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _set(members: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, members))} }}"


def _nft() -> str | None:
    return shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_nft() or "nft", *words], input=given, capture_output=True, text=True, check=False, timeout=_WITHIN_S
    )
