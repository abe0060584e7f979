"""Whether copies can be made, asked before anything is started: rights, versions, memory, disk, the source's limits.

What makes it impossible is refused with figures and a next step; what may go wrong is a warning. Nothing is changed at
the source: its rights are tried with words that no server takes, after it has looked whether we may say them.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.backup.replica.copies import ACL_HINT
from understudy.backup.replica.pause import PAUSE_RIGHT
from understudy.errors import IncompleteError, NotAuthorisedError, RefusedError, UnderstudyError
from understudy.lab.memory import available_bytes
from understudy.lab.servers.valkey import Binary, find_binary, version_of
from understudy.pages.figures import seconds, size
from understudy.progress import Progress
from understudy.valkey.discovery import parse_info
from understudy.valkey.payload import newest_readable
from understudy.valkey.router import Router
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.wire import Command, Reply, ReplyError, Wire

SCAN = "Use --engine scan, which works everywhere; --engine auto chooses by itself."
_NO_WORD = "understudy"  # where a number or an option of the server's own belongs
_SYNC_BYTES_PER_S = 40 << 20  # of a sync over a network, cautiously
_DELAY_S = 5.0  # by default a primary waits so long before it begins to send
_RATE_OVER_S = 0.2
_COPY_TAKES = 1.1  # of the memory that the source's data takes
_LEAST_OF_SET = 0.1  # a set is hardly ever smaller than a tenth of the memory that its data takes
_FORK_ROOM = 0.25  # of the data: what writes may double while the source's child sends it
_BUILT_IN = {"lua"}
_QUESTIONS: tuple[Command, ...] = (
    ("INFO", "server"),
    ("INFO", "memory"),
    ("INFO", "replication"),
    ("CONFIG", "GET", "client-output-buffer-limit"),
    ("CONFIG", "GET", "repl-diskless-sync-delay"),
    ("MODULE", "LIST"),
)


@dataclass(frozen=True)
class Facts:
    """What one primary says of itself; None where it does not tell.

    `limits` are those of a replica's output buffer: hard, soft (bytes, 0: none) and the soft one's seconds.
    """

    address: Address
    server: tuple[str, str]
    used_bytes: int
    resident_bytes: int
    machine_bytes: int | None
    written_per_s: float
    limits: tuple[int, int, int] | None
    delay_s: float
    modules: tuple[str, ...]

    @property
    def sync_s(self) -> float:
        """Return how long a first copy takes, roughly."""
        return self.used_bytes / _SYNC_BYTES_PER_S + self.delay_s


def check(router: Router, folder: Path, progress: Progress, *, pause: bool) -> None:
    """Look at the source, this machine and the rights; say what may go wrong. `folder` is where the set is written.

    Raises:
        NotAuthorisedError: the user may not do what a replica does.
        RefusedError: it cannot work as things stand.
        IncompleteError: it is a replica that is not in sync.
        NotFoundError: there is no server here that could be a copy.
    """
    doing = f"copying {router.target}"
    if router.target.mode is Mode.ENTERPRISE:
        raise RefusedError(doing, "a proxy stands before it, and shows no primary that could be followed", SCAN)
    ours = find_binary()
    primaries = router.primaries
    for address in primaries:
        _try_rights(router.target.at(address), address, pause=pause and len(primaries) > 1)
    for warning in judge(_ask(router, primaries), ours, available_bytes(), shutil.disk_usage(folder).free):
        progress.say(f"Warning: {warning}")


def judge(facts: Sequence[Facts], ours: Binary, memory: int | None, disk: int) -> list[str]:
    """Return what may go wrong. Raises `RefusedError` for what will."""
    doing = f"copying {', '.join(str(one.address) for one in facts)}"
    for one in facts:
        if why := unreadable(one.server, (ours.name, ".".join(map(str, ours.version)))):
            raise RefusedError(doing, why, SCAN)
    used = sum(one.used_bytes for one in facts)
    need = int(used * _COPY_TAKES)
    if memory is not None and need > memory:
        raise RefusedError(
            doing, f"the copies take about {size(need)} of memory, and {size(memory)} are available here",
            f"Run it on a machine with more memory. {SCAN}",
        )  # fmt: skip
    if used * _LEAST_OF_SET > disk:
        raise RefusedError(
            doing, f"the data takes {size(used)} of memory, and {size(disk)} are free on the disk of the set",
            "Free some space, or name another directory (BACKUP_DIR).",
        )  # fmt: skip
    warnings = []
    if ours.name != "valkey" or ours.version < (8, 1):
        warnings.append(f"a copy by {ours} loses keys whose time is over while it is read; Valkey keeps them since 8.1")
    warnings += [_writes_newer(one.server, ours) for one in facts if _writes_newer(one.server, ours)]
    for one in facts:
        hard, soft, soft_s = one.limits or (0, 0, 0)
        grows = one.written_per_s * one.sync_s
        told = (
            f"{one.address} takes {size(one.written_per_s)}/s of writes; while it is copied (about"
            f" {seconds(one.sync_s)}) that makes {size(grows)} for the copy"
        )
        if hard and grows > hard:
            raise RefusedError(
                doing, f"{told}, and its client-output-buffer-limit for replicas is {size(hard)}",
                f"Take it when fewer writes come, or have that limit raised there. {SCAN}",
            )  # fmt: skip
        if soft and grows > soft and one.sync_s > soft_s:
            warnings.append(
                f"{told}; its client-output-buffer-limit for replicas is {size(soft)} for {soft_s} s, and it may cut"
                " the copy off"
            )
        if one.machine_bytes and one.resident_bytes + one.used_bytes * _FORK_ROOM > one.machine_bytes:
            warnings.append(
                f"{one.address} forks to send its data: it takes {size(one.resident_bytes)} of the"
                f" {size(one.machine_bytes)} of its machine, and writes meanwhile take more"
            )
        if one.modules:
            warnings.append(
                f"{one.address} has modules ({', '.join(one.modules)}): values of their types cannot be copied"
            )
    return list(dict.fromkeys(warnings))


def _writes_newer(source: tuple[str, str], ours: Binary) -> str:
    """Return what it means that a copy writes what its source does not read; empty where it does."""
    reads, writes = newest_readable(*source), newest_readable(ours.name, ".".join(map(str, ours.version)))
    if reads is None or writes is None or reads >= writes:
        return ""
    return (
        f"the copies ({ours}) write RDB version {writes}, and {' '.join(source)} reads up to {reads}: restored there,"
        " keys are built with commands, which takes longer; --engine scan keeps what that server itself writes"
    )


def unreadable(source: tuple[str, str], ours: tuple[str, str]) -> str:
    """Return why a copy of ours cannot follow a server of this name and version; empty where it can."""
    name, version = source
    told = f"{name} {version} is newer than what our server reads ({' '.join(ours)})"
    if name == ours[0]:
        return told if version_of(version)[:2] > version_of(ours[1])[:2] else ""
    sends, reads = newest_readable(*source), newest_readable(*ours)
    if sends is None or reads is None:
        return ""
    # Valkey's own versions begin at 80; Redis' own, from 12 on, it does not read.
    return told if sends > reads or (reads >= 80 and 12 <= sends < 80) else ""


def _try_rights(target: Target, address: Address, *, pause: bool) -> None:
    """Say what a replica says, with a word that no server takes: the user's rights are looked at first.

    A connection of its own, which is closed: a server that took it seriously would go on to send its data.
    """
    tried: list[tuple[Command, str]] = [(("PSYNC", "?", _NO_WORD), ACL_HINT), (("REPLCONF", _NO_WORD, "1"), ACL_HINT)]
    if pause:
        tried.append((("CLIENT", "PAUSE", _NO_WORD, "WRITE"), PAUSE_RIGHT))
    for command, hint in tried:
        with Wire(address, target) as wire:
            reply = wire.pipeline([command])[0]
        if error := _refusal(address, " ".join(map(str, command[: 1 + (command[0] == "CLIENT")])), reply, hint):
            raise error


def _refusal(address: Address, command: str, reply: Reply, hint: str) -> UnderstudyError | None:
    said = str(reply) if isinstance(reply, ReplyError) else ""
    doing = f"copying {address}"
    if said.startswith(("NOPERM", "NOAUTH")):
        return NotAuthorisedError(doing, f"{command}: {said}", hint)
    if "unknown command" in said.lower():
        return RefusedError(doing, f"it hides {command} from clients, as managed services do", SCAN)
    return None


def _ask(router: Router, addresses: Sequence[Address]) -> list[Facts]:
    """Ask every primary, and once more after a moment how far its stream is: that tells how much is written."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(address, router.target.at(address))) for address in addresses]
        began = time.monotonic()
        replies = [wire.pipeline(_QUESTIONS) for wire in wires]
        time.sleep(_RATE_OVER_S)
        later = [_facts(wire.call("INFO", "replication")) for wire in wires]
        over_s = time.monotonic() - began
    return [_read(*row, over_s) for row in zip(addresses, replies, later, strict=True)]


