"""Who may ask: a token for everyone, and on loopback no page of another site.

A page from elsewhere can send requests to 127.0.0.1, and with a name of its own that resolves to 127.0.0.1 (DNS
rebinding) read the answers. The first is told by `Sec-Fetch-Site` and `Origin`, the second by `Host`.
Source: Fetch Metadata (W3C), RFC 6454, RFC 6750.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from understudy.errors import NotAuthorisedError, RefusedError, UnreachableError, UsageError
from understudy.http.problem import problem

LEAST_TOKEN_LENGTH = 16
_NO_HOST = re.compile(r"[@/\\?#\s]")  # never in a host and port; what stands before an @ is read past
_OUR_OWN = frozenset({"same-origin", "none"})  # "none": typed into the address bar, or a bookmark


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(path: Path, what: str = "token") -> str:
    """Return the first line of a file.

    Raises:
        UnreachableError: it cannot be read.
    """
    try:
        return path.read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        hint = f"Make one: (umask 077; openssl rand -hex 16 > {path})"
        raise UnreachableError(f"reading the {what} from {path}", why or str(error), hint) from error


def check_token(token: str | None, host: str, how: str, what: str = "token") -> None:
    """Refuse to listen for others without a token that cannot be guessed; `how` says how to give one.

    Raises:
        UsageError: it is missing, too short, or cannot stand in a header.
    """
    doing = f"listening on {host}"
    if token is None:
        if not is_loopback(host):
            raise UsageError(doing, f"others can reach that, and there is no {what}", how)
        return
    if len(token) < LEAST_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            doing, f"the {what} must have {LEAST_TOKEN_LENGTH} or more printable ASCII characters, without spaces",
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe())'",
        )  # fmt: skip


class Guard:
    """Lets a request through, or answers 401 or 403; `open_paths` need no token, for they hold no data."""

    def __init__(self, app: ASGIApp, *, token: str | None, loopback: bool, open_paths: Collection[str] = ()) -> None:
        self._app = app
        self._token = token.encode() if token else None
        self._loopback = loopback
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_open = scope["path"] in self._open_paths
        if self._loopback and (why := _foreign(headers, is_open)):
            refusal = RefusedError("answering a browser", why, "Open the page of the probe itself, by its own address.")
            await problem(refusal, HTTPStatus.FORBIDDEN)(scope, receive, send)
        elif self._token and not is_open and not self._known(headers.get("authorization", "")):
            stranger = NotAuthorisedError("answering", "the token is missing or wrong", "Authorization: Bearer TOKEN")
            challenge = {"WWW-Authenticate": "Bearer"}
            await problem(stranger, HTTPStatus.UNAUTHORIZED, challenge)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _known(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        # compared in both cases: how long it takes says nothing
        same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token or b"")
        return same and scheme.lower() == "bearer"


def _foreign(headers: Headers, is_open: bool) -> str:
    """Return why a request must come from a page of another site; empty where nothing says so."""
    host = _hostname(headers.get("host", ""))
    if not is_loopback(host):  # any of its addresses: rebinding needs a name, and the only one is localhost
        return f"the Host header names {host!r}, not this machine"[:200]
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return "its Origin is another one"
    site = headers.get("sec-fetch-site", "none")
    if site not in _OUR_OWN and not (is_open and headers.get("sec-fetch-mode") == "navigate"):
        return f"Sec-Fetch-Site is {site}"[:200]
    return ""


def _hostname(host: str) -> str:
    try:
        return host if _NO_HOST.search(host) else urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
