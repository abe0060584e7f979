"""`understudy probe`: serve the REST probe and its dashboard."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy import installed
from understudy.cli.options import settings_from, target_of

if TYPE_CHECKING:
    from understudy.probe.connection import Connection
    from understudy.settings import Settings

_HOW_TOKEN = "Set PROBE_TOKEN or --token-file; or leave --host out, and only this machine reaches it."  # noqa: S105
_HOW_PORT = "Choose another with --port or PORT; 0 takes any that is free."


class ClientName(StrEnum):
    """Whose settings the client under test has."""

    RECOMMENDED = "recommended"
    DEFAULTS = "defaults"


def command(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Where to listen (PORT; 3000); 0: any.")] = None,
    host: Annotated[str, typer.Option(help="Which address to listen on; others than loopback need a token.")] = (
        "127.0.0.1"
    ),
    client: Annotated[ClientName, typer.Option(help="The client to test: our settings, or redis-py's own.")] = (
        ClientName.RECOMMENDED
    ),
    token_file: Annotated[Path | None, typer.Option(help="Whoever asks must give the token in it.")] = None,
    health_check_interval: Annotated[
        int | None, typer.Option(min=100, max=86_400_000, help="ms between checks (HEALTH_CHECK_INTERVAL; 30000).")
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Write a line for each request.")] = True,
) -> None:
    """Serve a REST probe and a dashboard: how one client sees the stack, right now and during a failover.

    The server is REDIS_NODES or REDIS_URL, or Azure's with PROFILE=DEVE, STAG or PROD; without them the running
    lab, or 127.0.0.1:7001. It may be dead: the probe starts, and says so.

    \b
    Examples:
      understudy probe
      understudy probe --client defaults --port 3001
      curl 'http://127.0.0.1:3000/redis/failover-recovery?duration=30&interval=2'
    """
    try:
        from understudy.http import guard, serve
        from understudy.http.stream import Streams
        from understudy.probe.app import MOST_STREAMS, Options, make_app
    except ImportError as error:
        raise installed.missing_extra("serving the probe", error, "probe") from error

    settings = settings_from(probe_port=port, probe_health_check_interval=health_check_interval)
    token = guard.read_token(token_file) if token_file else None
    if token is None and settings.probe_token:
        token = settings.probe_token.get_secret_value()
    guard.check_token(token, host, _HOW_TOKEN)
    connection = _connection(settings, client)
    options = Options(token, guard.is_loopback(host), settings.probe_health_check_interval, access_log)
    streams = Streams(MOST_STREAMS, "the probe is ending")
    app = make_app(connection, options, streams)
    with serve.listen(host, settings.probe_port, _HOW_PORT) as listening:
        serve.log_to_stderr()
        reached = f"{connection.target} ({connection.mode}, {connection.kind} client)"
        print(f"Probing {reached}. Listening on {serve.url_of(listening)} Ctrl-C ends it.", file=sys.stderr)
        serve.Server(app, listening, when_stopping=streams.stop).serve_until_ended()


def _connection(settings: Settings, client: ClientName) -> Connection:
    from understudy.probe.connection import ClientKind, Connection
    from understudy.valkey import configured, entra

    target = configured.azure_target_from(settings) or target_of(settings)
    credentials = entra.credentials_for(target) if settings.redis_entra_id else None
    return Connection(target, ClientKind(client), credentials)
