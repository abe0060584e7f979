"""What one call really did on the wire: without this, an error of a client that retries says nothing of its effects.

A call that ends with "connection refused" may have been sent a first time and never answered. So the two methods of
the library through which every command goes are watched, in the process that drives it and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

from understudy.drill.client import Trace
from understudy.drill.operation import Outcome

# error replies after which a command cannot have had an effect; others (a proxy's "upstream failure") prove nothing
_REFUSALS = {
    "MovedError", "AskError", "TryAgainError", "ClusterDownError", "MasterDownError", "ReadOnlyError",
    "OutOfMemoryError", "BusyLoadingError", "NoPermissionError", "AuthenticationError",
    "AuthenticationWrongNumberOfArgsError", "MaxClientsError",
}  # fmt: skip
_REFUSING_WORDS = ("NOREPLICAS", "MISCONF", "WRONGTYPE", "OOM", "BUSY ", "NOAUTH", "NOPERM", "READONLY", "LOADING")


class Wiretap:
    """The eye on one library's connections; one for each library and process."""

    _made: ClassVar[dict[type[Any], Wiretap]] = {}

    def __init__(self, connection: type[Any], exceptions: ModuleType) -> None:
        self._now = threading.local()
        self._answers = (exceptions.ResponseError, exceptions.BusyLoadingError, exceptions.AuthenticationError)
        self._watch_sending(connection)
        self._watch_reading(connection)

    @classmethod
    def of(cls, connection: type[Any], exceptions: ModuleType) -> Wiretap:
        """Return the eye on this class of connections."""
        if connection not in cls._made:
            cls._made[connection] = cls(connection, exceptions)
        return cls._made[connection]

    @contextmanager
    def __call__(self, key: str) -> Iterator[Trace]:
        """Watch one call; the library's exception ends here."""
        trace = self._now.trace = Trace(key.encode())
        try:
            yield trace
        except Exception as error:  # noqa: BLE001 - whatever a library raises is an outcome
            trace.error, trace.text = type(error).__name__, str(error)
            trace.outcome = Outcome.INDETERMINATE if trace.unanswered else Outcome.FAILED
        finally:
            self._now.trace = None

    def _watch_sending(self, connection: type[Any]) -> None:
        send = connection.send_packed_command

        def send_packed_command(one: Any, command: Any, check_health: bool = True) -> Any:
            trace: Trace | None = getattr(self._now, "trace", None)
            if trace is None or not _mentions(command, trace.key):
                return send(one, command, check_health)
            # what the library does first, so that its failures are told apart from ours having been sent
            if not one._sock:
                getattr(one, "connect_check_health", _connect(one))(check_health=False)
            if check_health:
                one.check_health()
            trace.attempts += 1
            trace.unanswered += 1
            one.understudy_trace = trace
            return send(one, command, False)

        connection.send_packed_command = send_packed_command

    def _watch_reading(self, connection: type[Any]) -> None:
        read = connection.read_response

        def read_response(one: Any, *args: Any, **keywords: Any) -> Any:
            trace: Trace | None = one.__dict__.pop("understudy_trace", None)
            if trace is None:
                return read(one, *args, **keywords)
            try:
                reply = read(one, *args, **keywords)
            except self._answers as error:
                _refused(trace, error)
                raise
            trace.unanswered -= 1
            return reply

        connection.read_response = read_response


def _connect(connection: Any) -> Any:
    return lambda check_health: connection.connect()  # noqa: ARG005 - older versions do not ask


def _mentions(command: Any, key: bytes) -> bool:
    return key in command if isinstance(command, bytes) else any(key in piece for piece in command)


def _refused(trace: Trace, error: Exception) -> None:
    name = type(error).__name__
    trace.moved += name == "MovedError"
    trace.asked += name == "AskError"
    if name in _REFUSALS or str(error).startswith(_REFUSING_WORDS):
        trace.unanswered -= 1
