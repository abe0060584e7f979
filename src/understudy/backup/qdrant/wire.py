"""One Qdrant server over HTTP: requests, and refusals as our errors. The API key stands in a header, nowhere else."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from understudy import installed
from understudy.errors import (
    IntegrityError,
    NotAuthorisedError,
    NotFoundError,
    ServerSaidError,
    UnderstudyError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    import httpx

_CONNECT_S = 10.0
ANSWER_S = 60.0  # an ordinary request, or the pause between two blocks of a download
LONG_S = 4 * 3600.0  # making a snapshot, and recovering from one: no answer comes before it is done
_MOST_TEXT = 300  # of what a server says, in an error
_REUSED_WITHIN_S = 1.0  # a server closes a quiet connection after some seconds, and a request then would be lost
_DEAD_AFTER_S = 60  # a firewall that forgot a quiet connection is noticed by TCP keep-alive
_ROOM_HINT = (
    "Free some space on the Qdrant server: a snapshot needs about the collection's size, twice while it is made."
)
_NOT_QDRANT = (
    "Check QDRANT_URL: it has to lead to Qdrant's REST port (6333 by default), without a login page before it."
)


class Wire:
    """Requests to one server.

    Raises:
        UsageError: the URL or the key cannot be used, or the extra `qdrant` is not installed.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        try:
            import httpx  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise installed.missing_extra("speaking to Qdrant", error, "qdrant") from error
        self._httpx = httpx
        self._api_key = (api_key or "").strip()
        parsed = self._parsed(url)
        self.url = shown_url(parsed)
        self._client = httpx.Client(
            base_url=parsed,
            headers=self._headers(),
            timeout=httpx.Timeout(ANSWER_S, connect=_CONNECT_S),
            transport=self._transport(parsed),
            follow_redirects=False,  # the key goes to nobody who was not named
        )

    def _parsed(self, url: str) -> httpx.URL:
        try:
            parsed = self._httpx.URL(url if "://" in url else f"http://{url}")
            if parsed.scheme not in {"http", "https"} or not parsed.host:
                raise ValueError("it is not like http://host:6333")
            if parsed.query or parsed.fragment:
                raise ValueError("nothing may stand behind the path")
            parsed = parsed.copy_with(path=parsed.path.rstrip("/") or "/")
        except (self._httpx.InvalidURL, ValueError) as error:  # what was given may hold a secret: it is not repeated
            raise UsageError(
                "reading QDRANT_URL", str(error), "Write http://host:6333; an API key belongs into QDRANT_API_KEY."
            ) from None
        return parsed

    def _headers(self) -> dict[str, str]:
        if not self._api_key:
            return {}
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise UsageError(
                "reading QDRANT_API_KEY", "it holds characters that cannot stand in an HTTP header", "Check the key."
            )
        return {"api-key": self._api_key}

    def _transport(self, url: httpx.URL) -> httpx.HTTPTransport:
        """Return a transport with TCP keep-alive, through the proxy that the environment names, if any."""
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        names = [name for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL") if hasattr(socket, name)]
        options += [(socket.IPPROTO_TCP, getattr(socket, name), _DEAD_AFTER_S) for name in names]
        proxy = None if urllib.request.proxy_bypass(url.host) else urllib.request.getproxies().get(url.scheme)
        self._proxied = bool(proxy)
        try:
            return self._httpx.HTTPTransport(
                verify=url.scheme == "https",
                proxy=proxy,
                limits=self._httpx.Limits(keepalive_expiry=_REUSED_WITHIN_S),
                socket_options=options,
            )
        except (OSError, ssl.SSLError, ValueError, ImportError) as error:
            place = os.environ.get("SSL_CERT_FILE")
            raise UsageError(
                f"preparing for {self.url}",
                f"{error}",
                f"Check SSL_CERT_FILE ({place})." if place else "Check HTTPS_PROXY and HTTP_PROXY.",
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        files: Any = None,
        read_s: float | None = None,
    ) -> Any:
        """Send one request and return the `result` of its answer.

        Raises:
            UnreachableError: no answer, or "not now".
            NotAuthorisedError: the key was refused.
            NotFoundError: there is no such thing.
            IntegrityError: the server says that a checksum does not match.
            ServerSaidError: any other refusal, or an answer that is not Qdrant's.
        """
        timeout = self._httpx.Timeout(ANSWER_S, connect=_CONNECT_S, read=read_s or ANSWER_S)
        with self._told(doing):
            reply = self._client.request(method, path, params=params, json=body, files=files, timeout=timeout)
        if not reply.is_success:
            raise self._refusal(doing, reply)
        try:
            document = reply.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            kind = reply.headers.get("content-type", "no content type").partition(";")[0]
            raise ServerSaidError(doing, f"{self.url} answered with {kind[:60]}, which is not Qdrant's", _NOT_QDRANT)
        return document.get("result", document)  # `GET /` has no envelope

    @contextlib.contextmanager
    def stream(self, path: str, doing: str) -> Iterator[httpx.Response]:
        """Open a download; what breaks while it is read becomes our error too."""
        # an encoding would cost the server time, and what arrives is compared with the checksum as it is
        with self._told(doing), self._client.stream("GET", path, headers={"accept-encoding": "identity"}) as reply:
            if not reply.is_success:
                reply.read()
                raise self._refusal(doing, reply)
            yield reply

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn what httpx raises into our errors."""
        try:
            yield
        except self._httpx.TimeoutException as error:
            what = "connected" if isinstance(error, self._httpx.ConnectTimeout) else "answered"
            raise UnreachableError(
                doing, f"{self.url} has not {what} in time", "Check that Qdrant runs and is not overloaded (its log)."
            ) from error
        except self._httpx.HTTPError as error:
            text = str(error) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in text:
                hint = "For a certificate of your own authority, name its file in SSL_CERT_FILE."
            else:
                hint = "Check that Qdrant runs there, and QDRANT_URL (its REST port is 6333 by default)."
            if self._proxied:
                hint = f"A proxy is in between (HTTP_PROXY or HTTPS_PROXY; NO_PROXY names who needs none). {hint}"
            raise UnreachableError(doing, f"{self.url}: {self._clean(text)}", hint) from error

    def _refusal(self, doing: str, reply: httpx.Response) -> UnderstudyError:
        """Return the error for an answer that is none."""
        status, text = reply.status_code, self._said(reply)
        said = f"{self.url} says {status}: {text}" if text else f"{self.url} says {status}"
        lower = text.lower()
        if reply.is_redirect:
            goal = self._clean(reply.headers.get("location", "").partition("?")[0])
            return ServerSaidError(doing, f"{self.url} redirects to {goal}", "Name the address itself in QDRANT_URL.")
        if status in {401, 403}:
            hint = "Check QDRANT_API_KEY: snapshots need a key that may manage the collections, not a read-only one."
            return NotAuthorisedError(doing, said, hint if self._api_key else "Set QDRANT_API_KEY.")
        if status == 404:
            return NotFoundError(doing, said, "Check the collection's name and QDRANT_URL.")
        if "checksum" in lower and "mismatch" in lower:
            return IntegrityError(
                doing, said, "Something on the way changed the file. Try again, then use another set."
            )
        if status == 507 or any(words in lower for words in ("no space left", "disk", "out of space", "storage full")):
            return ServerSaidError(doing, said, _ROOM_HINT)
        if status == 413:
            return ServerSaidError(doing, said, "Raise the largest body that the proxy before Qdrant lets through.")
        if status in {408, 429, 502, 503, 504}:
            hint = (
                "Try again. If a proxy stands before Qdrant, name Qdrant's own address, or let the proxy wait longer."
            )
            return UnreachableError(doing, said, hint)
        return ServerSaidError(doing, said, "Qdrant's log says more.")

    def _said(self, reply: httpx.Response) -> str:
        """Return the server's own words, short and without our key."""
        try:
            document = reply.json()
            text = document["status"]["error"]
        except (ValueError, KeyError, TypeError):
            text = "" if "html" in reply.headers.get("content-type", "") else reply.text
        return self._clean(str(text))

    def _clean(self, text: str) -> str:
        text = " ".join(text.split())
        return (text.replace(self._api_key, "…") if self._api_key else text)[:_MOST_TEXT]


def shown_url(url: httpx.URL) -> str:
    """Return a URL as it may be shown: without a user and a password."""
    return str(url.copy_with(userinfo=b"")).rstrip("/")
