"""`understudy waitingroom`: serve the queue and seat API."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy import installed
from understudy.cli.options import settings_from, target_of
from understudy.errors import UsageError

if TYPE_CHECKING:
    from understudy.settings import Settings
    from understudy.valkey.target import Target
    from understudy.waitingroom.tokens import Signer

_HOW_PORT = "Choose another with --port or WAITINGROOM_PORT; 0 takes any that is free."
_HOW_SECRET = "Administration is off. Start it with WAITINGROOM_SECRET=$(openssl rand -hex 16) or --secret-file FILE."  # noqa: S105
_LEAST_DEADLINE_S, _MOST_DEADLINE_S = 0.05, 60.0


def command(
    host: Annotated[str, typer.Option(help="Which address to listen on; 0.0.0.0 is all of them.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Where to listen (WAITINGROOM_PORT; 8080); 0: any.")
    ] = None,
    secret_file: Annotated[Path | None, typer.Option(help="Whoever administers must give the secret in it.")] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(help="PEM file of the key of entry tokens (WAITINGROOM_SIGNING_KEY); made if missing."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=0, max=10, help="Answer once so many replicas know of it (WAITINGROOM_REPLICAS).")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=_LEAST_DEADLINE_S, max=_MOST_DEADLINE_S, help="Seconds that a request may take.")
    ] = 2.0,
    rate_per_address: Annotated[
        float, typer.Option(min=0, help="Requests a second from one address, twice as many at once; 0: no limit.")
    ] = 50.0,
    behind_proxy: Annotated[
        int, typer.Option(min=0, max=10, help="So many proxies of ours add to X-Forwarded-For whom they see.")
    ] = 0,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Pages of this origin may use the public API; repeatable.")
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Write a line for each request.")] = False,
) -> None:
    """Serve a waiting room: a line before a sale with exact places, admission at a rate, entry tokens, and seats.

    The server is REDIS_NODES or REDIS_URL; without them the running lab, or 127.0.0.1:7001. It may be dead: the
    gateway starts, and answers 503 until it is there. Run as many gateways as you like, with one signing key.

    \b
    Examples:
      WAITINGROOM_SECRET=… understudy waitingroom --signing-key tokens.pem
      understudy waitingroom --host 0.0.0.0 --behind-proxy 1 --replicas 1 --secret-file secret.txt
    """
    try:
        from understudy.http import guard, many, serve
        from understudy.waitingroom.desk import Options
        from understudy.waitingroom.serve import bound, serve_until_ended
    except ImportError as error:
        raise installed.missing_extra("serving the waiting room", error, "waitingroom") from error

    settings = settings_from(waitingroom_port=port, waitingroom_signing_key=signing_key, waitingroom_replicas=replicas)
    secret = guard.read_token(secret_file, "secret") if secret_file else None
    if secret is None and settings.waitingroom_secret:
        secret = settings.waitingroom_secret.get_secret_value()
    if secret is not None:
        guard.check_token(secret, host, _HOW_SECRET, "secret")
    connections = many.raise_file_limit()
    options = Options(
        secret, rate_per_address, behind_proxy, frozenset(map(_origin, allow_origin or ())), access_log,
        most_streams=connections * 9 // 10,
    )  # fmt: skip
    target = target_of(settings)
    _refuse_proxy(target, settings.waitingroom_replicas)
    signer = _signer(settings)
    with bound(host, settings.waitingroom_port, _HOW_PORT) as listening:
        serve.log_to_stderr()
        print(_told(settings, target, serve.url_of(listening), options.secret is not None), file=sys.stderr)
        serve_until_ended(
            target, listening, signer, options,
            replicas=settings.waitingroom_replicas, deadline_s=deadline, connections=connections,
        )  # fmt: skip


def _refuse_proxy(target: Target, replicas: int) -> None:
    from understudy.valkey.target import Mode

    if replicas and target.mode is Mode.ENTERPRISE:
        raise UsageError(
            f"having {replicas} replica{'s' if replicas > 1 else ''} acknowledge each write",
            "a proxy (REDIS_MODE=enterprise) does not pass WAIT on", "Start it with --replicas 0.",
        )  # fmt: skip


def _signer(settings: Settings) -> Signer:
    from understudy.waitingroom.tokens import Signer, key_from, passing_key

    if settings.waitingroom_signing_key:
        return Signer(key_from(settings.waitingroom_signing_key))
    print(
        "Warning: no --signing-key: entry tokens end with this process, and no other gateway knows them.",
        file=sys.stderr,
    )
    return Signer(passing_key())


def _told(settings: Settings, target: Target, url: str, administered: bool) -> str:
    replicas = settings.waitingroom_replicas
    kept = f"answers wait for {replicas} replica{'s' if replicas > 1 else ''}" if replicas else "replicas follow later"
    pages = f"The operator's page is {url} and the page that people wait on {url}wait/EVENT"
    lines = [f"Waiting room on {target}; {kept}. Listening on {url} Ctrl-C ends it.", pages]
    return "\n".join(lines if administered else [*lines, _HOW_SECRET])


def _origin(given: str) -> str:
    from urllib.parse import urlsplit

    split = urlsplit(given)
    if split.scheme not in ("http", "https") or not split.netloc or split.path not in ("", "/") or split.query:
        raise UsageError(f"reading --allow-origin {given}", "it is no origin", "For example https://shop.example.com.")
    return f"{split.scheme}://{split.netloc.lower()}"
