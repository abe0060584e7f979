"""Slots that were on the move at a second: some of their keys lie on the shard that they went to, some still do not."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from understudy.backup.pitr.windows import as_slots
from understudy.errors import ServerSaidError
from understudy.progress import Progress, stage
from understudy.valkey.keyspace import databases
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import ReplyError, Wire

_SCANNED = 1000

Place = tuple[Target, int, int]
"""A server of ours, the slots that it counts for, and those that were on their way into it, as bits."""


def bring_home(places: Sequence[Place], progress: Progress) -> int:
    """Copy keys of slots on their way in to the server that counts for the slot; return how many.

    Where both have a key, the copy counts: a key is sent with its value, then removed where it was, and what was
    written to it afterwards was written where it went.
    """
    brought = 0
    with stage(progress, "Bringing moving keys home", None, "keys"):
        for number, (target, own, arriving) in enumerate(places):
            for slot_owner, (home, slots, _) in enumerate(places):
                if slot_owner != number and (wanted := arriving & slots & ~own):
                    brought += _copy(target, home, as_slots(wanted), progress)
    return brought


def _copy(source: Target, home: Target, slots: frozenset[int], progress: Progress) -> int:
    copied = 0
    with Router(source) as router:
        dbs = databases(router)
    for db in dbs:
        with (
            contextlib.closing(Wire(source.seeds[0], source)) as there,
            contextlib.closing(Wire(home.seeds[0], home)) as here,
        ):
            there.call("SELECT", db)
            here.call("SELECT", db)
            cursor = b"0"
            while True:
                cursor, names = there.call("SCAN", cursor, "COUNT", _SCANNED)
                copied += _copy_keys(there, here, [name for name in names if key_slot(name) in slots])
                progress.advance(len(names))
                if cursor == b"0":
                    break
    return copied


def _copy_keys(there: Wire, here: Wire, names: Sequence[bytes]) -> int:
    found = there.pipeline([one for name in names for one in (("DUMP", name), ("PEXPIRETIME", name))])
    commands = []
    for at, name in enumerate(names):
        dump, expire_at_ms = found[2 * at], found[2 * at + 1]
        if isinstance(dump, bytes):
            until = (max(expire_at_ms, 0), dump, "ABSTTL", "REPLACE")
            commands.append(("RESTORE", name, *until))
    for reply in here.pipeline(commands):
        if isinstance(reply, ReplyError):
            raise ServerSaidError("bringing a moving key home", str(reply))
    return len(commands)
