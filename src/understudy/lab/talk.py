"""Single commands to one server of a lab, with the replies as text."""

from __future__ import annotations

from typing import Any

from understudy.lab.server import LabNode
from understudy.valkey.target import Address, Target
from understudy.valkey.wire import Wire


def ask(place: LabNode | Address, password: str | None, *command: str | int | bytes, timeout_s: float = 2.0) -> Any:
    """Run one command on its own connection and return the reply, every string in it decoded.

    A node is asked where its process listens, behind any proxy, so that this works in a TLS lab as well.

    Raises:
        UnreachableError: nobody listens there, or no answer in time.
        NotAuthorisedError, ServerSaidError: the server answered with an error.
    """
    address = place.inner if isinstance(place, LabNode) else place
    with Wire(address, Target((address,), password=password), timeout_s) as wire:
        return _text(wire.call(*command))


def fields(reply: list[str]) -> dict[str, str]:
    """Read a flat list of names and values, as the sentinels answer."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def info(text: str) -> dict[str, str]:
    """Read INFO, CLUSTER INFO and the like: `name:value` lines."""
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value for name, colon, value in lines if colon}


def _text(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode(errors="surrogateescape")
    if isinstance(reply, list):
        return [_text(one) for one in reply]
    return reply
