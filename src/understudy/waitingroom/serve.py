"""A gateway on a port.

uvicorn with httptools and uvloop, and an application without a framework, carried most of the whole servers that were
measured (`benchmarks/servers.py`).
"""

from __future__ import annotations

import gc
import socket

from understudy.http import many
from understudy.http.serve import Server, listen
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Target
from understudy.waitingroom.app import Gateway
from understudy.waitingroom.desk import Desk, Options
from understudy.waitingroom.metrics import Metrics
from understudy.waitingroom.room import Room
from understudy.waitingroom.tokens import Signer

_BACKLOG = 4096
DEADLINE_S = 2.0


def bound(host: str, port: int, how: str) -> socket.socket:
    """Return a socket that listens; `how` says how another port is chosen."""
    return listen(host, port, how, backlog=_BACKLOG)


def gateway(
    target: Target, signer: Signer, options: Options, *, replicas: int = 0, deadline_s: float = DEADLINE_S
) -> Gateway:
    """Return the application in front of a server."""
    metrics = Metrics()
    room = Room(BatchedClient(target), replicas=replicas, deadline_s=deadline_s, observe=metrics.observe)
    return Gateway(Desk(room, signer, options, metrics))


def server(app: Gateway, listening: socket.socket, *, connections: int) -> Server:
    """Return a server of a gateway, for so many connections."""
    return Server(
        app, listening, when_stopping=app.desk.hub.stop, protocol=many.guarded(connections), loop="uvloop",
        idle_s=many.IDLE_S, backlog=_BACKLOG, sweep=many.sweep,
    )  # fmt: skip


def serve_until_ended(
    target: Target, listening: socket.socket, signer: Signer, options: Options, *,
    replicas: int, deadline_s: float, connections: int,
) -> None:  # fmt: skip
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        UsageError: the server cannot be spoken to as it is configured.
    """
    app = gateway(target, signer, options, replicas=replicas, deadline_s=deadline_s)
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it again and again holds up requests for tens of ms
    try:
        server(app, listening, connections=connections).serve_until_ended()
    except SystemExit:
        if app.failed is None:
            raise
        raise app.failed from None
