"""One endpoint: what serves it, and all that the OpenAPI document says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from understudy.http.answer import Request
from understudy.waitingroom.bodies import MOST_BODY_BYTES

if TYPE_CHECKING:
    from understudy.waitingroom.desk import Desk

Access = Literal["anyone", "ticket", "token", "secret"]


class Answering(Protocol):
    """What a route returns: it knows its status, and sends itself."""

    @property
    def status(self) -> int:
        """The status that is counted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None:
        """Send it."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query, or a header."""

    name: str
    where: Literal["query", "header"]
    pattern: str
    text: str
    required: bool = False


@dataclass(frozen=True)
class Route:
    """An endpoint. `{event}` in its path is any text without a slash; `codes` are those of its problems."""

    method: str
    path: str
    handle: Callable[[Desk, Request], Awaitable[Answering]]
    summary: str
    answers: Mapping[int, type[BaseModel] | str | None]  # str: a media type that is no JSON
    access: Access = "anyone"
    codes: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    most_bytes: int = MOST_BODY_BYTES
    parameters: tuple[Parameter, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # that an answer may have
    example: Mapping[str, Any] | None = None
    limited: bool = True  # by the rate of an address
    documented: bool = True
