"""What stands there in the end: an event, as the server that owns it holds it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from understudy.errors import IncompleteError
from understudy.lab.live import Lab
from understudy.sale.record import Remains
from understudy.valkey.keyspace import scan
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode
from understudy.valkey.wire import ReplyError
from understudy.waitingroom import keys

_PATIENCE_S = 20.0
_BATCH = 1000


def read_remains(lab: Lab, event: str) -> Remains:
    """Read everything of an event. Nothing may change meanwhile: no gateway runs any more.

    Raises:
        UnreachableError: its server does not answer.
        IncompleteError: it refused to tell, or nothing is there.
    """
    line, _, _, admitted, inside, stream, status, holder, holds, held, inventory = keys.room(event)
    waiting = keys.line(event)[1]
    with Router(lab.target(Mode.OSS_CLUSTER if lab.layout == "enterprise" else None), _PATIENCE_S) as router:
        slot = key_slot(line.encode())

        def ask(*commands: tuple[str | int, ...]) -> list[Any]:
            replies = router.execute([(slot, command) for command in commands]).values
            for reply in replies:
                if isinstance(reply, ReplyError):
                    raise IncompleteError(f"reading the event {event}", str(reply))
            return replies

        everything = ("ZRANGE", 0, -1, "WITHSCORES")
        found = ask(
            ("HGETALL", line), *((everything[0], key, *everything[1:]) for key in (waiting, admitted, inside, holds)),
            ("HGETALL", status), ("HGETALL", holder), ("HGETALL", held), ("GET", inventory),
            ("XRANGE", stream, "-", "+"), ("TIME",),
        )  # fmt: skip
        if not found[0]:
            raise IncompleteError(f"reading the event {event}", "nothing of it is there")
        prefix = keys.ticket(event, "")
        address = router.owner(slot)
        assert address is not None  # noqa: S101 - it has answered
        names = sorted({name for batch in scan(router, address, f"{prefix}*") for name in batch.names})
        tickets = {}
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            for name, fields in zip(some, ask(*(("HGETALL", name.decode()) for name in some)), strict=True):
                tickets[name.decode().removeprefix(prefix)] = _text(fields)
    return Remains(
        event=_text(found[0]), waiting=_scores(found[1]), admitted=_scores(found[2]), inside=_scores(found[3]),
        holds=_scores(found[4]), status=_text(found[5]), holder=_text(found[6]),
        held={ticket: seats.split() for ticket, seats in _text(found[7]).items()}, inventory=int(found[8] or 0),
        tickets=tickets, streams=[entry[1][1].decode() for entry in found[9]],
        read_ms=int(found[10][0]) * 1000 if found[10] else round(time.time() * 1000),
    )  # fmt: skip


def _text(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {key.decode(): value.decode() for key, value in reply.items()}
    return {key.decode(): value.decode() for key, value in zip(reply[::2], reply[1::2], strict=True)}


def _scores(reply: Sequence[Any]) -> dict[str, int]:
    rows = reply if reply and isinstance(reply[0], list) else list(zip(reply[::2], reply[1::2], strict=True))
    return {member.decode(): int(float(score)) for member, score in rows}
