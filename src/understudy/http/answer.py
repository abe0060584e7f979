"""A request and an answer with nothing around them: what the hot routes of a gateway need, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope, Send

from understudy.errors import UnderstudyError

JSON = b"application/json"
RawHeaders = tuple[tuple[bytes, bytes], ...]
# what no answer of a programming interface is to be: kept by a cache, or guessed to be something else
_ALWAYS: RawHeaders = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class TooLargeError(UnderstudyError):
    """The body has more bytes than we take."""


class HungUpError(Exception):
    """Who asked is gone: nobody reads an answer."""


class Request:
    """One request. `name` is the part of the path that differs, `address` whoever asks, `body` its bytes."""

    __slots__ = ("address", "body", "headers", "name", "scope")

    def __init__(self, scope: Scope, name: str, address: str) -> None:
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.name = name
        self.address = address
        self.body = b""

    def header(self, name: bytes) -> str:
        """Return a header's value, the first where there are several; empty where there is none."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return ""

    def bearer(self) -> str:
        """Return the token of `Authorization: Bearer TOKEN`; empty where there is none."""
        scheme, _, token = self.header(b"authorization").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def query(self, name: str) -> str | None:
        """Return a parameter of the query, the first where there are several; None where there is none."""
        raw = self.scope["query_string"].decode("latin-1")
        return next((value for key, value in parse_qsl(raw, True) if key == name), None) if raw else None


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body in one piece, and headers beside those that each answer has."""

    status: int
    body: bytes = b""
    media_type: bytes = JSON
    headers: RawHeaders = ()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        raw = [(b"content-length", b"%d" % len(self.body))]
        if self.body:
            raw.append((b"content-type", self.media_type))
        raw += self.headers
        if not any(name == b"cache-control" for name, _ in self.headers):
            raw += _ALWAYS
        if self.status == 204:
            del raw[0]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": self.body})


def as_json(data: object, status: int = 200, headers: RawHeaders = ()) -> Answer:
    """Return an answer with data as JSON; dataclasses in it become objects."""
    return Answer(status, orjson.dumps(data), JSON, headers)


async def read_body(request: Request, receive: Receive, most: int) -> bytes:
    """Return the body, of which no more than `most` bytes are ever held.

    Raises:
        TooLargeError: it has more, or says so.
        HungUpError: whoever sends it has gone.
    """
    announced = request.header(b"content-length")
    if announced and int(announced) > most:  # the parser lets digits pass only
        raise _too_large(most)
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HungUpError
        more: bytes = message["body"]
        body = body + more if body else more
        if len(body) > most:
            raise _too_large(most)
        if not message.get("more_body"):
            return body


def _too_large(most: int) -> TooLargeError:
    return TooLargeError("reading the body", f"it has more than {most} bytes")