def _read(address: Address, replies: Sequence[Reply], later: Mapping[str, str], over_s: float) -> Facts:
    server, memory, first, limits, delay, modules = replies
    about, used, before = _facts(server), _facts(memory), _facts(first)
    if before.get("role") == "slave" and before.get("master_link_status") != "up":
        raise IncompleteError(
            f"copying {address}", "it is a replica, and not in sync with its primary",
            "Wait until INFO replication says master_link_status:up, or name the primary.",
        )  # fmt: skip
    name = "valkey" if "valkey_version" in about else "redis"
    grown = int(later.get("master_repl_offset", 0)) - int(before.get("master_repl_offset", 0))
    return Facts(
        address,
        (name, about.get("valkey_version") or about.get("redis_version", "0")),
        int(used.get("used_memory", 0)),
        int(used.get("used_memory_rss", 0)),
        int(used.get("total_system_memory", 0)) or None,
        max(0, grown) / over_s,
        limits_of_replicas(limits),
        float(delay[1]) if isinstance(delay, list) and len(delay) > 1 else _DELAY_S,
        _modules(modules),
    )


def _facts(reply: Reply) -> dict[str, str]:
    return parse_info(reply) if isinstance(reply, bytes) else {}


def limits_of_replicas(reply: Reply) -> tuple[int, int, int] | None:
    """Read `normal 0 0 0 slave 268435456 67108864 60 pubsub …`; None where it is not told."""
    if not isinstance(reply, list) or len(reply) < 2:
        return None
    words = reply[1].decode().split()
    for name in ("slave", "replica"):
        if name in words:
            at = words.index(name)
            hard, soft, soft_s = map(int, words[at + 1 : at + 4])
            return hard, soft, soft_s
    return None


def _modules(reply: Reply) -> tuple[str, ...]:
    if not isinstance(reply, list):
        return ()
    names = [dict(zip(row[::2], row[1::2], strict=False)).get(b"name", b"").decode() for row in reply]
    return tuple(name for name in names if name not in _BUILT_IN)
